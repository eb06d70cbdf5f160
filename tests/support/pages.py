"""The fenced blocks of a Markdown page, and what is to be done with each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import frozen
from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NOT_RUN = re.compile(r"<!--\s*not run:(?P<reason>.*?)-->\s*", re.DOTALL)
OUTPUT = re.compile(r"<!--\s*output\s*-->\s*")
TITLE = re.compile(r"\btitle=(?P<title>\S+)")

SHELLS = frozenset({"bash", "sh", "shell"})
RUN = frozenset({"python", "console"}) | SHELLS
DATA = frozenset(
    {"text", "json", "toml", "yaml", "ini", "markdown", "diff", "lean", "http", "mermaid"}
)


@frozen(kw_only=True)
class Block:
    """One fenced block. `line` is that of the first line inside the fence, from 1."""

    language: str
    body: str
    line: int
    title: str | None = None
    """The block is the file of this name; it is written, not run."""
    not_run: str | None = None
    """Why the block is not run; empty when the page forgot to say."""
    output: bool = False
    """The block is what the block before it prints."""


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page in order, at any depth of lists and quotes."""
    before = ""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "fence" and token.map is not None:
            language, _, rest = token.info.strip().partition(" ")
            titled = TITLE.search(rest)
            not_run = NOT_RUN.fullmatch(before)
            yield Block(
                language=language,
                body=token.content,
                line=token.map[0] + 2,
                title=titled["title"] if titled else None,
                not_run=not_run["reason"].strip() if not_run else None,
                output=OUTPUT.fullmatch(before) is not None,
            )
        # The comment counts only when it stands right before the fence.
        before = token.content if token.type == "html_block" else ""


def files_of(page: Path) -> Mapping[str, str]:
    """The titled blocks of a page by file name; a file given twice is an error."""
    found: dict[str, str] = {}
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.title is not None:
            if block.title in found:
                raise ValueError(f"{page}:{block.line}: {block.title} is given twice.")
            found[block.title] = block.body
    return found


def problem(block: Block) -> str | None:
    """What keeps a block from being either run, or plainly data, or visibly not run."""
    if block.not_run is not None:
        return None if block.not_run else "`<!-- not run: … -->` must say why"
    if block.title is not None or block.language in RUN | DATA:
        return None
    return (
        f"language {block.language!r} is none of {', '.join(sorted(RUN | DATA))}; name one of "
        "them, or put `<!-- not run: reason -->` right before the fence"
    )


def fits(wanted: str, came: str) -> bool:
    """Whether `came` is the text `wanted`, in which `...` stands for anything."""
    shown = ".*?".join(re.escape(part) for part in wanted.strip().split("..."))
    return re.fullmatch(rf"\s*{shown}\s*", came, re.DOTALL) is not None
