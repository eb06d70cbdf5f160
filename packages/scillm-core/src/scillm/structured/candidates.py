"""Where JSON documents stand in a model's answer: past its thinking, in fences, or in prose."""

from __future__ import annotations

import json
import re
from bisect import bisect
from typing import TYPE_CHECKING

from attrs import field, frozen

from scillm.structured.strictjson import (
    MAX_DEPTH,
    WHITE,
    document_at,
    refusal,
    too_deep,
    whole_document,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm.records import Json

_TAG = re.compile(r"(?i)<(/?)(think|thinking|thought|reasoning)>")
_FENCE = re.compile(r"(?m)^[ \t>]*(`{3,}|~{3,})[ \t]*([\w.+-]*)")
_OPENER = re.compile(r"\{|\[(?:\s*\[)*")
# The first token after an opener tells an attempt at JSON from {x}, [see below] or [a](link).
_ATTEMPT = re.compile(
    r"""\{\s*(?:["'“}/]|[\w$-]{1,80}\s*:)
      | (?:\[\s*){1,200}(?:\{\s*(?:["'“}]|[\w$-]{1,80}\s*:)
        | ["'“\]] | -?[0-9] | (?:true|false|null|True|False|None|NaN|Infinity)\b )
      | (?:\[\s*){201}""",
    re.VERBOSE,
)
# An open string reaches to the end of the text, even behind a last backslash: a match that failed
# there would be tried again from every quote inside it.
_STRUCTURE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
MOST_BROKEN = 1000
"""Each costs a walk over the text."""
JSON_LABELS = frozenset({"json", "jsonc", "json5"})


@frozen(kw_only=True)
class Candidate:
    """A place in a text that holds a document (`complete`), or something that begins like one."""

    start: int
    end: int
    complete: bool
    closed: bool = True
    """Whether its brackets are balanced."""
    value: Json = None
    fenced: bool = False


@frozen(kw_only=True)
class Found:
    """What a search gave. `log` says what was passed over."""

    candidates: Sequence[Candidate]
    shown: str = field(repr=False)
    """The text with spaces where the thinking stood."""
    log: Sequence[str] = ()
    unfinished_thought: bool = False


@frozen(kw_only=True)
class _Block:
    label: str
    start: int
    end: int


@frozen(kw_only=True)
class _Thought:
    text: str = field(repr=False)
    unfinished: bool
    seen: bool


def find(text: str) -> Found:
    """Every candidate outside the thinking: those in JSON fences if there are any, else all.

    Offsets are those of `text`. Raises `JsonTextError` for a document that strict JSON refuses.
    """
    thought = _without_thinking(text)
    log = ["what stood in a think block was passed over"] if thought.seen else []
    shown = thought.text
    blocks = _json_blocks(shown)
    if blocks:
        found = [candidate for block in blocks for candidate in _in_block(shown, block)]
        log.append("the document was looked for in fenced blocks only")
    else:
        found = scan(shown)
    for candidate in found:
        here = slice(candidate.start, candidate.end)
        if shown[here] != text[here]:
            raise refusal("fragment", "A think tag stands inside the JSON document.", text[here])
    return Found(candidates=found, shown=shown, log=log, unfinished_thought=thought.unfinished)


def scan(text: str, *, offset: int = 0, fenced: bool = False) -> list[Candidate]:
    """Candidates at the top level of `text`, in order; `offset` is added to where they stand.

    Raises `JsonTextError` also of kind `too_large`, for too many attempts at JSON.
    """
    found: list[Candidate] = []
    position = broken = 0
    while match := _OPENER.search(text, position):
        position = match.start()
        if not _ATTEMPT.match(text, position):
            position = match.end()
            continue
        start = position + offset
        try:
            value, position = document_at(text, position)
        except json.JSONDecodeError:
            broken += 1
            # What stands inside a broken document is never taken for the document.
            position, closed = _extent(text, position)
            end = position + offset
            found.append(
                Candidate(start=start, end=end, complete=False, closed=closed, fenced=fenced)
            )
        else:
            end = position + offset
            found.append(Candidate(start=start, end=end, complete=True, value=value, fenced=fenced))
        if broken > MOST_BROKEN:
            raise refusal("too_large", f"The text has over {MOST_BROKEN} broken documents.", text)
    return found


def _extent(text: str, start: int) -> tuple[int, bool]:
    depth = 0
    for match in _STRUCTURE.finditer(text, start):
        mark = match.group()
        if mark in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise too_deep(text[start:])
        elif mark in "]}":
            depth -= 1
            if depth == 0:
                return match.end(), True
    return len(text), False


# -- thinking ----------------------------------------------------------------------------------


def _without_thinking(text: str) -> _Thought:
    # Thoughts become spaces, so that offsets stay those of the text.
    thoughts: list[tuple[int, int]] = []
    opened: int | None = None
    tags = _tags(text)
    for tag, in_broken in tags:
        if not tag.group(1):
            opened = tag.start() if opened is None else opened
            continue
        if opened is not None:
            thoughts.append((opened, tag.end()))
        elif in_broken:
            raise refusal("fragment", "A think tag ends inside a broken JSON document.", text)
        else:
            # The chat template wrote the opening tag, so all before the closing one is thought.
            thoughts = [(0, tag.end())]
        opened = None
    if opened is not None:
        thoughts.append((opened, len(text)))
    pieces: list[str] = []
    position = 0
    for start, end in thoughts:
        pieces += [text[position:start], " " * (end - start)]
        position = end
    shown = "".join([*pieces, text[position:]])
    return _Thought(text=shown, unfinished=opened is not None, seen=bool(tags))


def _tags(text: str) -> list[tuple[re.Match[str], bool]]:
    # The tags that are not data of a whole document; and whether they stand in a broken one.
    tags = list(_TAG.finditer(text))
    candidates = scan(text) if tags else []
    starts = [candidate.start for candidate in candidates]
    found = []
    for tag in tags:
        before = bisect(starts, tag.start())
        around = candidates[before - 1] if before else None
        inside = around is not None and tag.start() < around.end
        if not (inside and around is not None and around.complete):
            found.append((tag, inside))
    return found


# -- fences ------------------------------------------------------------------------------------


def _json_blocks(text: str) -> list[_Block]:
    blocks: list[_Block] = []
    position = 0
    while match := _FENCE.search(text, position):
        fence = match.group(1)
        # A fence at the end of a line is never inside a JSON string: those end on their line.
        closing = re.compile(rf"(?m)(?<![`~]){re.escape(fence)}[`~]*[ \t\r]*$").search(
            text, match.end()
        )
        end = closing.start() if closing else len(text)
        blocks.append(_Block(label=match.group(2).lower(), start=match.end(), end=end))
        position = closing.end() if closing else len(text)
    labelled = [block for block in blocks if block.label in JSON_LABELS]
    bare = [
        block
        for block in blocks
        if not block.label and text[block.start : block.end].lstrip()[:1] in ("{", "[")
    ]
    return labelled or bare


def _in_block(text: str, block: _Block) -> list[Candidate]:
    inside = text[block.start : block.end]
    start = block.start + len(inside) - len(inside.lstrip(WHITE))
    end = block.start + len(inside.rstrip(WHITE))
    try:
        value = whole_document(inside)
    except json.JSONDecodeError:
        return scan(inside, offset=block.start, fenced=True)
    return [Candidate(start=start, end=end, complete=True, value=value, fenced=True)]
