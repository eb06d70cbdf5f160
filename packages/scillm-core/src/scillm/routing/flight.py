"""One call in the air: one endpoint after the other until one answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar

from attrs import field, frozen

from scillm.errors import PluginError, ProviderError, ScillmError, UsageError
from scillm.events import AttemptFailed, AttemptStarted, AttemptSucceeded, Event
from scillm.protocols import Streams
from scillm.records import Attempt, Json, evolve

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from scillm.models import Completion, CompletionChunk
    from scillm.protocols import Provider
    from scillm.records import ChatRequest, Endpoint

Answer = TypeVar("Answer")


@frozen(kw_only=True)
class Leg:
    """One endpoint a call may go to, with the request as it is asked there."""

    endpoint: Endpoint
    request: ChatRequest
    provider: Callable[[], Provider] = field(repr=False)
    group: str = ""


class Flight:
    """Tries `legs` in order; moves on only where the error says another endpoint may answer.

    Remembers the attempts.
    """

    def __init__(self, legs: Sequence[Leg], *, call_id: str, emit: Callable[[Event], None]) -> None:
        self.legs = legs
        self.attempts: list[Attempt] = []
        self._call_id = call_id
        self._emit = emit

    async def complete(self) -> Completion:
        """The first answer, stamped; otherwise the last error, with every attempt on it."""

        async def ask(leg: Leg) -> Completion:
            return await leg.provider().complete(leg.request)

        leg, completion = await self._first(ask)
        return stamped(completion, self.side_information(leg, completion.model))

    async def open(self) -> tuple[Leg, OpenStream]:
        """The first stream whose first chunk arrived; otherwise the last error."""
        return await self._first(OpenStream.begin)

    def side_information(self, leg: Leg, served: str) -> dict[str, Json]:
        """What `additional_kwargs` says about the call: three model ids, endpoint, attempts."""
        meta: dict[str, Json] = {
            "requested_model": leg.request.requested_model,
            "resolved_model": leg.request.model,
            "served_model": served or None,
            "provider": leg.endpoint.provider,
            "endpoint": leg.endpoint.label,
            "attempts": [_attempt_json(attempt) for attempt in self.attempts],
        }
        side: dict[str, Json] = {"scillm": meta}
        if leg.group:
            side["router"] = {
                "model_group": leg.group,
                "deployment": leg.endpoint.label,
                "provider": leg.endpoint.provider,
                "attempts": len(self.attempts),
            }
        return side

    async def _first(self, ask: Callable[[Leg], Awaitable[Answer]]) -> tuple[Leg, Answer]:
        for number, leg in enumerate(self.legs, start=1):
            started = time.monotonic()
            self._emit(AttemptStarted(number=number, **self._where(leg)))
            try:
                answer = await ask(leg)
            except ScillmError as error:
                elapsed_s = time.monotonic() - started
                moving_on = _can_move_on(error) and number < len(self.legs)
                self._failed(error, leg, number=number, elapsed_s=elapsed_s, moving_on=moving_on)
                if not moving_on:
                    raise
            else:
                elapsed_s = time.monotonic() - started
                self.attempts.append(
                    Attempt(
                        endpoint=leg.endpoint.label,
                        model=leg.request.model,
                        outcome="ok",
                        elapsed_s=elapsed_s,
                    )
                )
                self._emit(AttemptSucceeded(number=number, elapsed_s=elapsed_s, **self._where(leg)))
                return leg, answer
        raise UsageError("There is no endpoint to ask.")

    def _failed(
        self, error: ScillmError, leg: Leg, *, number: int, elapsed_s: float, moving_on: bool
    ) -> None:
        status = error.status_code if isinstance(error, ProviderError) else None
        self.attempts.append(
            Attempt(
                endpoint=leg.endpoint.label,
                model=leg.request.model,
                outcome=type(error).__name__,
                status_code=status,
                elapsed_s=elapsed_s,
                message=error.message,
            )
        )
        if isinstance(error, ProviderError):
            error.attempts = tuple(self.attempts)
        self._emit(
            AttemptFailed(
                number=number,
                elapsed_s=elapsed_s,
                error=type(error).__name__,
                status_code=status,
                retry_after=error.retry_after if isinstance(error, ProviderError) else None,
                moving_on=moving_on,
                **self._where(leg),
            )
        )

    def _where(self, leg: Leg) -> dict[str, str]:
        return {
            "call_id": self._call_id,
            "endpoint": leg.endpoint.label,
            "provider": leg.endpoint.provider,
            "model": leg.request.model,
        }


class OpenStream:
    """A stream whose first chunk is here. Remembers the provider's context until it is closed."""

    def __init__(
        self,
        context: AbstractAsyncContextManager[AsyncIterator[CompletionChunk]],
        chunks: AsyncIterator[CompletionChunk],
        first: CompletionChunk | None,
    ) -> None:
        self.first = first
        self.chunks = chunks
        self._context: AbstractAsyncContextManager[AsyncIterator[CompletionChunk]] | None = context

    @classmethod
    async def begin(cls, leg: Leg) -> OpenStream:
        """Open the stream of `leg` and wait for its first chunk."""
        provider = leg.provider()
        if not isinstance(provider, Streams):
            raise UsageError(f"The provider {leg.endpoint.provider!r} cannot stream.")
        context = provider.stream(leg.request)
        chunks = await context.__aenter__()
        try:
            first = await anext(chunks, None)
        except BaseException as error:
            await context.__aexit__(type(error), error, error.__traceback__)
            raise
        return cls(context, chunks, first)

    async def aclose(self) -> None:
        """Close the upstream; a second call does nothing."""
        context, self._context = self._context, None
        if context is not None:
            await context.__aexit__(None, None, None)


def _can_move_on(error: ScillmError) -> bool:
    # A plugin that cannot be loaded is that deployment's trouble; another may still answer.
    return error.try_elsewhere or isinstance(error, PluginError)


def stamped(completion: Completion, side: dict[str, Json]) -> Completion:
    """`completion` with `side` in its additional_kwargs; what the provider put there stays."""
    kept = completion.additional_kwargs
    both = {
        key: {**kept[key], **value} if isinstance(kept.get(key), dict) else value
        for key, value in side.items()
    }
    return evolve(completion, additional_kwargs={**kept, **both})


def _attempt_json(attempt: Attempt) -> dict[str, Json]:
    return {
        "endpoint": attempt.endpoint,
        "model": attempt.model,
        "outcome": attempt.outcome,
        "status_code": attempt.status_code,
        "elapsed_s": round(attempt.elapsed_s, 6),
        "message": attempt.message,
    }
