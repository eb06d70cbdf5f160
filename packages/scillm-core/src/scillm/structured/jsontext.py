"""The one JSON document in a model's answer, or a refusal.

A wrong value is worse than a refusal. Kinds of refusal: `no_document`, `multiple_documents`,
`fragment` (a piece of a larger document), `truncated`, `wrong_root`, `duplicate_key`,
`not_finite`, `too_large`, `too_deep`, `broken`, `bad_escape`, `dropped_members`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import evolve, frozen

from scillm.errors import JsonTextError, UsageError
from scillm.structured.candidates import Candidate, Found, find
from scillm.structured.grounding import Ungrounded, check_grounded, check_repairable
from scillm.structured.repair import guess
from scillm.structured.strictjson import (
    MAX_CHARS,
    WHITE,
    nested_deeper,
    refusal,
    too_deep,
    whole_document,
)
from scillm.structured.truncation import certain_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scillm.records import Json

Root: TypeAlias = Literal["any", "object", "array"]
BOM = "\ufeff"
_CODE_FENCE = re.compile(r"(?:`{3,}|~{3,})[\w.+-]*")
_FIRST_MEMBER = re.compile(r'"(?:[^"\\\n]|\\.)*"\s*:')
_BEFORE_VALUE = re.compile(r'"\s*[:,]\Z')
_GOES_ON = re.compile(r'\s*(?:[}\]]|,\s*["{\[])|[0-9]|[eE.][+-]?[0-9]')
_BRACKET = re.compile(r"[\[\]{}]")


@frozen(kw_only=True)
class JsonText:
    """The document of a text. `log` says what was passed over, cut off or changed."""

    value: Json
    repaired: bool = False
    """json-repair changed its notation."""
    truncated: bool = False
    """The text ended too early; `value` has the members and elements written to their end."""
    log: Sequence[str] = ()
    source_span: tuple[int, int]
    """Where in the text `value` comes from, in characters."""


def extract_json(
    text: str, *, root: Root = "any", allow_truncated: bool = True, repair: bool = True
) -> JsonText:
    """The only JSON document in `text`, whose `root` may be asked for.

    Valid JSON comes back as `json.loads` reads it. Else a BOM, think blocks, fences and prose
    around the document are passed over. Where the text ends too early, the certain part is given,
    unless `allow_truncated=False`. Broken notation goes to json-repair (extra `json`), unless
    `repair=False`; its guess stands only when every bracket, key and value is in the text.
    Raises `JsonTextError`, whose `kind` is one of this module's list.
    """
    if not isinstance(text, str):
        raise UsageError(f"The JSON text must be a str, but is a {type(text).__name__}.")
    if root not in ("any", "object", "array"):
        raise UsageError(f'root must be "any", "object" or "array", but is {root!r}.')
    log: list[str] = []
    body = text
    if text.startswith(BOM):
        body = " " + text[1:]
        log.append("a byte order mark was passed over")
    try:
        value = whole_document(body)
    except json.JSONDecodeError:
        pass
    else:
        start, end = len(body) - len(body.lstrip(WHITE)), len(body.rstrip(WHITE))
        return _rooted(JsonText(value=value, log=tuple(log), source_span=(start, end)), root, text)
    if len(body) > MAX_CHARS:
        raise refusal(
            "too_large",
            f"Text that is not JSON as it stands is searched up to {MAX_CHARS:,} characters, "
            f"but this has {len(body):,}.",
            text,
        )
    found = find(body)
    log += found.log
    chosen = _only(found, root, body, log)
    if chosen.complete:
        result = JsonText(value=chosen.value, source_span=(chosen.start, chosen.end))
    else:
        result = _mended(body, chosen, allow_truncated=allow_truncated, repair=repair)
    _refuse_fragment(chosen, found.shown)
    return _rooted(evolve(result, log=(*log, *result.log)), root, text)


def clean_json_string(content: Json, return_dict: bool = False) -> Json:
    """The JSON of `content` as text, or with `return_dict` as the dict or list it holds.

    The name and call form are the earlier project's. Where that gave `{}`, the text unchanged, or
    a guess, this raises `JsonTextError`: nothing is invented, and nothing cut off passes as whole.
    """
    if isinstance(content, (dict, list)):
        return content if return_dict else written(content)
    found = extract_json(content, allow_truncated=False)
    if not return_dict:
        return json_part(found, content)
    if not isinstance(found.value, (dict, list)):
        raise refusal(
            "wrong_root", f"An object or array was wanted, but {_kind(found.value)} came.", content
        )
    return found.value


def json_part(found: JsonText, text: str) -> str:
    """The document `found` in `text`, as valid JSON; as it was written, if it was valid there."""
    if found.repaired or found.truncated:
        return written(found.value)
    return text[slice(*found.source_span)]


def written(value: Json) -> str:
    """`value` as JSON text; `JsonTextError` where JSON has no such value."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise JsonTextError(f"The value is not JSON: {error}.", kind="not_finite") from error


