"""JSON decoding without leniency: no doubled keys, no NaN, nothing nested without end."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, NoReturn

from scillm.errors import JsonTextError

if TYPE_CHECKING:
    from scillm.records import Json

MAX_CHARS = 2_000_000
"""Longest text that is searched or repaired. Valid JSON may be longer."""
MAX_DEPTH = 200
"""Deepest nesting of arrays and objects."""
EXCERPT_CHARS = 200
WHITE = " \t\n\r"
_SCALAR = re.compile(r"""\s*(?:"(?:[^"\\]|\\.)*"|[-+.eE0-9]+|true|false|null|NaN|-?Infinity)\s*""")


def refusal(kind: str, message: str, text: str) -> JsonTextError:
    """The error for `text`, with an excerpt of it."""
    shown = text
    if len(text) > EXCERPT_CHARS:
        half = EXCERPT_CHARS // 2
        left_out = len(text) - 2 * half
        shown = f"{text[:half]} … ({left_out} characters) … {text[-half:]}"
    return JsonTextError(message, kind=kind, text=shown)


def _pairs(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        doubled = max(counts, key=lambda key: counts[key])
        raise JsonTextError(
            f"An object has the key {doubled!r} twice, so one value would be lost.",
            kind="duplicate_key",
        )
    return found


def _constant(name: str) -> NoReturn:
    raise JsonTextError(f"{name} is not a JSON number.", kind="not_finite")


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise JsonTextError(f"{digits[:40]} does not fit into a float.", kind="not_finite")
    return value


_decoder = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_number)


def document_at(text: str, start: int) -> tuple[Json, int]:
    """The document that begins at `start`, and where it ends.

    Raises `ValueError` (`JSONDecodeError`) where there is none, and `JsonTextError` of kind
    `duplicate_key`, `not_finite`, `too_deep` or `too_large` (a number) for one that is refused.
    """
    try:
        value, end = _decoder.raw_decode(text, start)
    except JsonTextError as error:
        raise refusal(error.kind, error.message, text[start:]) from None
    except RecursionError:
        raise too_deep(text[start:]) from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # Python's limit on the digits of an integer
        raise refusal(
            "too_large", f"A number in the JSON is too long: {error}.", text[start:]
        ) from None
    if nested_deeper(value, text[start:end]):
        raise too_deep(text[start:end])
    return value, end


def whole_document(text: str) -> Json:
    """The document that `text` is; white space around it is allowed. Errors as `document_at`."""
    start = len(text) - len(text.lstrip(WHITE))
    # Prose may begin with a number or a word such as Infinity.
    if text[start : start + 1] not in ("{", "[") and not _SCALAR.fullmatch(text):
        raise json.JSONDecodeError("Expecting value", text, start)
    value, end = document_at(text, start)
    if text[end:].strip(WHITE):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def too_deep(text: str) -> JsonTextError:
    """The refusal of a document that nests deeper than `MAX_DEPTH`."""
    return refusal("too_deep", f"The JSON is nested more than {MAX_DEPTH} levels deep.", text)


def nested_deeper(value: Json, text: str) -> bool:
    """Whether `value`, written as `text`, nests deeper than `MAX_DEPTH`."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return any(isinstance(item, (dict, list)) for item in level)
