"""The certain part of a JSON document whose text ended too early."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import frozen

from scillm.structured.strictjson import WHITE, whole_document

if TYPE_CHECKING:
    from scillm.records import Json

_TOKEN = re.compile(
    r"""[ \t\n\r]*(?:
        (?P<mark>[{}\[\]:,])
      | (?P<string>"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")
      | (?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?=[ \t\n\r,\]}])
      | (?P<word>true|false|null)
    )""",
    re.VERBOSE,
)
# What may be left when the text ends inside a token.
_TORN = re.compile(
    r"""[ \t\n\r]*(?:
        "(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*(?:\\(?:u[0-9a-fA-F]{0,3})?)?
      | -?[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]*)?
      | t|tr|tru|f|fa|fal|fals|n|nu|nul
    )?\Z""",
    re.VERBOSE,
)


@frozen(kw_only=True)
class Prefix:
    """What is certain of a document: the members and elements that were written to their end."""

    value: Json
    used: int
    """Characters of the text that `value` rests on."""


class _Reader:
    # Remembers the open containers, and where the last finished value ended.
    def __init__(self) -> None:
        self.closers: list[str] = []
        self.wants = "value"
        self.used = 0
        self.tail = ""

    def take(self, kind: str, token: str, end: int) -> bool:
        """Whether `token` may stand here."""
        if kind == "mark":
            return self._mark(token, end)
        if self.wants in ("key", "key or end") and kind == "string":
            self.wants = "colon"
            return True
        if self.wants not in ("value", "value or end"):
            return False
        self._finished(end)
        return True

    def may_begin(self, first: str) -> bool:
        """Whether a token whose first character is `first` may stand here; "" is none."""
        if not first or self.wants in ("value", "value or end"):
            return True
        return first == '"' and self.wants in ("key", "key or end")

    def _mark(self, mark: str, end: int) -> bool:
        if mark in "{[" and self.wants in ("value", "value or end"):
            self.closers.append("}" if mark == "{" else "]")
            self.wants = "key or end" if mark == "{" else "value or end"
        elif mark == ":" and self.wants == "colon":
            self.wants = "value"
        elif mark == "," and self.wants == "comma or end":
            self.wants = "key" if self.closers[-1] == "}" else "value"
        elif self.wants.endswith("end") and self.closers[-1] == mark:
            self.closers.pop()
            self._finished(end)
        else:
            return False
        return True

    def _finished(self, end: int) -> None:
        self.used = end
        self.tail = "".join(reversed(self.closers))
        self.wants = "comma or end"


def certain_part(text: str) -> Prefix | None:
    """The certain part of `text`, the beginning of a document; None if it is not such a thing.

    A number counts as finished when something follows it, so `[1, 23` gives `[1]`. `used` is 0
    where nothing was written to its end. Errors as `strictjson.document_at`.
    """
    reader = _Reader()
    position = 0
    while match := _TOKEN.match(text, position):
        kind = match.lastgroup or ""
        if not reader.take(kind, match.group(kind), match.end()) or not reader.closers:
            return None
        position = match.end()
    if not _TORN.match(text, position) or not reader.may_begin(text[position:].lstrip(WHITE)[:1]):
        return None
    if not reader.used:
        return Prefix(value=None, used=0)
    return Prefix(value=whole_document(text[: reader.used] + reader.tail), used=reader.used)
