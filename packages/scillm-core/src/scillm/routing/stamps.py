"""Stamps: what is known about a call, written into its answer's additional_kwargs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from attrs import field, frozen

if TYPE_CHECKING:
    from scillm.models import Answered
    from scillm.records import Attempt, Json

Answer = TypeVar("Answer", bound="Answered")


@frozen(kw_only=True, slots=False)  # with so many fields, slots would take twice as long to fill
class CallRecord:
    """What there is to say about an answered call. `retries` is None when it was not asked for."""

    requested_model: str
    resolved_model: str
    provider: str
    endpoint: str
    group: str
    attempts: Sequence[Attempt]
    call_id: str = ""
    fallbacks: int = 0
    hedges: int = 0
    reply: Mapping[str, Json] = field(factory=dict)
    """What the head of a streamed reply said; a whole answer brings it itself."""
    continued: Json = None
    """Where a broken stream went on, if it did."""
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
            "call_id": record.call_id,
            "_response_ms": answered_ms(record.attempts),
            **record.reply,
        }
    }
    if record.continued is not None:
        side["scillm"]["continued"] = record.continued
    router: dict[str, Json] = {}
    if record.group:
        router = {
            "model_group": record.group,
            "deployment": record.endpoint,
            "provider": record.provider,
            "attempts": len(record.attempts),
            "fallbacks": record.fallbacks,
            "hedges": record.hedges,
        }
    if record.retries is not None:
        router["retries"] = record.retries
    if router:
        side["router"] = router
    return side


def stamped(answer: Answer, record: CallRecord) -> Answer:
    """`answer` with the record in its additional_kwargs; what the provider put there stays."""
    # Many callers read the text and no more, so it is written down when it is asked for.
    return answer.with_additional_later(
        partial(_both, answer.additional_kwargs, record, answer.model)
    )


def _both(kept: Mapping[str, Json], record: CallRecord, served: str) -> dict[str, Json]:
    both = dict(kept)
    for key, value in side_information(record, served=served).items():
        both[key] = {**kept[key], **value} if isinstance(kept.get(key), dict) else value
    return both


def attempt_json(attempt: Attempt) -> dict[str, Json]:
    """An attempt as plain JSON."""
    return {
        "endpoint": attempt.endpoint,
        "model": attempt.model,
        "outcome": attempt.outcome,
        "status_code": attempt.status_code,
        "elapsed_s": round(attempt.elapsed_s, 6),
        "message": attempt.message,
        "hedge": attempt.hedge,
        "billed": attempt.billed,
    }


def answered_ms(attempts: Sequence[Attempt]) -> float | None:
    """Milliseconds of the attempt that was answered (a stream: to its first chunk)."""
    return next((round(a.elapsed_s * 1000.0, 3) for a in attempts if a.outcome == "ok"), None)
