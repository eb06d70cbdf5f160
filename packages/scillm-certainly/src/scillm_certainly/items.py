"""Items as callers write them, checked and turned into requests. Pure.

An item is {"code": …} with optional `id`, `reference`, `axioms`, `heartbeats`, `max_seconds`;
`lean`, `proof` and `text` are other names for `code`. A requirement in words (`requirement_text`
or `requirement`) is answered as what it is: nothing Lean can check yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from scillm.errors import UsageError

from scillm_certainly.intake import checked_policy
from scillm_certainly.records import STANDARD_AXIOMS, CheckRequest, Policy

if TYPE_CHECKING:
    from scillm.records import Json

CODE_NAMES = ("code", "lean", "proof", "text")
WORDS = ("requirement_text", "requirement")
POLICY_NAMES = ("axioms", "heartbeats", "max_seconds")
OPTION_NAMES = (*POLICY_NAMES, "flags", "session_id", "track_id", "backend", "messages")
FLAGS = frozenset({"--deterministic", "--no-llm", "--auto-prune-strategies"})
"""Flags that older clients send. They ask for what is always done; none becomes a command line."""
KNOWN = frozenset(
    {*CODE_NAMES, *WORDS, *POLICY_NAMES, "id", "reference", "context", "metadata", "strategies"}
)
GUIDANCE = (
    "needs formalisation: a requirement in words is nothing Lean can check. Give its Lean "
    "statement as code, or a statement as reference and its proof as code."
)


@frozen(kw_only=True)
class BadItem:
    """An item that cannot be checked, and why."""

    id: str
    reason: str
    limit: str = "malformed"


def parse_items(
    items: Sequence[Mapping[str, Json]], options: Mapping[str, Json] | None = None
) -> list[CheckRequest | BadItem]:
    """One request per item, in order; a second item with the same id is a bad one."""
    found: list[CheckRequest | BadItem] = []
    seen: set[str] = set()
    for number, item in enumerate(items, 1):
        parsed = parse_item(item, number=number, options=options or {})
        if parsed.id in seen:
            parsed = BadItem(id=f"{parsed.id}#{number}", reason=f"the id {parsed.id!r} came before")
        seen.add(parsed.id)
        found.append(parsed)
    return found


def parse_item(item: Json, *, number: int, options: Mapping[str, Json]) -> CheckRequest | BadItem:
    """The request of one item, or why there is none."""
    name = f"item-{number}"
    if not isinstance(item, Mapping):
        return BadItem(id=name, reason=f"an item is a mapping, not {type(item).__name__}")
    name = str(item.get("id") or name)
    odd = sorted(str(key) for key in item if key not in KNOWN)
    if odd:
        known = ", ".join(sorted(KNOWN))
        return BadItem(id=name, reason=f"unknown key {odd[0]!r}; known are {known}")
    given = [key for key in CODE_NAMES if item.get(key) is not None]
    if len(given) > 1:
        return BadItem(id=name, reason=f"{given[0]} and {given[1]} are both given; give one")
    if not given:
        if any(item.get(key) for key in WORDS):
            return BadItem(id=name, reason=GUIDANCE, limit="needs_formalisation")
        return BadItem(id=name, reason="the item has no code")
    code, reference = item[given[0]], item.get("reference")
    if not isinstance(code, str) or not (reference is None or isinstance(reference, str)):
        return BadItem(id=name, reason="code and reference must be text")
    own = {key: item[key] for key in POLICY_NAMES if item.get(key) is not None}
    try:
        policy = policy_of({**options, **own})
    except UsageError as error:
        return BadItem(id=name, reason=error.message)
    return CheckRequest(id=name, code=code, reference=reference, policy=policy)


def policy_of(options: Mapping[str, Json]) -> Policy:
    """The policy these options ask for; `UsageError` naming the one that is wrong."""
    odd = sorted(key for key in options if key not in OPTION_NAMES)
    if odd:
        raise UsageError(f"Unknown option {odd[0]!r}; known are {', '.join(OPTION_NAMES)}.")
    check_flags(options.get("flags"))
    axioms = options.get("axioms", STANDARD_AXIOMS)
    if not isinstance(axioms, (list, tuple)) or not all(isinstance(row, str) for row in axioms):
        raise UsageError(f"axioms must be a list of names, but is {axioms!r}.")
    heartbeats = options.get("heartbeats", Policy().heartbeats)
    if isinstance(heartbeats, bool) or not isinstance(heartbeats, int):
        raise UsageError(f"heartbeats must be a whole number, but is {heartbeats!r}.")
    seconds = options.get("max_seconds", Policy().time_s)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise UsageError(f"max_seconds must be a number, but is {seconds!r}.")
    return checked_policy(Policy(axioms=tuple(axioms), heartbeats=heartbeats, time_s=seconds))


def check_flags(flags: Json) -> None:
    """`UsageError` unless every flag is one that older clients send."""
    for flag in flags or ():
        if flag not in FLAGS:
            raise UsageError(f"Unknown flag {flag!r}; known are {', '.join(sorted(FLAGS))}.")


def storable(item: Json) -> Json:
    """`item` as plain JSON; what has no JSON form is named, so that the engine can refuse it."""
    try:
        return json.loads(json.dumps(item, allow_nan=False))
    except (TypeError, ValueError) as error:
        return {"id": None, "not_json": str(error)}
