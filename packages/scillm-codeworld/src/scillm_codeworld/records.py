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
SCORE_INVALID = "score_invalid"
"""Of a variant, not of an execution: it ran, but the item's scorer gave no finite numbers."""

EVERYTHING = frozenset({"sweep", "baseline"})
"""Strategies that run every program whole: no control could show anything."""

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
    language: str = "python"
    origin: Mapping[str, Json] = field(factory=dict)
    """Where it came from, when not given: generator, parent, digests of prompt and answer."""


@frozen(kw_only=True)
class Scoring:
    """The item's own scorer: code with `score(task, context, outputs, timings)` in it."""

    code: str
    entry: str = "score"


@frozen(kw_only=True)
class Tolerance:
    """Numbers a and e are the same when |a - e| <= max(absolute, relative * |e|)."""

    relative: float = 0.0
    absolute: float = 0.0


@frozen(kw_only=True)
class Item:
    """One task with its variants and cases. `expected` is None when the item gives no answers.

    `inputs` are what the search sees; `report_inputs` are kept from it and only reported.
    """

    id: str
    index: int
    task: str
    variants: Sequence[Variant]
    inputs: Sequence[Json]
    expected: Sequence[Json] | None
    entry: str = "solve"
    tolerance: Tolerance | None = None
    metadata: Json = None
    comparison: str = "exact"
    """`exact`, or `set`: lists with the same members, whatever their order and repetition."""
    check: str | None = None
    """Code with `check(input, expected, output)`: true or 1 is right, anything else is not."""
    scoring: Scoring | None = None
    report_inputs: Sequence[Json] = ()
    report_expected: Sequence[Json] = ()
    robustness_inputs: Sequence[Json] = ()
    """Odd inputs without answers: what counts is whether a program ends `ok` on them."""
    context: Mapping[str, Json] = field(factory=dict)
    """What the scorer is told beside the outputs; no variant ever sees it."""

    @property
    def gated(self) -> bool:
        """Whether an answer can be called right or wrong."""
        return self.expected is not None or self.check is not None


@frozen(kw_only=True)
class BadItem:
    """An item that cannot be run, and why."""

    id: str
    index: int
    reason: str


@frozen(kw_only=True)
class Program:
    """What is sent into the sandbox before any input: code, and the function to call in it.

    `entry` is for Python alone. A program in another language reads the input as JSON from its
    stdin and writes its answer as JSON to its stdout.
    """

    code: str
    entry: str = "solve"
    language: str = "python"


@frozen(kw_only=True)
class Execution:
    """What one process did with one input.

    `wall_s` runs from sending the input to holding the whole answer, on the parent's clock;
    `load_s` is the time the module level took. `isolation` is what was observed: the level, and
    what the child said it had put on. `cpu_s` and `max_rss_kb` are the kernel's account of the
    whole process, loading included; None where the level does not measure them.
    """

    status: str
    output: Json = None
    reason: str = ""
    stdout: str = ""
    stderr: str = ""
    wall_s: float | None = None
    load_s: float | None = None
    isolation: Mapping[str, Json] = field(factory=dict)
    cpu_s: float | None = None
    max_rss_kb: int | None = None
    frames: Sequence[Mapping[str, Json]] = ()
    """Where an exception passed through the program's own code, outermost first: `line` and
    `function`. At most eight; the outer ones that are missing are counted by a first `left_out`."""
    fuel: int | None = None
    """What the call cost at level wasm: the same for the same program, input and interpreter."""


@frozen(kw_only=True)
class Trace:
    """All executions of one variant: for each case the first run, then its timing repeats."""

    variant: Variant
    cases: Sequence[Sequence[Execution]]
    faults: Sequence[Sequence[str | None]] | None = None
    """Beside each execution why it is not right, None where it is, when a `check` decided that."""
    report: Sequence[Execution] = ()
    """One execution per report case; empty when there are none or the search never got there."""
    report_faults: Sequence[str | None] = ()
    robustness: Sequence[Execution] = ()
    custom: Mapping[str, float] = field(factory=dict)
    """What the item's scorer gave."""
    score_problem: str = ""
    """Why the item's scorer gave nothing that counts."""


@frozen(kw_only=True)
class Judged:
    """What a variant is worth within its item; `scillm_codeworld.judge.score` has the meaning."""

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
    fuel: int | None = None
    """Sum over the cases; None unless every case was run at level wasm. It stands for the time."""
    noise_s: float | None = None
    """Times closer than this to each other are the same; measured from its own repeats."""
    robustness: float | None = None
    memory: float | None = None
    max_rss_kb: int | None = None
    custom: Mapping[str, float] = field(factory=dict)
    report_right: int | None = None
    """Report cases with a right answer; None when there are none, or it did not get there."""
