"""Items as callers write them, checked and turned into requests. Pure.

An item is {"code": …} with optional `id`, `reference`, `axioms`, `heartbeats`, `max_seconds`;
`lean`, `proof` and `text` are other names for `code`. An item is otherwise a requirement:
`requirement_text` (or `requirement`), with optional `context` and `strategies`. Of the context,
`imports` and `lean` become part of the file; the rest is told to a model, if one is asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING

from attrs import frozen
from scillm.errors import UsageError

from scillm_certainly.intake import checked_policy
from scillm_certainly.portfolio.tactics import known_strategies
from scillm_certainly.records import STANDARD_AXIOMS, CheckRequest, Policy, Requirement

if TYPE_CHECKING:
    from scillm.records import Json

CODE_NAMES = ("code", "lean", "proof", "text")
WORDS = ("requirement_text", "requirement")
POLICY_NAMES = ("axioms", "heartbeats", "check_seconds")
OPTION_NAMES = (
    *POLICY_NAMES, "max_seconds", "flags", "session_id", "track_id", "backend", "messages",
)  # fmt: skip
NO_MODEL = frozenset({"--deterministic", "--no-llm"})
FLAGS = NO_MODEL | {"--auto-prune-strategies"}
"""Flags that older clients send. Two of them keep a model out; none becomes a command line."""
NOT_JSON = "not_json"
"""Stands in an item in the place of all that could not be written as JSON."""
MODULE = re.compile(r"[A-Za-z_][\w']*(\.[A-Za-z_][\w']*)*")
KNOWN = frozenset(
    {
        *CODE_NAMES,
        *WORDS,
        *POLICY_NAMES,
        "max_seconds",
        "id",
        "reference",
        "context",
        "metadata",
        "strategies",
    }
)


@frozen(kw_only=True)
class BadItem:
    """An item that cannot be checked, and why."""

    id: str
    reason: str
    limit: str = "malformed"


def parse_items(
    items: Sequence[Mapping[str, Json]], options: Mapping[str, Json] | None = None
) -> list[CheckRequest | Requirement | BadItem]:
    """One request per item, in order; a second item with the same id is a bad one."""
    found: list[CheckRequest | Requirement | BadItem] = []
    seen: set[str] = set()
    for number, item in enumerate(items, 1):
        parsed = parse_item(item, number=number, options=options or {})
        if parsed.id in seen:
            reason = f"the id {parsed.id!r} came before"
            name = f"{parsed.id}#{number}"
            while name in seen:
                name += "'"
            parsed = BadItem(id=name, reason=reason)
        seen.add(parsed.id)
        found.append(parsed)
    return found


def parse_item(
    item: Json, *, number: int, options: Mapping[str, Json]
) -> CheckRequest | Requirement | BadItem:
    """The request of one item, or why there is none."""
    name = f"item-{number}"
    if not isinstance(item, Mapping):
        return BadItem(id=name, reason=f"an item is a mapping, not {type(item).__name__}")
    given_id = item.get("id")
    if isinstance(given_id, bool) or not (given_id is None or isinstance(given_id, (str, int))):
        reason = f"an id is text or a whole number, not {type(given_id).__name__}"
        return BadItem(id=name, reason=reason)
    name = name if given_id in (None, "") else str(given_id)
    if NOT_JSON in item:
        return BadItem(id=name, reason=f"the item has no JSON form: {item[NOT_JSON]}")
    odd = sorted(str(key) for key in item if key not in KNOWN)
    if odd:
        known = ", ".join(sorted(KNOWN))
        return BadItem(id=name, reason=f"unknown key {odd[0]!r}; known are {known}")
    given = [key for key in CODE_NAMES if item.get(key) is not None]
    if len(given) > 1:
        return BadItem(id=name, reason=f"{given[0]} and {given[1]} are both given; give one")
    try:
        policy = policy_of({**options, **_own(item)})
        if not given:
            return _requirement(item, name, policy, options)
    except UsageError as error:
        return BadItem(id=name, reason=error.message)
    code, reference = item[given[0]], item.get("reference")
    if not isinstance(code, str) or not (reference is None or isinstance(reference, str)):
        return BadItem(id=name, reason="code and reference must be text")
    return CheckRequest(id=name, code=code, reference=reference, policy=policy)


def _own(item: Mapping[str, Json]) -> dict[str, Json]:
    """An item's own policy. Its `max_seconds` is the time of its check, not of a job."""
    own = {key: item[key] for key in POLICY_NAMES if item.get(key) is not None}
    if item.get("max_seconds") is not None:
        own["check_seconds"] = item["max_seconds"]
    return own


