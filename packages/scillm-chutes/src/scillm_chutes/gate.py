"""The gate of one key: its calls leave in order and in pace, and none while the key pauses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from scillm_chutes.errors import KeyPausedError, QuotaError
from scillm_chutes.pacing import CAREFUL, LONGEST_BAN_S, KeyPace, PaceRules
from scillm_chutes.pausefile import Pause

if TYPE_CHECKING:
    from scillm.errors import ProviderError

    from scillm_chutes.pausefile import PauseFile

LOOK_AGAIN_S = 0.5
"""A waiting call looks this often whether the key has been paused meanwhile."""


class KeyGate:
    """Where calls of one key wait for their turn, from any task, thread and event loop.

    Remembers the pace, and why the key pauses. `clock` is monotonic, `wall` Unix time; `file`
    keeps pauses for the next start and for other processes.
    """

    def __init__(
        self,
        rules: PaceRules,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        file: PauseFile | None = None,
    ) -> None:
        self._pace = KeyPace(rules)
        self._clock = clock
        self._wall = wall
        self._file = file
        self._lock = threading.Lock()
        self._why = ""
        self._resets_at: float | None = None
        self._quota = False

    @property
    def per_s(self) -> float:
        """Calls per second at present."""
        return self._pace.per_s

    @property
    def bans(self) -> int:
        """Bans in a row."""
        return self._pace.bans

    def pause_s(self) -> float:
        """Seconds until the pause ends; 0 when there is none."""
        self._listen()
        return self._pace.pause_s(self._clock())

    async def turn(self, *, max_wait_s: float) -> float:
        """Wait for a place; returns the moment at which the call may start.

        Raises `KeyPausedError` (or `QuotaError`) at once while the key pauses, also if the pause
        begins during the wait, and when the wait would be longer than `max_wait_s`.
        """
        self.check()
        with self._lock:
            wait = self._pace.reserve(self._clock())
            if wait > max_wait_s:
                self._pace.give_back()
                raise KeyPausedError(
                    f"The key's pace of {self.per_s:.2g} calls/s lets the next one start in "
                    f"{wait:.3g} s, but only {max_wait_s:.3g} s of waiting were allowed. Nothing "
                    "was sent.",
                    retry_after=wait,
                )
        try:
            while wait > 0:
                await anyio.sleep(min(wait, LOOK_AGAIN_S))
                self.check()
                wait -= LOOK_AGAIN_S
        except anyio.get_cancelled_exc_class():
            self.unused()
            raise
        return self._clock()

    def unused(self) -> None:
        """A call that had its turn does not leave after all."""
        with self._lock:
            # A pause has made the books anew; there is nothing of this call in them.
            if not self._pace.pause_s(self._clock()):
                self._pace.give_back()

    def check(self) -> None:
        """Raise while the key pauses."""
        left = self.pause_s()
        if left > 0:
            raise self._refusal(left)

    def hurry(self) -> None:
        """The next call is a failover; it waits less."""
        with self._lock:
            self._pace.hurry()

    def answered(self, *, limit_per_min: float | None = None) -> None:
        """The edge let a call through."""
        with self._lock:
            self._pace.answered(limit_per_min=limit_per_min)

    def limited(self, *, started_at: float, why: str, announced_s: float | None = None) -> float:
        """The edge refused a call; returns how long the key pauses."""
        with self._lock:
            self._why, self._quota, self._resets_at = why, False, None
            wait_s = self._pace.limited(
                self._clock(), started_at=started_at, announced_s=announced_s
            )
            self._tell()
            return wait_s

    def stop(self, seconds: float, *, why: str, resets_at: float | None) -> None:
        """A quota is used up: nothing leaves for `seconds`."""
        with self._lock:
            self._why, self._quota, self._resets_at = why, True, resets_at
            self._pace.stop(self._clock(), seconds)
            self._tell()

    def _tell(self) -> None:
        if self._file is not None:
            self._file.write(
                Pause(
                    until=self._wall() + self._pace.pause_s(self._clock()),
                    bans=self._pace.bans,
                    why=self._why,
                    quota=self._quota,
                    resets_at=self._resets_at,
                )
            )

    def _listen(self) -> None:
        if self._file is None:
            return
        with self._lock:
            pause = self._file.news()
            if pause is None:
                return
            # A wall clock that was wrong when this was written must not silence a key for years.
            left = min(pause.until - self._wall(), LONGEST_BAN_S * CAREFUL)
            now = self._clock()
            if left > self._pace.pause_s(now):
                self._why, self._quota = pause.why, pause.quota
                self._resets_at = pause.resets_at
            self._pace.heard(now, until=now + left, bans=pause.bans)

    def _refusal(self, left: float) -> ProviderError:
        text = f"This Chutes key pauses for another {left:.0f} s: {self._why}. Nothing was sent."
        if self._quota:
            return QuotaError(text, provider="chutes", resets_at=self._resets_at, retry_after=left)
        return KeyPausedError(text, provider="chutes", retry_after=left)
