"""CodeWorld's words: variants, items, what one execution gave, what an item's runs amount to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from scillm.records import Json

ENGINE = "codeworld"

OK = "ok"
EXCEPTION = "exception"
SYNTAX_ERROR = "syntax_error"
NO_ENTRY_POINT = "no_entry_point"
UNSERIALISABLE = "unserialisable"
TIMEOUT = "timeout"
MEMORY = "memory"
OUTPUT_LIMIT = "output_limit"
KILLED = "killed"
SANDBOX_REFUSED = "sandbox_refused"
NOT_RUN = "not_run"

STATUSES = (
    OK,
    EXCEPTION,
    SYNTAX_ERROR,
    NO_ENTRY_POINT,
    UNSERIALISABLE,
    TIMEOUT,
    MEMORY,
    OUTPUT_LIMIT,
    KILLED,
    SANDBOX_REFUSED,
    NOT_RUN,
)
"""How an execution can end. Only `ok` carries an answer, so only `ok` can be scored."""


@frozen(kw_only=True)
class Variant:
    """One program that claims to solve the item's task."""

    id: str
    code: str


@frozen(kw_only=True)
class Tolerance:
    """Numbers a and e are the same when |a - e| <= max(absolute, relative * |e|)."""

    relative: float = 0.0
    absolute: float = 0.0


@frozen(kw_only=True)
class Item:
    """One task with its variants and cases. `expected` is None when the item gives no answers."""

    id: str
    index: int
    task: str
    variants: Sequence[Variant]
    inputs: Sequence[Json]
    expected: Sequence[Json] | None
    entry: str = "solve"
    tolerance: Tolerance | None = None
    metadata: Json = None


@frozen(kw_only=True)
class BadItem:
    """An item that cannot be run, and why."""

    id: str
    index: int
    reason: str


@frozen(kw_only=True)
class Program:
    """What is sent into the sandbox before any input: code, and the function to call in it."""

    code: str
    entry: str = "solve"


@frozen(kw_only=True)
class Execution:
    """What one process did with one input.

    `wall_s` runs from sending the input to holding the whole answer, on the parent's clock;
    `load_s` is the time the module level took. `isolation` is what the child said it had put on.
    """

    status: str
    output: Json = None
    reason: str = ""
    stdout: str = ""
    stderr: str = ""
    wall_s: float | None = None
    load_s: float | None = None
    isolation: Mapping[str, Json] = field(factory=dict)


@frozen(kw_only=True)
class Trace:
    """All executions of one variant: for each case the first run, then its timing repeats."""

    variant: Variant
    cases: Sequence[Sequence[Execution]]


@frozen(kw_only=True)
class Judged:
    """What a variant is worth within its item. See `scillm_codeworld.score` for the meaning."""

    variant: Variant
    status: str
    reason: str
    right: Sequence[bool | None]
    """Per case; None where nothing was expected or nothing was run."""
    correctness: float | None
    speed: float | None = None
    brevity: float | None = None
    aggregate: float | None = None
    rank: int | None = None
    wall_s: float | None = None
    """Sum over the cases of the fastest repeat; None unless timed."""