def _requirement(
    item: Mapping[str, Json], name: str, policy: Policy, options: Mapping[str, Json]
) -> Requirement:
    text = next((item[key] for key in WORDS if item.get(key) is not None), None)
    if text is None:
        raise UsageError("the item has no code")
    if not isinstance(text, str) or not text.strip():
        raise UsageError("a requirement must be text, and not empty")
    context = {} if item.get("context") is None else item["context"]
    if not isinstance(context, Mapping):
        raise UsageError("context must be a mapping, such as {'lean': 'def …', 'imports': ['Std']}")
    imports, preamble = context.get("imports", ()), context.get("lean", "")
    if not isinstance(imports, (list, tuple)) or not all(
        isinstance(row, str) and MODULE.fullmatch(row) for row in imports
    ):
        raise UsageError("context.imports must be a list of module names")
    if not isinstance(preamble, str):
        raise UsageError("context.lean must be text")
    return Requirement(
        id=name,
        text=text,
        imports=tuple(imports),
        preamble=preamble,
        notes={key: value for key, value in context.items() if key not in ("imports", "lean")},
        strategies=known_strategies(item.get("strategies")),
        model=NO_MODEL.isdisjoint(options.get("flags") or ()),
        policy=policy,
    )


def policy_of(options: Mapping[str, Json]) -> Policy:
    """The policy these options ask for; `UsageError` naming the one that is wrong."""
    odd = sorted(key for key in options if key not in OPTION_NAMES)
    if odd:
        raise UsageError(f"Unknown option {odd[0]!r}; known are {', '.join(OPTION_NAMES)}.")
    check_flags(options.get("flags"))
    job_seconds(options)
    axioms = options.get("axioms", STANDARD_AXIOMS)
    if not isinstance(axioms, (list, tuple)) or not all(isinstance(row, str) for row in axioms):
        raise UsageError(f"axioms must be a list of names, but is {axioms!r}.")
    heartbeats = options.get("heartbeats", Policy().heartbeats)
    if isinstance(heartbeats, bool) or not isinstance(heartbeats, int):
        raise UsageError(f"heartbeats must be a whole number, but is {heartbeats!r}.")
    seconds = options.get("check_seconds", Policy().time_s)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise UsageError(f"The seconds of a check must be a number, but are {seconds!r}.")
    return checked_policy(Policy(axioms=tuple(axioms), heartbeats=heartbeats, time_s=seconds))


def job_seconds(options: Mapping[str, Json]) -> float | None:
    """The time of a whole job, None for no bound of its own; `UsageError` for what is no time."""
    seconds = options.get("max_seconds")
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < inf:
        raise UsageError(f"max_seconds must be a number above 0, but is {seconds!r}.")
    return float(seconds)


def check_flags(flags: Json) -> None:
    """`UsageError` unless every flag is one that older clients send."""
    if flags is not None and not isinstance(flags, (list, tuple)):
        raise UsageError(f"flags must be a list, but is {flags!r}.")
    for flag in flags or ():
        if not isinstance(flag, str) or flag not in FLAGS:
            raise UsageError(f"Unknown flag {flag!r}; known are {', '.join(sorted(FLAGS))}.")


def storable(item: Json) -> Json:
    """`item` as plain JSON; what has no JSON form is named, so that the engine can refuse it."""
    try:
        return json.loads(json.dumps(item, allow_nan=False))
    except (TypeError, ValueError) as error:
        return {"id": None, NOT_JSON: str(error)}
