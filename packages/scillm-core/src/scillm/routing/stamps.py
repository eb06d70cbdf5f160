"""Stamps: what is known about a call, written into its answer's additional_kwargs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from scillm.records import Attempt, evolve

if TYPE_CHECKING:
    from scillm.models import Completion
    from scillm.records import Json


@frozen(kw_only=True)
class CallRecord:
    """What there is to say about an answered call. `retries` is None when it was not asked for."""

    requested_model: str
    resolved_model: str
    provider: str
    endpoint: str
    group: str
    attempts: Sequence[Attempt]
    fallbacks: int = 0
    retries: Json = None


def side_information(record: CallRecord, *, served: str) -> dict[str, Json]:
    """`scillm` for every call: three model ids, endpoint, attempts; `router` for a group's."""
    side: dict[str, Json] = {
        "scillm": {
            "requested_model": record.requested_model,
            "resolved_model": record.resolved_model,
            "served_model": served or None,
            "provider": record.provider,
            "endpoint": record.endpoint,
            "attempts": [attempt_json(attempt) for attempt in record.attempts],
        }
    }
    router: dict[str, Json] = {}
    if record.group:
        router = {
            "model_group": record.group,
            "deployment": record.endpoint,
            "provider": record.provider,
            "attempts": len(record.attempts),
            "fallbacks": record.fallbacks,
        }
    if record.retries is not None:
        router["retries"] = record.retries
    if router:
        side["router"] = router
    return side


def stamped(completion: Completion, record: CallRecord) -> Completion:
    """`completion` with the record in its additional_kwargs; what the provider put there stays."""
    kept = completion.additional_kwargs
    side = side_information(record, served=completion.model)
    both = {
        key: {**kept[key], **value} if isinstance(kept.get(key), dict) else value
        for key, value in side.items()
    }
    return evolve(completion, additional_kwargs={**kept, **both})


def attempt_json(attempt: Attempt) -> dict[str, Json]:
    """An attempt as plain JSON."""
    return {
        "endpoint": attempt.endpoint,
        "model": attempt.model,
        "outcome": attempt.outcome,
        "status_code": attempt.status_code,
        "elapsed_s": round(attempt.elapsed_s, 6),
        "message": attempt.message,
    }
