"""One value per event loop, closed when its loop ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from anyio.lowlevel import RunVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable


class Closable(Protocol):
    """Something that can let go of what it holds, as often as it is asked to."""

    async def aclose(self) -> None:
        """Let go."""
        ...


Kept = TypeVar("Kept", bound=Closable)


class PerLoop(Generic[Kept]):
    """Makes a value at its first use on an event loop. Remembers it for as long as that runs."""

    def __init__(self, make: Callable[[], Kept]) -> None:
        self._make = make
        self._kept: RunVar[tuple[Kept, AsyncGenerator[None, None]]] = RunVar("scillm-per-loop")

    async def get(self) -> Kept:
        """The value of the running loop."""
        kept = self._kept.get(None)
        if kept is None:
            value = self._make()
            guard = _until_loop_ends(value)
            self._kept.set((value, guard))
            await guard.__anext__()
            return value
        return kept[0]

    async def aclose(self) -> None:
        """Close the value of the running loop, if there is one; it stays usable."""
        kept = self._kept.get(None)
        if kept is not None:
            await kept[0].aclose()


async def _until_loop_ends(value: Closable) -> AsyncGenerator[None, None]:
    # An event loop closes started async generators when it ends; that is the only moment at which
    # connections kept for a next call can still be closed without the caller's help.
    try:
        yield
    finally:
        await value.aclose()
