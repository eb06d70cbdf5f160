"""HTML in which every text is escaped: markup is made by `tag` alone. Pure."""

from __future__ import annotations

import html
import re
from typing import TypeAlias

SECRETIVE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    r"\ud800-\udfff]"
)
"""Control characters, those that turn the direction of text, invisible ones, half surrogates."""
EMPTY = frozenset({"meta", "br", "line", "rect", "circle", "path", "polyline"})


class Markup(str):
    """Text that is HTML already. Only `tag` and `joined` make it."""

    __slots__ = ()


Child: TypeAlias = "Markup | str | int | float | None"


def escaped(text: str) -> str:
    """`text` as HTML shows it; what would hide or turn text is spelt out."""
    spelt = SECRETIVE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return html.escape(spelt, quote=True)


def joined(*children: Child) -> Markup:
    """Children after one another; texts and numbers are escaped, None is nothing."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else escaped(str(child))
            for child in children
            if child is not None
        )
    )


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """An element. `class_` is the attribute `class`, `stroke_width` is `stroke-width`."""
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    shown = "".join(
        f' {key}="{escaped(_short(value))}"' for key, value in named.items() if value is not None
    )
    if name in EMPTY and not children:
        return Markup(f"<{name}{shown}>" if name in ("meta", "br") else f"<{name}{shown}/>")
    return Markup(f"<{name}{shown}>{joined(*children)}</{name}>")


def _short(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
