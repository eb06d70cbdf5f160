"""The roles a plugin can play, and what the host lends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scillm.errors import ScillmError
    from scillm.events import Event
    from scillm.models import Completion, CompletionChunk, EmbeddingResponse
    from scillm.records import (
        ChatRequest,
        Claim,
        EmbeddingRequest,
        Endpoint,
        HttpCall,
        HttpReply,
        HttpStream,
        Job,
        JobResult,
        Json,
        Limits,
        Outcome,
        Trial,
        Verdict,
    )


@runtime_checkable
class Provider(Protocol):
    """Answers a request."""

    async def complete(self, request: ChatRequest, /) -> Completion:
        """Answer `request`, or raise a `ProviderError` or `UsageError`."""
        ...


@runtime_checkable
class Streams(Protocol):
    """A provider that can answer piece by piece."""

    def stream(
        self, request: ChatRequest, /
    ) -> AbstractAsyncContextManager[AsyncIterator[CompletionChunk]]:
        """Open the answer to `request`; leaving the context closes the upstream."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """A provider that can turn texts into vectors."""

    async def embed(self, request: EmbeddingRequest, /) -> EmbeddingResponse:
        """One vector per piece of the input, in its order; raises as `Provider.complete` does."""
        ...


@runtime_checkable
class Lists(Protocol):
    """A provider that can name its models."""

    async def models(self) -> Sequence[str]:
        """Model ids in the order of the upstream."""
        ...


@runtime_checkable
class Closes(Protocol):
    """Something that holds resources."""

    async def aclose(self) -> None:
        """Release them; a second call does nothing."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Works on a whole job; what stands behind a bridge."""

    async def run(self, job: Job, /) -> JobResult:
        """Work on every item of `job`; a failing item fails alone."""
        ...


@frozen(kw_only=True)
class RetryState:
    """What a retry policy may know. `attempt` counts from 1; `draw` is uniform in [0, 1)."""

    attempt: int
    elapsed_s: float
    slept_s: float
    draw: float


@runtime_checkable
class RetryPolicy(Protocol):
    """Decides how long to wait. Pure."""

    def next_delay(self, error: ScillmError, state: RetryState, /) -> float | None:
        """Seconds to wait before the next try, or None to give up."""
        ...


@runtime_checkable
class Strategy(Protocol):
    """Chooses what to try next. Pure and seeded; holds no I/O."""

    def ask(self) -> Trial | None:
        """The next trial, or None; None while no trial is outstanding means finished."""
        ...

    def tell(self, trial: Trial, outcome: Outcome, /) -> None:
        """Take note of what an asked trial gave."""
        ...

    def report(self) -> Mapping[str, Json]:
        """What was learnt; holds at least `best`, an arm or None."""
        ...


@runtime_checkable
class Verifier(Protocol):
    """Checks claims."""

    async def verify(self, claims: Sequence[Claim], /, *, limits: Limits) -> Sequence[Verdict]:
        """One verdict per claim, in the order of the claims."""
        ...


@runtime_checkable
class Transport(Protocol):
    """Carries HTTP. The host lends it; plugins never import an HTTP library."""

    async def send(self, call: HttpCall, /) -> HttpReply:
        """Send and read the whole reply; raises `APIConnectionError` or `APITimeoutError`."""
        ...

    def stream(self, call: HttpCall, /) -> AbstractAsyncContextManager[HttpStream]:
        """Send and hand over the body as it arrives; leaving the context closes the connection."""
        ...


@frozen(kw_only=True)
class KeptProgram:
    """A program that a sandbox is to keep running. Paths are absolute.

    `argv[0]` is its file. It may read `shown` (files, and folders with all that is in them) besides
    the system's own programs and libraries, and nothing else of the host.
    """

    argv: Sequence[str]
    shown: Sequence[str] = ()
    environment: Mapping[str, str] = field(factory=dict)
    memory_mb: int
    """The most it may hold."""


class Kept(Protocol):
    """A process that a sandbox keeps. One caller at a time reads; it ends with its sandbox."""

    @property
    def pid(self) -> int | None:
        """Its number on the host, None before it is known."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        ...

    async def started(self) -> Mapping[str, Json]:
        """Wait until the program runs; how it is held, and at which `level`.

        Raises `SandboxError` when it could not be started.
        """
        ...

    async def read(self) -> bytes:
        """Some bytes of its stdout as soon as there are any; empty at its end."""
        ...

    async def write(self, data: bytes, /) -> bool:
        """Hand `data` to its stdin; False when it no longer listens."""
        ...

    async def ending(self) -> str:
        """How it ended, and the last it wrote to stderr, in words."""
        ...

    def kill(self) -> None:
        """End and reap it; a second call does nothing."""
        ...


@runtime_checkable
class Keeps(Protocol):
    """A sandbox that can keep a process which is asked for hours, beside running programs."""

    def keep(self, program: KeptProgram, /) -> Kept:
        """Start `program`, which comes up by itself, awaited or not.

        Raises `SandboxError` where this sandbox cannot, `UsageError` for a program that is none.
        """
        ...


class Plugins(Protocol):
    """The registry as a plugin sees it: what one package needs of another, it asks for by name."""

    def names(self, group: str, /) -> Sequence[str]:
        """Names offered in an entry-point group, from metadata only."""
        ...

    def get(self, group: str, name: str, /) -> object:
        """The object behind a name; raises `PluginError`."""
        ...


@frozen(kw_only=True)
class Host:
    """What the host lends to a provider it builds."""

    transport: Transport
    plugins: Plugins
    settings: Mapping[str, Json]
    """Values by setting name, see `scillm config`."""
    emit: Callable[[Event], None]


ProviderFactory: TypeAlias = Callable[["Endpoint", Host], Provider]
"""What an entry point of `scillm.providers` names: a class or function taking these two."""

Evaluate: TypeAlias = Callable[["Trial"], Awaitable["Outcome"]]
"""Runs one trial of a search."""