# -- choosing ----------------------------------------------------------------------------------


def _only(found: Found, root: Root, text: str, log: list[str]) -> Candidate:
    candidates = found.candidates
    if root == "object":
        # In prose, [1] is a citation; an array can only be a rival when it holds objects.
        candidates = [c for c in candidates if "{" in text[c.start : c.end]]
        if not candidates and found.candidates:
            raise refusal("wrong_root", "An object was wanted, but only arrays came.", text)
        if len(candidates) < len(found.candidates):
            log.append("lists in brackets were passed over")
    if len(candidates) > 1:
        places = ", ".join(f"{c.start} to {c.end}" for c in candidates[:5])
        raise refusal(
            "multiple_documents",
            f"One JSON document was wanted, but {len(candidates)} came (characters {places}).",
            text,
        )
    if candidates:
        return candidates[0]
    if found.unfinished_thought:
        raise refusal("truncated", "The text ends inside its think block.", text)
    raise refusal("no_document", "The text holds no JSON document.", text)


def _refuse_fragment(chosen: Candidate, text: str) -> None:
    before, after = text[: chosen.start], text[chosen.end :]
    if chosen.fenced:
        # What stands beyond the fences is another text.
        before = _CODE_FENCE.split(before)[-1]
        after = _CODE_FENCE.split(after, maxsplit=1)[0]
    before = before.strip()
    if (
        _FIRST_MEMBER.match(before)
        or _BEFORE_VALUE.search(before)
        or _GOES_ON.match(after)
        or _reaches_out(before[::-1], closers="[{")
        or _reaches_out(after, closers="]}")
    ):
        raise refusal(
            "fragment",
            "The JSON document looks like a piece of a larger one.",
            text[max(0, chosen.start - 100) : chosen.end + 100],
        )


def _reaches_out(beside: str, *, closers: str) -> bool:
    """Whether a quote stands beside a document, and then a bracket that belongs around it.

    As in `x", "b": 1}` behind it. For what stands before it, give that backwards.
    """
    depth = 0
    for match in _BRACKET.finditer(beside):
        depth += -1 if match.group() in closers else 1
        if depth < 0:
            return '"' in beside[: match.start()]
    return False


def _rooted(found: JsonText, root: Root, text: str) -> JsonText:
    wanted = {"object": dict, "array": list}.get(root, object)
    if not isinstance(found.value, wanted):
        raise refusal("wrong_root", f"An {root} was wanted, but {_kind(found.value)} came.", text)
    return found


def _kind(value: Json) -> str:
    if isinstance(value, dict):
        return "an object"
    return "an array" if isinstance(value, list) else f"the scalar {value!r:.40}"


# -- mending -----------------------------------------------------------------------------------


def _mended(text: str, chosen: Candidate, *, allow_truncated: bool, repair: bool) -> JsonText:
    part = text[chosen.start : chosen.end]
    certain = None if chosen.closed else certain_part(part)
    if certain is not None:
        if not allow_truncated or not certain.used:
            raise refusal("truncated", "The text ends inside its JSON document.", text)
        end = chosen.start + certain.used
        return JsonText(
            value=certain.value,
            truncated=True,
            log=(f"the text ends inside its document; cut off after character {end}",),
            source_span=(chosen.start, end),
        )
    if not chosen.closed:
        raise refusal("truncated", "The JSON document is broken, and its end is missing.", part)
    if not repair:
        raise refusal("broken", "The JSON is broken, and repair was not asked for.", part)
    try:
        check_repairable(part)
        value, log = guess(part)
        if nested_deeper(value, part):
            raise too_deep(part)
        check_grounded(value, part)
    except Ungrounded as finding:
        raise refusal(
            finding.kind,
            f"The JSON is broken, and repairing it would guess: {finding.reason}.",
            part,
        ) from None
    return JsonText(
        value=value,
        repaired=True,
        log=log or ("json-repair changed the notation",),
        source_span=(chosen.start, chosen.end),
    )
