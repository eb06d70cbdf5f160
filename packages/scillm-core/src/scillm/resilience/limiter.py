"""The limiter: calls to one upstream wait their turn, in order, for its pace and for room.

One limiter serves any number of event loops and threads. Its books are kept under a lock that is
never held across an `await`; each waiter sleeps on its own loop, and only the first in line looks
at the clock, so a rest or a slower pace announced meanwhile holds for everyone who still waits.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from math import inf

import anyio

from scillm.errors import RateLimitError
from scillm.resilience.limits import GRAIN_S, Rates
from scillm.resilience.pace import Pace
from scillm.resilience.slot import Slot
from scillm.resilience.waiter import Waiter

LOOK_AGAIN_S = 1.0
"""The first in line looks at the clock at least this often: what it waits for can change."""
MOST_WOKEN = 64
"""So many are woken at once when all of them may start: enough to leave together."""


class Limiter:
    """Lets calls start in the order they came, as `rates` allow. Remembers its line and pace.

    `clock` and `sleep` can be replaced for virtual time; `unix_clock` reads headers that name a
    moment. Neither cancelled waiters nor failed calls keep a place or block those behind them.
    """

    def __init__(
        self,
        rates: Rates | None = None,
        *,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self.rates = rates or Rates()
        self.name = name
        self.clock = clock
        self._sleep = sleep
        self._unix_clock = unix_clock
        self._pace = Pace(self.rates)
        self._room = inf if self.rates.max_concurrency is None else self.rates.max_concurrency
        self._lock = threading.Lock()
        self._line: OrderedDict[Waiter, None] = OrderedDict()
        self._tokens_in_line = 0.0
        self._in_flight = 0

    # -- for calls -----------------------------------------------------------------------------

    def slot(self, tokens: float = 0.0, *, max_wait_s: float = inf) -> Slot:
        """A place for one call that is expected to cost `tokens`.

        Entering it waits for the turn. It raises `RateLimitError` with `retry_after` as soon as it
        is known that rests and rates make the wait longer than `max_wait_s`. How long other calls
        take nobody knows: who has waited longer for them is refused when its turn comes.
        """
        return Slot(self, tokens, max_wait_s)

    def succeeded(
        self, headers: Mapping[str, str] | None = None, *, started_at: float | None = None
    ) -> None:
        """A call was answered; see `Slot.succeeded`."""
        now = self.clock()
        with self._lock:
            self._pace.after_success(now, started_at=started_at)
            if headers:
                self._pace.after_headers(now, headers, unix_now=self._unix_clock())

    def limited(
        self,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        started_at: float | None = None,
    ) -> None:
        """A call was refused for the rate: nothing starts until the rest ends."""
        now = self.clock()
        with self._lock:
            self._pace.after_limit(now, retry_after, started_at=started_at)
            if headers:
                self._pace.after_headers(now, headers, unix_now=self._unix_clock())
            impatient = [waiter for waiter in self._line if waiter.deadline < inf]
        for waiter in impatient:  # some may now see that their wait is too long
            waiter.wake()

    def settle(self, *, expected: float, used: float) -> None:
        """Correct the tokens of a call that has ended."""
        with self._lock:
            self._pace.settle(self.clock(), expected=expected, used=used)

    def take(self, tokens: float) -> float:
        """Use up the turn of a call of `tokens` that has its place; returns the moment."""
        with self._lock:
            now = self.clock()
            self._pace.take(now, tokens)
            return now

    def take_back(self, tokens: float) -> None:
        """Return the turn of a call of `tokens` that did not start."""
        with self._lock:
            self._pace.give_back(tokens)

    def check_wait(self, tokens: float, deadline: float, *, ahead: int) -> None:
        """Raise as `slot` does when `ahead` calls before this one leave it no turn in time."""
        with self._lock:
            now = self.clock()
            self._check(self._pace.wait_s(now, tokens, calls_ahead=ahead), deadline, now)

    # -- for reports ---------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Calls in line."""
        return len(self._line)

    @property
    def in_flight(self) -> int:
        """Calls that hold a slot."""
        return self._in_flight

    @property
    def rate_per_s(self) -> float | None:
        """Calls per second allowed at present; None while no limit is known."""
        return self._pace.rate_per_s

    def rest_s(self) -> float:
        """Seconds until the announced rest ends; 0 when there is none."""
        return max(0.0, self._pace.rest_until - self.clock())

    def wait_s(self, tokens: float = 0.0) -> float:
        """Seconds that rests and rates would make a new call wait now, behind those in line."""
        with self._lock:
            return self._forecast_s(tokens, self.clock())

    def is_free(self) -> bool:
        """Whether a call that came now would start at once."""
        with self._lock:
            if self._line or self._in_flight >= self._room:
                return False
            return self._pace.wait_s(self.clock()) == 0

    def is_idle(self) -> bool:
        """Whether forgetting this limiter would change nothing for anybody."""
        with self._lock:
            return not (self._line or self._in_flight) and self._pace.is_fresh(self.clock())

    # -- the line ------------------------------------------------------------------------------

    def enter_now(self, tokens: float, now: float) -> bool:
        """Take a slot if nobody waits and nothing has to be waited for."""
        with self._lock:
            if self._line or self._in_flight >= self._room or self._pace.wait_s(now, tokens):
                return False
            self._pace.take(now, tokens)
            self._in_flight += 1
            return True

    async def wait_turn(self, tokens: float, deadline: float) -> float:
        """Stand in line; returns the moment at which the call started."""
        me = Waiter(tokens, deadline)
        with self._lock:
            self._check(self._forecast_s(tokens, self.clock()), deadline)
            self._line[me] = None
            self._tokens_in_line += tokens
        try:
            while True:
                with self._lock:
                    now = self.clock()
                    wait = self._wait_of(me, now)
                    if wait == 0:
                        self._pace.take(now, tokens)
                        self._in_flight += 1
                        return now
                    if me.event.is_set():
                        me.event = anyio.Event()
                if wait == inf:
                    await me.event.wait()
                else:
                    await self._sleep(min(wait, LOOK_AGAIN_S))
        finally:
            # Runs without a pause after the slot was taken, so a cancellation either finds the
            # waiter in line, and it leaves, or the slot held, and `async with` gives it back.
            self._step_out(me)
            self._wake_ready()

    def hold(self) -> None:
        """Keep a place beyond the end of its slot, for a stream; `leave` gives it back."""
        with self._lock:
            self._in_flight += 1

    def leave(self) -> None:
        """Give a slot back."""
        with self._lock:
            self._in_flight -= 1
        self._wake_ready()

    def _wait_of(self, me: Waiter, now: float) -> float:
        # Infinity: whoever makes room or leaves the line will wake this waiter.
        wait = self._pace.wait_s(now, me.tokens)
        self._check(wait, me.deadline, now)
        if next(iter(self._line)) is not me or self._in_flight >= self._room:
            return inf
        return wait

    def _forecast_s(self, tokens: float, now: float) -> float:
        return self._pace.wait_s(
            now, tokens, calls_ahead=len(self._line), tokens_ahead=self._tokens_in_line
        )

    def _check(self, wait: float, deadline: float, now: float | None = None) -> None:
        now = self.clock() if now is None else now
        if now + wait > deadline + GRAIN_S:
            came = f"lets the next call start in {wait:.3g} s"
            if not wait:
                came = "made this call wait until others had ended"
            raise RateLimitError(
                f"The limiter {self.name or 'of this upstream'} {came}, but only "
                f"{max(deadline - now, 0):.3g} s of waiting were left. "
                "Nothing was sent. Wait longer, or ask another deployment.",
                retry_after=wait,
            )

    def _wake_ready(self) -> None:
        while True:
            with self._lock:
                ready = self._ready()
            gone = [waiter for waiter in ready if not waiter.wake()]
            if not gone:
                return
            for waiter in gone:
                self._step_out(waiter)  # its event loop has ended without unwinding it

    def _ready(self) -> list[Waiter]:
        # The first, and those behind it that may start in the same moment. Were each woken only by
        # the one before, they would leave one turn of the event loop apart, and when the upstream
        # refuses at random few would be on their way before a refusal holds back the others.
        ready: list[Waiter] = []
        tokens, now = 0.0, self.clock()
        for waiter in islice(self._line, MOST_WOKEN):
            ahead = len(ready)
            if waiter.event.is_set() or (ahead and self._in_flight + ahead >= self._room):
                break
            if ahead and self._pace.wait_s(
                now, waiter.tokens, calls_ahead=ahead, tokens_ahead=tokens
            ):
                break
            ready.append(waiter)
            tokens += waiter.tokens
        return ready

    def _step_out(self, waiter: Waiter) -> None:
        with self._lock:
            if waiter in self._line:
                del self._line[waiter]
                self._tokens_in_line = self._tokens_in_line - waiter.tokens if self._line else 0.0
