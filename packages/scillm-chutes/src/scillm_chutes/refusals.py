"""From a refusal of the service to its error, with what follows for the key and the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from scillm_chutes.classify import (
    NEXT,
    PAUSE_KEY,
    STOP_AT_MOST_S,
    STOP_KEY,
    WARM_UP,
    Failure,
    classify,
)
from scillm_chutes.errors import KeyPausedError, QuotaError

if TYPE_CHECKING:
    from scillm.errors import ProviderError
    from scillm.records import HttpReply

    from scillm_chutes.gate import KeyGate
    from scillm_chutes.market import Market


@frozen(kw_only=True)
class Asked:
    """One call that left: which model it asked with which key, and when (monotonic seconds)."""

    model: str
    started_at: float
    gate: KeyGate
    market: Market


def refused(reply: HttpReply, plain: ProviderError, asked: Asked, *, now: float) -> ProviderError:
    """The error for `reply`; gate and market learn of it. `plain` is the core's, `now` Unix time.

    Everything that is shown comes from `plain`, which has no secrets in it.
    """
    failure = classify(
        reply.status, reply.body, now=now, content_type=reply.headers.get("content-type", "")
    )
    plain.request_id = reply.headers.get("x-chutes-invocationid") or plain.request_id
    message = f"{plain.message} [{failure.kind}: {failure.reaction}]"
    if failure.reaction == PAUSE_KEY:
        return _paused(failure, message, plain, asked)
    if failure.reaction == STOP_KEY:
        return _stopped(failure, message, plain, asked)
    if failure.rest_s:
        asked.market.refused(asked.model, rest_s=failure.rest_s, reason=failure.kind)
    if failure.reaction in (NEXT, WARM_UP):
        asked.gate.hurry()
    if failure.error is type(plain) or failure.kind == "refused":
        # The core tells context windows and content policies apart; it knows better here.
        plain.args = (message,)
        return plain
    return failure.error(
        message,
        status_code=plain.status_code,
        retry_after=plain.retry_after,
        body=plain.body,
        request_id=plain.request_id,
    )


def _paused(failure: Failure, message: str, plain: ProviderError, asked: Asked) -> ProviderError:
    wait_s = asked.gate.limited(
        started_at=asked.started_at,
        why="the edge limits the key" if failure.wait_s is None else failure.kind,
        announced_s=plain.retry_after or failure.wait_s,
    )
    return KeyPausedError(
        message,
        sent=True,
        status_code=plain.status_code,
        retry_after=wait_s,
        body=plain.body,
        request_id=plain.request_id,
    )


def _stopped(failure: Failure, message: str, plain: ProviderError, asked: Asked) -> ProviderError:
    wait_s = failure.wait_s or 0.0
    asked.gate.stop(
        min(wait_s, STOP_AT_MOST_S), why=f"{failure.kind} used up", resets_at=failure.resets_at
    )
    return QuotaError(
        message,
        resets_at=failure.resets_at,
        status_code=plain.status_code,
        retry_after=wait_s,
        body=plain.body,
        request_id=plain.request_id,
    )
