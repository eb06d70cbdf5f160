"""Plain JSON: whether a value is it, and whether two values are the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_codeworld.records import Tolerance

MAX_DEPTH = 100
SHOWN_CHARS = 80
EXACT = "exact"
SET = "set"

Path: TypeAlias = "tuple[Path, str | int] | None"
"""Where a value sits: its container's path and its key there. Spelt out only when it is shown."""


def plain_problem(value: object) -> str | None:
    """Why `value` is not plain JSON that survives being stored, or None when it is.

    Refused: NaN, infinities, lone surrogates, keys that are no strings, other types, and nesting
    deeper than MAX_DEPTH (which is also how a value containing itself is caught).
    """
    waiting: list[tuple[object, Path, int]] = [(value, None, 0)]
    while waiting:
        found, path, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return f"it is nested deeper than {MAX_DEPTH} levels"
        if isinstance(found, dict):
            odd = [key for key in found if not isinstance(key, str) or not is_unicode(key)]
            if odd:
                return f"{spelt(path)} has the key {odd[0]!r}, which is not a JSON string"
            waiting += [(child, (path, key), depth + 1) for key, child in found.items()]
        elif isinstance(found, list):
            waiting += [(child, (path, number), depth + 1) for number, child in enumerate(found)]
        else:
            problem = _scalar_problem(found)
            if problem:
                return f"{spelt(path)} {problem}"
    return None


def _scalar_problem(value: object) -> str | None:
    if value is None or isinstance(value, (bool, int)):
        return None
    if isinstance(value, str):
        return None if is_unicode(value) else "holds half of a surrogate pair"
    if not isinstance(value, float):
        return f"is a {type(value).__name__}, which JSON does not have"
    return None if float("-inf") < value < float("inf") else f"is {value}, which JSON does not have"


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def difference(
    answer: Json,
    expected: Json,
    tolerance: Tolerance | None = None,
    *,
    comparison: str = EXACT,
) -> str | None:
    """Where and how `answer` first differs from `expected`, or None when they are the same.

    An int and a float of equal value are the same; true and 1 are not. With `tolerance` numbers
    may be that far apart; everything else must be equal. As a `set` two lists are the same when
    every member of one is in the other, whatever their order and repetition.
    """
    if comparison == SET and isinstance(answer, list) and isinstance(expected, list):
        return _set_difference(answer, expected, tolerance)
    waiting: list[tuple[Json, Json, Path]] = [(answer, expected, None)]
    while waiting:
        got, wanted, path = waiting.pop()
        if isinstance(wanted, dict) and isinstance(got, dict):
            if got.keys() != wanted.keys():
                odd = min(got.keys() ^ wanted.keys())
                lack = "lacks" if odd in wanted else "must not have"
                return f"{spelt(path)} {lack} the key {odd!r}"
            waiting += [(got[key], wanted[key], (path, key)) for key in reversed(wanted)]
        elif isinstance(wanted, list) and isinstance(got, list):
            if len(got) != len(wanted):
                return f"{spelt(path)} must have {len(wanted)} entries, but has {len(got)}"
            waiting += [(got[n], wanted[n], (path, n)) for n in reversed(range(len(wanted)))]
        elif not _same_scalar(got, wanted, tolerance):
            return f"{spelt(path)} must be {shown(wanted)}, but is {shown(got)}"
    return None


def _set_difference(
    answer: Sequence[Json], expected: Sequence[Json], tolerance: Tolerance | None
) -> str | None:
    for what, members, others in (("lacks", expected, answer), ("must not have", answer, expected)):
        known = {_plain_key(other) for other in others}
        for member in members:
            if _plain_key(member) in known:
                continue
            if all(difference(member, other, tolerance) for other in others):
                return f"answer {what} the member {shown(member)}"
    return None


def _plain_key(value: Json) -> str:
    """The same text for the same value: most members are found by it, the rest by comparing."""
    return json.dumps(value, sort_keys=True)


def _same_scalar(got: Json, wanted: Json, tolerance: Tolerance | None) -> bool:
    if not (is_number(got) and is_number(wanted)):
        return type(got) is type(wanted) and bool(got == wanted)
    if got == wanted:
        return True
    return tolerance is not None and _near(got, wanted, tolerance)


def _near(got: float, wanted: float, tolerance: Tolerance) -> bool:
    try:
        return abs(got - wanted) <= max(tolerance.absolute, tolerance.relative * abs(wanted))
    except OverflowError:  # integers beyond the range of floats
        exact = abs(Fraction(got) - Fraction(wanted))
        allowed = Fraction(tolerance.relative) * abs(Fraction(wanted))
        return exact <= max(Fraction(tolerance.absolute), allowed)


def is_number(value: Json) -> bool:
    """Whether `value` is a JSON number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(value: Json) -> str:
    """`value` in a message: its start, and how long it is when that is not all."""
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python prints
        return "a very long integer"
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}… ({len(text)} characters)"


def spelt(path: Path) -> str:
    """`path` as people write it: `answer[3]['x']`."""
    parts: list[str] = []
    while path is not None:
        path, key = path
        parts.append(f"[{key!r}]")
    return "answer" + "".join(reversed(parts))
