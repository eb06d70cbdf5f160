"""What is asked of Lean, what a worker saw, and what is concluded from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from scillm.records import Json

ENGINE = "certainly"
ALIAS = "lean4"

PROVED = "proved"
PROVED_UNREPLAYED = "proved_unreplayed"
INCOMPLETE = "incomplete"
REJECTED = "rejected"
UNSOUND = "unsound"
MISMATCH = "mismatch"
INCONCLUSIVE = "inconclusive"
UNAVAILABLE = "unavailable"
STATUSES = (
    PROVED,
    PROVED_UNREPLAYED,
    INCOMPLETE,
    REJECTED,
    UNSOUND,
    MISMATCH,
    INCONCLUSIVE,
    UNAVAILABLE,
)
REFUTED = frozenset({INCOMPLETE, REJECTED, UNSOUND, MISMATCH})
"""Verdicts that say: this text does not prove what it claims. None says that the claim is false."""

STANDARD_AXIOMS = ("propext", "Classical.choice", "Quot.sound")
MAX_CODE_BYTES = 1_000_000


@frozen(kw_only=True)
class Policy:
    """What a proof may rest on, and how much it may use.

    `axioms` are the permitted ones by full name; `heartbeats` is Lean's own measure of work per
    declaration; `time_s` is the wall time of the whole check.
    """

    axioms: Sequence[str] = STANDARD_AXIOMS
    heartbeats: int = 200_000
    time_s: float = 60.0


@frozen(kw_only=True)
class CheckRequest:
    """One piece of Lean code to check, and optionally the statement it must prove.

    `reference` is Lean code whose declarations the answer must have unchanged, with `sorry` in the
    place of each proof.
    """

    code: str
    reference: str | None = None
    policy: Policy = field(factory=Policy)
    id: str = ""
    fresh: bool = False
    """Ask Lean also when the answer is known already."""


@frozen(kw_only=True)
class Requirement:
    """Something to prove: a Lean statement without a proof, or words.

    `imports` and `preamble` (Lean code) come before the statement; `notes` is what else is known,
    which only a model is told. `strategies` are names from the portfolio, none meaning all.
    """

    text: str
    imports: Sequence[str] = ()
    preamble: str = ""
    notes: Mapping[str, Json] = field(factory=dict)
    strategies: Sequence[str] = ()
    model: bool = True
    """Whether a model may be asked, if one is configured."""
    policy: Policy = field(factory=Policy)
    id: str = ""


@frozen(kw_only=True)
class Position:
    """A place in the code: lines from 1, columns from 0 in code points."""

    line: int
    column: int


@frozen(kw_only=True)
class Diagnostic:
    """One message of Lean. `severity` is error, warning or info."""

    severity: str
    text: str
    start: Position
    end: Position | None = None
    kind: str = ""


@frozen(kw_only=True)
class Sorry:
    """A place where something is left out, and the goal there."""

    goal: str
    start: Position | None = None
    end: Position | None = None


@frozen(kw_only=True)
class Declaration:
    """A constant that the second kernel pass accepted.

    `written` tells those whose name stands in the code from those Lean made beside them.
    `statement` is a theorem's type as Lean prints it.
    """

    name: str
    kind: str
    written: bool = True
    statement: str = ""
    type_hash: str = ""
    axioms: Sequence[str] = ()
    uses: Sequence[str] = ()
    """The file's own declarations that it is made of."""
    gap: str = ""
    """What is missing in its own text: sorry, error (Lean put a sorry there), or nothing."""


@frozen(kw_only=True)
class Target:
    """A declaration of the reference beside the answer's; `detail` says how they differ."""

    name: str
    same: bool
    detail: str = ""


@frozen(kw_only=True)
class Judged:
    """What the comparison with the reference found; `errors` are the reference's own faults."""

    targets: Sequence[Target] = ()
    axioms: Sequence[str] = ()
    errors: Sequence[str] = ()


@frozen(kw_only=True)
class Lean:
    """The Lean that answered: backend, version, commit, and how the process was confined."""

    backend: str
    version: str = ""
    commit: str = ""
    axioms_complete: bool = False
    confinement: Mapping[str, Json] = field(factory=dict)
    package: str = ""
    """Integrity of the package the embedded Lean came from; empty for another Lean."""
    driver: str = ""
    """SHA-256 of the checker that ran in it; empty for a REPL."""


@frozen(kw_only=True)
class Facts:
    """What was found. `fault` is set when it could not be, and the rest is empty.

    Declarations, and what the kernel and the comparison say, are set by a worker that judges;
    the rest by one that reads. `fault_kind` is one of timeout, died, import, refused, busy,
    unavailable, lean.
    """

    diagnostics: Sequence[Diagnostic] = ()
    sorries: Sequence[Sorry] = ()
    written: Sequence[str] = ()
    """The last parts of the names that stand in the code."""
    examples: int = 0
    user_code: bool = False
    """Whether programs of the file were run while it was read."""
    exported: str = field(default="", repr=False)
    """The declarations as text, for the worker that judges."""
    declarations: Sequence[Declaration] = ()
    replayed: bool = False
    """Whether the kernel of a process that ran nothing of the file had its say."""
    replay_errors: Sequence[str] = ()
    judged: Judged | None = None
    nested: bool = False
    axioms_complete: bool = False
    us: Mapping[str, int] = field(factory=dict)
    fault: str = ""
    fault_kind: str = ""


@frozen(kw_only=True)
class ProofVerdict:
    """What is concluded about one request. Only status `proved` counts as proved.

    `limit` names why something is inconclusive or unavailable; `culprits` are the declarations an
    unsound, incomplete or mismatched verdict is about; `theorems` are the statements accepted.
    `caveats` are facts that lower what the verdict is worth; `grade` is full or old_kernel.
    `declarations` are all that the kernel accepted twice. `formal` is how a requirement became
    Lean: its statement, the code, who wrote them, what was tried. `certificate` is set for what is
    proved.
    """

    id: str
    status: str
    reason: str = ""
    limit: str = ""
    culprits: Sequence[str] = ()
    theorems: Sequence[Declaration] = ()
    diagnostics: Sequence[Diagnostic] = ()
    sorries: Sequence[Sorry] = ()
    axioms: Sequence[str] = ()
    axioms_complete: bool = False
    replay: str = "not run"
    judged: Judged | None = None
    grade: str = ""
    caveats: Sequence[str] = ()
    lean: Lean | None = None
    us: Mapping[str, int] = field(factory=dict)
    declarations: Sequence[Declaration] = ()
    formal: Mapping[str, Json] = field(factory=dict)
    certificate: Mapping[str, Json] = field(factory=dict)
    wall_s: float = 0.0
    cached: bool = False

    @property
    def proved(self) -> bool:
        """Whether the claim holds, as far as this Lean can tell."""
        return self.status == PROVED
