"""Whether a repaired value says what its text says: every bracket, key and value, in order.

A repairer guesses. A guess stands only when it changed quotes, commas, comments, escapes and the
spelling of true, false and null, and nothing that carries data.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scillm.records import Json

Kind: TypeAlias = Literal["bracket", "key", "value"]
_CLOSING = {'"': '"', "'": "'", "`": "`", "“": "”", "\u2018": "\u2019"}
_SKIP = re.compile(r"(?:\s|//[^\n]*|\#[^\n]*|/\*.*?\*/)+", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.+-])")
_WORD = re.compile(r"[A-Za-z]+(?![\w.-])")
_AFTER_KEY = re.compile(r"\s*:")
_BAD_ESCAPE = re.compile(r"\\(?:[^\"'\\/bfnrtu]|u(?![0-9a-fA-F]{4})|\Z)")
# A quote that stands where a string may neither begin nor end.
_MISPLACED = re.compile(r"""(?<![\s{\[,:])["'](?!\s*[,:\]}])|["'](?=\s*[{\[])""")
MOST_REPAIR_CHARS = 200_000
MOST_REPAIR_WORK = 20_000_000
"""json-repair looks through the rest of the text for every misplaced quote; this is about 1 s."""
WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}


class Ungrounded(Exception):  # noqa: N818 - a finding, not a failure of the program
    """The value is not what the text says; `kind` and `reason` say how."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


def check_grounded(value: Json, source: str) -> None:
    """Raise `Ungrounded` unless `source` spells out `value`, all of it and nothing else."""
    bad = _BAD_ESCAPE.search(re.sub(r"\\\\", "__", source))
    if bad:
        raise Ungrounded("bad_escape", f"{bad.group()!r} is no JSON escape")
    walker = _Walker(source)
    for kind, token in _tokens(value):
        if kind == "bracket":
            walker.bracket(token)
        else:
            walker.scalar(kind, token)
    walker.end()


def check_repairable(source: str) -> None:
    """Raise `Ungrounded` for a text that would keep a repairer busy for seconds or more."""
    misplaced = sum(1 for _ in _MISPLACED.finditer(source))
    if len(source) > MOST_REPAIR_CHARS or misplaced * len(source) > MOST_REPAIR_WORK:
        raise Ungrounded(
            "too_large", f"it has {len(source):,} characters and {misplaced:,} misplaced quotes"
        )


def _tokens(value: Json) -> Iterator[tuple[Kind, Json]]:
    if isinstance(value, dict):
        yield "bracket", "{"
        for key, member in value.items():
            yield "key", key
            yield from _tokens(member)
        yield "bracket", "}"
    elif isinstance(value, list):
        yield "bracket", "["
        for item in value:
            yield from _tokens(item)
        yield "bracket", "]"
    else:
        yield "value", value


class _Walker:
    # Remembers how far the text is explained, whether a comma may come next, and whether a number
    # stands in front of it.
    def __init__(self, source: str) -> None:
        self.source = source
        self.position = 0
        self.may_have_comma = False
        self.after_number = False

    def bracket(self, wanted: str) -> None:
        self._punctuation()
        if self.source[self.position : self.position + 1] != wanted:
            raise self._stray(f"no {wanted} stands there")
        self.position += 1
        self.may_have_comma = wanted in "]}"
        self.after_number = False

    def scalar(self, kind: Kind, wanted: Json) -> None:
        self._punctuation()
        is_number = isinstance(wanted, (int, float)) and not isinstance(wanted, bool)
        if is_number and self.after_number and self.may_have_comma:
            raise self._stray("two numbers without a comma may be one")
        quoted = self.source[self.position : self.position + 1] in tuple(_CLOSING)
        end = self._quoted(wanted) if quoted else self._bare(kind, wanted)
        if end is None:
            raise self._stray(f"{wanted!r:.60} is not what stands there")
        if bool(_AFTER_KEY.match(self.source, end)) != (kind == "key"):
            raise self._stray("a key and a value are mixed up")
        self.position = end
        self.may_have_comma = kind == "value"
        self.after_number = is_number

    def end(self) -> None:
        self._punctuation()
        if self.position < len(self.source):
            raise self._stray("more stands there")

    def _punctuation(self) -> None:
        while True:
            skipped = _SKIP.match(self.source, self.position)
            here = self.source[self.position : self.position + 1]
            if skipped:
                self.position = skipped.end()
            elif here == "," and self.may_have_comma:
                self.may_have_comma = False
                self.position += 1
            elif here == ":":
                self.position += 1
            else:
                return

    def _quoted(self, wanted: Json) -> int | None:
        if not isinstance(wanted, str):
            return None
        opening, start = self.source[self.position], self.position + 1
        closing = _CLOSING[opening]
        if "\\" not in wanted and self.source.startswith(wanted + closing, start):
            end = start + len(wanted)
            # A quote of the same kind next to punctuation may have been the end of the string.
            torn = re.compile(rf"{closing}\s*[:,\[\]{{}}]|[:,\[\]{{}}]\s*{closing}")
            if torn.search(self.source, start, end) or may_be_two(wanted, closing):
                return None
            return end + 1
        body = _literal(self.source, start, closing)
        if body is None or unescaped(body) != wanted:
            return None
        return start + len(body) + 1

    def _bare(self, kind: Kind, wanted: Json) -> int | None:
        start = self.position
        if isinstance(wanted, str):
            # A bare word may be a key, but as a value (tru, undefined, NaN) it is anyone's guess.
            is_key = wanted and self.source.startswith(wanted, start) and kind == "key"
            return start + len(wanted) if is_key else None
        if wanted is None or isinstance(wanted, bool):
            word = _WORD.match(self.source, start)
            same = word and word.group() in WORDS and WORDS[word.group()] is wanted
            return word.end() if word and same else None
        digits = _NUMBER.match(self.source, start)
        return digits.end() if digits and _reads_as(digits.group(), wanted) else None

    def _stray(self, reason: str) -> Ungrounded:
        here = self.source[self.position : self.position + 30]
        return Ungrounded("dropped_members", f"at {here!r}, {reason}")


def may_be_two(inside: str, closing: str) -> bool:
    """Whether a string with bare quotes `closing` in it may be two, or one with a quote too many.

    `he said "hi" to me` and `5" wide` are one; `a" "b`, `a"` and ` "a` may be something else.
    """
    parts = inside.split(closing)
    if len(parts) == 1:
        return False
    if not all(re.search(r"\w", part) for part in parts):
        return True
    ends_word = [not part[-1:].isspace() for part in parts[:-1]]
    return ends_word[0] and not all(ends_word)


def _literal(source: str, start: int, closing: str) -> str | None:
    match = re.compile(rf"(?:[^\\{closing}]|\\.)*(?={closing})", re.DOTALL).match(source, start)
    return match.group() if match else None


def unescaped(body: str) -> str | None:
    """What the inside of a quoted string says; None where an escape is not JSON's."""
    plain = re.sub(r"\\(.)|\"", _plain_escape, body, flags=re.DOTALL)
    try:
        text: str = json.loads(f'"{plain}"', strict=False)
    except ValueError:
        return None
    return text


def _plain_escape(match: re.Match[str]) -> str:
    if match.group(1) == "'":
        return "'"
    return match.group() if match.group(1) else '\\"'


def _reads_as(digits: str, wanted: float) -> bool:
    unsigned = digits.lstrip("+-")
    if unsigned.isdecimal() != isinstance(wanted, int) or re.match(r"0[0-9]", unsigned):
        return False
    return (int(digits) if isinstance(wanted, int) else float(digits)) == wanted
