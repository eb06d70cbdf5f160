"""What a command shows: colour on a terminal, aligned text in a pipe, or JSON (rich's door).

Nothing is ever cut off: a terminal folds long cells, a pipe keeps them on one line.
"""

from __future__ import annotations

import json
import re
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from rich.console import Console
    from rich.table import Table

    from scillm.records import Json

STYLES: Mapping[str, str] = {
    "ok": "green",
    "same": "green",
    "failed": "bold red",
    "FAILED": "bold red",
    "different": "bold red",
    "missing": "bold red",
    "conflict": "bold yellow",
    "new": "bold yellow",
    "not run": "yellow",
    "disabled": "dim",
    "default": "dim",
    "(not set)": "dim",
}
"""A cell that is exactly one of these words is coloured on a terminal."""


def for_terminal() -> bool:
    """Whether stdout is a terminal, with a person in front of it."""
    return sys.stdout.isatty()


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their column names to stdout."""
    if for_terminal():
        _console(sys.stdout).print(_ruled(columns, rows))
    else:
        line(aligned(columns, rows))


def heading(text: str, *, style: str = "bold") -> None:
    """Print a line that stands above or below a table."""
    if for_terminal():
        _console(sys.stdout).print(visible(text), style=style, markup=False)
    else:
        line(visible(text))


def remark(title: str, text: str) -> None:
    """Print a paragraph on one thing in a table."""
    if not for_terminal():
        line(visible(f"{title}: {text}"))
        return
    from rich.padding import Padding
    from rich.text import Text

    console = _console(sys.stdout)
    console.print(Text(visible(title), "bold"))
    console.print(Padding(Text(visible(text, keep="\n")), (0, 0, 0, 2)))


def document(value: Json) -> None:
    """Print one JSON document to stdout."""
    line(json.dumps(value, indent=2, ensure_ascii=False))


def line(text: str = "", end: str = "\n") -> None:
    """Print text as it is and flush; control characters are made visible on a terminal."""
    shown = visible(text, keep="\n\t") if for_terminal() else text
    sys.stdout.write(shown + end)
    sys.stdout.flush()


def note(text: str, *, word: str = "Note", style: str = "bold yellow") -> None:
    """Say something beside the result, on stderr."""
    line = visible(text, keep="\n\t")
    sys.stdout.flush()
    if sys.stderr.isatty():
        from rich.text import Text

        _console(sys.stderr).print(Text.assemble((f"{word}: ", style), line))
    else:
        sys.stderr.write(f"{word}: {line}\n")


def error(text: str) -> None:
    """Say on stderr why the command failed."""
    note(text, word="Error", style="bold red")


def gap() -> None:
    """Separate two tables; on a terminal they have blank lines around them already."""
    if not for_terminal():
        line()


def busy(text: str) -> AbstractContextManager[Any]:
    """Show on a terminal that work goes on; the value has `update(text)`, in a pipe it is None."""
    if not (for_terminal() and sys.stderr.isatty()):
        return nullcontext()
    return _console(sys.stderr).status(visible(text))


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded with spaces, one line per row, control characters escaped."""
    from rich.cells import cell_len

    lines = [[visible(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def visible(text: str, *, keep: str = "") -> str:
    """`text` with control characters escaped: no plugin and no model may steer a terminal."""

    def shown(match: re.Match[str]) -> str:
        char = match[0]
        return char if char in keep else char.encode("unicode_escape").decode("ascii")

    return STEERING.sub(shown, text)


STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1 controls, line separators, bidirectional overrides, lone surrogates."""


def plain_json(value: Json) -> str:
    """A value on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _ruled(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    ruled = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        ruled.add_column(name, overflow="fold", style="cyan" if number == 0 else "")
    for row in rows:
        ruled.add_row(*(Text(visible(cell, keep="\n"), STYLES.get(cell, "")) for cell in row))
    return ruled


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    console = Console(file=stream, highlight=False)
    # rich drops only the colours under NO_COLOR; we drop every escape sequence.
    return Console(file=stream, highlight=False, color_system=None) if console.no_color else console
