"""Plain records: what is asked, what goes over the wire, what is tried, claimed and stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import evolve, field, frozen

Json: TypeAlias = Any
"""A value as `json.loads` gives it: None, bool, int, float, str, list or dict of these."""

Message: TypeAlias = Mapping[str, Json]
"""One chat message in the OpenAI form; it stays exactly as the caller wrote it."""


# -- asking ------------------------------------------------------------------------------------


@frozen(kw_only=True)
class ChatRequest:
    """One question to one model. `params` go to the provider untouched."""

    model: str
    messages: Sequence[Message] = ()
    params: Mapping[str, Json] = field(factory=dict)
    stream: bool = False
    timeout_s: float = 600.0
    requested_model: str = ""
    """What the caller asked for, before any alias was resolved."""


@frozen(kw_only=True)
class EmbeddingRequest:
    """Texts to be turned into vectors by one model. `params` go to the provider untouched.

    `input` is a text or a list of texts; or a list of token numbers, or a list of such lists.
    """

    model: str
    input: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]
    params: Mapping[str, Json] = field(factory=dict)
    timeout_s: float = 600.0
    requested_model: str = ""
    """What the caller asked for, before any alias was resolved."""

    @property
    def pieces(self) -> Sequence[str | Sequence[int]]:
        """Each text, or list of token numbers, that gets a vector of its own."""
        given: Any = self.input
        is_one = isinstance(given, str) or isinstance(given[0], int)
        return [given] if is_one else given


@frozen(kw_only=True)
class Endpoint:
    """Where a provider is reached, and with which credentials. Secrets are never shown by repr."""

    provider: str
    api_base: str | None = None
    api_key: str | None = field(default=None, repr=False)
    extra_headers: Mapping[str, str] = field(factory=dict, repr=False)
    name: str = ""
    """The deployment's name in reports; the provider's own name when nothing else was given."""

    @property
    def label(self) -> str:
        """What reports call this endpoint."""
        return self.name or self.provider

    def secrets(self) -> tuple[str, ...]:
        """Every string of this endpoint that must never be shown."""
        values = [self.api_key or "", *self.extra_headers.values()]
        bare = [value.split(" ", 1)[1] for value in values if value.lower().startswith("bearer ")]
        return tuple(value for value in (*values, *bare) if len(value) >= MIN_SECRET_CHARS)


MIN_SECRET_CHARS = 4
"""Shorter strings are not masked: they would blank out ordinary words."""


@frozen(kw_only=True)
class Attempt:
    """One try of a call: where it went, how it ended, how long it took."""

    endpoint: str
    model: str
    outcome: str
    """`ok`, the name of the error class, or `cancelled`."""
    status_code: int | None = None
    elapsed_s: float = 0.0
    message: str = ""
    hedge: bool = False
    """Whether it was the extra request of a hedged call."""
    billed: bool = False
    """Whether the upstream may charge for it: it answered, or nobody knows whether it did."""


# -- wire --------------------------------------------------------------------------------------


@frozen(kw_only=True)
class HttpCall:
    """One HTTP request, ready to be sent. Header names are lower case."""

    method: str
    url: str
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    timeout_s: float = 600.0
    """Longest silence on the socket; for `Transport.send` also the whole exchange."""


@frozen(kw_only=True)
class HttpReply:
    """A whole HTTP reply. Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = field(default=b"", repr=False)


@frozen(kw_only=True)
class HttpStream:
    """The head of an HTTP reply whose body is still arriving."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


# -- searching ---------------------------------------------------------------------------------


@frozen(kw_only=True)
class Trial:
    """A strategy's request to try `arm`. `new` asks for an arm that does not exist yet.

    A new arm's name is provisional until the outcome tells its content hash; `parent` is the arm
    to start from, None for a fresh draft.
    """

    number: int
    arm: str
    new: bool = False
    parent: str | None = None
    kind: str = "run"
    """What one pull is: `run` (all of the arm), `case` (one test case), `timing`, `generate`."""
    payload: Json = None
    """What the kind needs: `{"case": 3}` for a case; for `generate` hints, or None."""


@frozen(kw_only=True)
class Outcome:
    """What a trial gave. `score` is None when nothing could be scored, and `reason` says why.

    Higher scores are better. No score is the candidate's own failure; `withdrawn` says that the
    evaluation failed instead, and that the strategy must take the trial back as if never asked.
    """

    score: float | None
    status: str = "ok"
    reason: str = ""
    detail: Json = None
    arm: str | None = None
    """Content hash of the arm a `new` trial made; a known hash means the same arm again."""
    withdrawn: bool = False
    cost: Mapping[str, float] = field(factory=dict)
    """What the trial used up: `executions`, `tokens`, `usd`; a missing key is nothing."""
    features: Mapping[str, float | str] = field(factory=dict)
    """Where an archive keeps the arm: numbers such as its length, texts such as its signature."""


# -- checking ----------------------------------------------------------------------------------


@frozen(kw_only=True)
class Limits:
    """How much one piece of work may use."""

    time_s: float = 60.0
    memory_mb: int = 512
    output_bytes: int = 1_000_000


@frozen(kw_only=True)
class Claim:
    """Something that is said to hold; the verifier knows what `statement` means."""

    id: str
    statement: Json
    context: Mapping[str, Json] = field(factory=dict)


@frozen(kw_only=True)
class Verdict:
    """What a verifier found. `holds` is None when it could not decide, and `reason` says why."""

    claim_id: str
    holds: bool | None
    status: str
    reason: str = ""
    evidence: Mapping[str, Json] = field(factory=dict)


# -- running and keeping -----------------------------------------------------------------------


@frozen(kw_only=True)
class Job:
    """Work for an engine. The same job with the same seed gives the same findings."""

    engine: str
    items: Sequence[Mapping[str, Json]]
    options: Mapping[str, Json] = field(factory=dict)
    seed: int = 0


@frozen(kw_only=True)
class Finding:
    """The part of a result that a replay must reproduce.

    `digest` covers `value` in canonical JSON; timings and other measurements stay out of it.
    """

    id: str
    value: Json
    digest: str


@frozen(kw_only=True)
class JobResult:
    """What an engine did: a summary, one result per item, and the findings a replay compares."""

    summary: Mapping[str, Json]
    results: Sequence[Mapping[str, Json]]
    findings: Sequence[Finding]
    environment: Mapping[str, Json] = field(factory=dict)
    """What the engine ran on: isolation level, interpreter, limits."""


# -- describing --------------------------------------------------------------------------------


@frozen(kw_only=True)
class Setting:
    """One value that can come from the environment.

    `env` lists variable names, first set wins. `kind` is one of str, int, float, bool, path, names.
    """

    name: str
    env: Sequence[str]
    doc: str
    kind: str = "str"
    default: Json = None
    secret: bool = False


@frozen(kw_only=True)
class Check:
    """One line of `scillm doctor`. `ok` is None when the check was not run."""

    name: str
    ok: bool | None
    detail: str = ""
    fix: str = ""


__all__ = [
    "MIN_SECRET_CHARS",
    "Attempt",
    "ChatRequest",
    "Check",
    "Claim",
    "EmbeddingRequest",
    "Endpoint",
    "Finding",
    "HttpCall",
    "HttpReply",
    "HttpStream",
    "Job",
    "JobResult",
    "Json",
    "Limits",
    "Message",
    "Outcome",
    "Setting",
    "Trial",
    "Verdict",
    "evolve",
]
