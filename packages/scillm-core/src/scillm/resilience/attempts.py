"""Trying again (stamina's door): entered only after a first failure, so that success is free."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from scillm.errors import ScillmError

Answer = TypeVar("Answer")


async def try_again(
    first: ScillmError,
    work: Callable[[], Awaitable[Answer]],
    wait_for: Callable[[ScillmError], float | None],
) -> Answer:
    """Run `work` until it succeeds or `wait_for` says None; then the last error is raised.

    `wait_for` is asked after every failure, `first` included, and bounds the loop: it gives the
    seconds to wait. Errors other than `ScillmError` end it at once. stamina iterates and sleeps.
    """
    import stamina

    _quiet_without_logging()

    def on(error: Exception) -> bool | float:
        wait_s = wait_for(error) if isinstance(error, ScillmError) else None
        return False if wait_s is None else wait_s

    async for attempt in stamina.retry_context(on=on, attempts=None, timeout=None):
        with attempt:
            if attempt.num == 1:
                raise first
            return await work()
    raise first


def _quiet_without_logging() -> None:
    # stamina logs each retry as a warning, which Python prints to stderr when the program has set
    # up no logging. Programs that have keep seeing it.
    logger = logging.getLogger("stamina")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
