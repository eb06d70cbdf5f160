"""What happened, told to whoever listens: one frozen record per event, nothing comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from attrs import field, frozen

if TYPE_CHECKING:
    from scillm.records import Json


@frozen(kw_only=True)
class AttemptStarted:
    """A request is about to leave for one endpoint. `number` counts from 1 within the call."""

    call_id: str
    number: int
    endpoint: str
    provider: str
    model: str


@frozen(kw_only=True)
class AttemptSucceeded:
    """An endpoint answered; for a stream, its first chunk arrived."""

    call_id: str
    number: int
    endpoint: str
    provider: str
    model: str
    elapsed_s: float


@frozen(kw_only=True)
class AttemptFailed:
    """An endpoint failed; the next event of the call says what comes of it."""

    call_id: str
    number: int
    endpoint: str
    provider: str
    model: str
    elapsed_s: float
    error: str
    status_code: int | None
    retry_after: float | None


@frozen(kw_only=True)
class AttemptCancelled:
    """An attempt was given up under way: another was faster, or the caller has left."""

    call_id: str
    number: int
    endpoint: str
    provider: str
    model: str
    elapsed_s: float


@frozen(kw_only=True)
class Hedged:
    """An attempt has not answered for `after_s`, and one more request leaves beside it."""

    call_id: str
    model: str
    slow: str
    to: str
    after_s: float


@frozen(kw_only=True)
class RetryScheduled:
    """A round through the deployments failed, and another follows after `wait_s`."""

    call_id: str
    model: str
    attempt: int
    wait_s: float
    reason: str
    remaining_time_s: float
    remaining_attempts: int


@frozen(kw_only=True)
class GaveUp:
    """No further round: `why` is not_retryable, attempts, time_budget or policy."""

    call_id: str
    model: str
    attempts: int
    why: str
    reason: str


@frozen(kw_only=True)
class FellBack:
    """A group failed, and the call goes on with another."""

    call_id: str
    failed: str
    to: str
    error: str


@frozen(kw_only=True)
class SharedPaceChanged:
    """The pace shared between processes was lost (each goes on alone), or is shared again."""

    shared: bool
    reason: str = ""


@frozen(kw_only=True)
class BudgetReached:
    """A budget is used up: `hard` ones refuse from now on, soft ones go on. Told once each."""

    name: str
    unit: str
    hard: bool


@frozen(kw_only=True)
class CacheFaulted:
    """The response cache could not be read or written; the call went on without it."""

    key: str
    reason: str


@frozen(kw_only=True)
class TrialFinished:
    """A search tried one arm."""

    number: int
    arm: str
    status: str
    score: float | None


@frozen(kw_only=True)
class ItemFinished:
    """An engine finished one item of a job.

    `result` is the item's row of the job's results, where the engine tells it before the job ends.
    """

    engine: str
    item_id: str
    done: int
    total: int
    result: Mapping[str, Json] | None = field(default=None, eq=False, repr=False)


Event: TypeAlias = (
    AttemptStarted
    | AttemptSucceeded
    | AttemptFailed
    | AttemptCancelled
    | Hedged
    | RetryScheduled
    | GaveUp
    | FellBack
    | SharedPaceChanged
    | BudgetReached
    | CacheFaulted
    | TrialFinished
    | ItemFinished
)
