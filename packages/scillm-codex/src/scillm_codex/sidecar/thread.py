"""One ephemeral thread of Codex's: opened, told its history, asked, interrupted, let go."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
from attrs import frozen
from scillm.errors import (
    APITimeoutError,
    BadRequestError,
    InternalServerError,
    ProviderError,
    ScillmError,
)

from scillm_codex.sidecar.rpc import RpcError
from scillm_codex.sidecar.turn import Ended, Piece, Turn

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_codex.sidecar.child import Child
    from scillm_codex.sidecar.plan import Plan
    from scillm_codex.sidecar.rpc import Notes, Rpc

LETTING_GO_S = 5.0
REQUEST_CODES = frozenset({-32600, -32602})
"""JSON-RPC's codes for a call that is itself wrong."""


@frozen(kw_only=True)
class Thread:
    """An open thread."""

    id: str
    rpc: Rpc
    notes: Notes
    idle_s: float


@asynccontextmanager
async def opened(child: Child, plan: Plan, *, idle_s: float) -> AsyncIterator[Thread]:
    """A thread with the plan's history; leaving lets Codex forget it."""
    rpc = child.rpc
    with refusals_as_errors():
        name, notes = await rpc.open(plan.thread)
        thread = Thread(id=name, rpc=rpc, notes=notes, idle_s=idle_s)
        try:
            if plan.history:
                items = {"threadId": name, "items": list(plan.history)}
                await rpc.call("thread/inject_items", items)
            yield thread
        finally:
            rpc.forget(name)
            thread.notes.close()
            with anyio.move_on_after(LETTING_GO_S, shield=True), suppress(ScillmError):
                await rpc.post("thread/unsubscribe", {"threadId": name})


async def run_turn(
    thread: Thread, plan: Plan, params: Mapping[str, Json]
) -> AsyncGenerator[Piece | Ended, None]:
    """The pieces of one turn, then its end; closing it earlier interrupts the turn.

    Raises the error of a failed turn, `APITimeoutError` after `idle_s` of silence.
    """
    # An interrupt needs the turn's id.
    reply = await thread.rpc.settle("turn/start", {"threadId": thread.id, **params})
    turn_id = reply["turn"]["id"]
    turn = Turn(turn_id, tools=plan.tools, one_call=plan.one_call)
    running = True
    try:
        while True:
            for event in turn.read(await _next(thread)):
                if isinstance(event, Ended):
                    running = event.running
                    if event.error is not None:
                        raise event.error
                    yield event
                    return
                yield event
    finally:
        if running:
            await _interrupt(thread, turn_id)


async def _next(thread: Thread) -> Mapping[str, Json]:
    with anyio.move_on_after(thread.idle_s or None):
        try:
            return await thread.notes.receive()
        except anyio.EndOfStream:
            raise thread.rpc.gone() from None
    raise APITimeoutError(
        f"Codex said nothing for {thread.idle_s:g} s; the turn was stopped.",
        provider="codex",
        status_code=504,
    )


async def _interrupt(thread: Thread, turn_id: str) -> None:
    with anyio.move_on_after(LETTING_GO_S, shield=True), suppress(ScillmError):
        # Codex takes 100 ms to confirm; nobody needs to wait for that.
        await thread.rpc.post("turn/interrupt", {"threadId": thread.id, "turnId": turn_id})


class refusals_as_errors:  # noqa: N801 - reads as a statement
    """Turns Codex's refusal of a call into a `ProviderError`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, RpcError):
            raise refusal(error) from error


def refusal(error: RpcError) -> ProviderError:
    """What a refused call is to the client."""
    cls = BadRequestError if error.code in REQUEST_CODES else InternalServerError
    status = 400 if cls is BadRequestError else 500
    return cls(f"Codex refuses this: {error.message}", provider="codex", status_code=status)
