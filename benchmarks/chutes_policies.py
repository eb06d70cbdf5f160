"""Ways to choose a model and a key: three of others, each also with our manners, and ours."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Generator
from functools import partial

from chutes_world import (
    CATALOG,
    LOOK_EVERY_S,
    MODELS,
    MOST_ATTEMPTS,
    REFUSED_S,
    START,
    STICKY_S,
    WALL_S,
    Day,
    Score,
)
from scillm.protocols import RetryState
from scillm.resilience.retry import Backoff, RetryOptions
from scillm_chutes.classify import NEXT, PAUSE_KEY, WARM_UP, classify
from scillm_chutes.errors import ModelFullError
from scillm_chutes.latency import Latencies
from scillm_chutes.memory import Memory
from scillm_chutes.pacing import KeyPace, PaceRules
from scillm_chutes.ranking import RankRules, candidates, rank

Steps = Generator[float, None, float | None]
"""A call on its way: yields the moments at which it goes on; returns the seconds it waited for the
pace and for pauses when it was answered, None when it was not."""


class Keys:
    """The keys as a careful client uses them. Remembers paces, calls in the air, and latencies."""

    def __init__(self, day: Day, luck: random.Random) -> None:
        self.paces = [KeyPace(PaceRules()) for _ in day.keys]
        self.luck = luck
        self.air: Counter[tuple[str, int]] = Counter()
        self.latencies = Latencies()

    def shortest_line(self, model: str, now: float) -> list[int]:
        """The keys that do not pause, fewest calls in the air first, as `least-busy` has it."""
        open_ = [n for n, pace in enumerate(self.paces) if pace.pause_s(now) == 0.0]
        return sorted(open_, key=lambda n: (self.air[model, n], self.luck.random()))

    def place(self, model: str, now: float, left_s: float) -> tuple[int, float] | None:
        """A key, and the seconds until its turn; None where no answer would come in time."""
        most_s = self.latencies.patience_s(model, left_s)
        for key in self.shortest_line(model, now):
            wait = self.paces[key].reserve(now)
            if wait <= most_s:
                return key, wait
            self.paces[key].give_back()
        return None

    def pause_s(self, now: float) -> float:
        """Until the first key is back."""
        return min(pace.pause_s(now) for pace in self.paces)


class Naive:
    """Asks the model that `choose` names, backs off after every failure; knows one kind of 429.

    `elsewhere` moves on to the next model at once instead. With `keys` it is paced and falls
    silent during bans, as ours does; only the choice of models is its own then.
    """

    def __init__(self, day: Day, score: Score, seed: int, *, careful: bool = False) -> None:
        self.day, self.score, self.luck = day, score, random.Random(seed + 2)
        self.backoff = Backoff(RetryOptions(enabled=True, base_s=2.0, max_s=30.0))
        self.turn = 0
        self.chosen, self.chosen_at = "", -math.inf
        self.keys = Keys(day, self.luck) if careful else None

    def choose(self, now: float) -> str:  # noqa: ARG002
        return self.day.truths[0].id

    def elsewhere(self, model: str, status: int, now: float) -> str | None:  # noqa: ARG002
        return None

    def start(self, model: str, now: float, began: float) -> tuple[int, float, bool] | None:
        """Key, seconds to wait, and whether a place is held; None when none comes in time."""
        if self.keys is None:
            return self.turn % len(self.day.keys), 0.0, False
        pause, left_s = self.keys.pause_s(now), WALL_S - (now - began)
        if pause:
            return None if pause > left_s else (0, pause, False)
        found = self.keys.place(model, now, left_s)
        return None if found is None else (*found, True)

    def waited_in_vain(
        self, model: str, key: int, until: float, *, held: bool
    ) -> Generator[float, None, bool]:
        """Wait; whether there is no place then, because all pause or a ban came meanwhile."""
        keys = self.keys
        if keys is None or not held:
            yield until
            return True
        keys.air[model, key] += 1
        yield until
        keys.air[model, key] -= 1
        return keys.paces[key].pause_s(until) > 0.0

    def call(self, began: float) -> Steps:
        now, model, waited, attempt = began, self.choose(began), 0.0, 0
        while attempt < MOST_ATTEMPTS:
            self.turn += 1
            found = self.start(model, now, began)
            if found is None:
                return None
            key, wait, held = found
            if wait:
                now, waited = now + wait, waited + wait
                if (yield from self.waited_in_vain(model, key, now, held=held)):
                    continue
            attempt += 1
            started = now
            status, body = self.day.send(self.score, model, key, now)
            if status == 200:
                now += self.day.takes_s(model, now)
                yield now
                if self.keys is not None:
                    self.keys.paces[key].answered(limit_per_min=60.0)
                    self.keys.latencies.took(model, now - started)
                return waited if now - began <= WALL_S else None
            self.score.wasted += 1
            now += REFUSED_S
            if self.keys is not None and classify(status, body, now=now).reaction == PAUSE_KEY:
                self.keys.paces[key].limited(now, started_at=started)
                yield now
                continue
            other = self.elsewhere(model, status, now)
            if other is None:
                state = RetryState(attempt=attempt, elapsed_s=0, slept_s=0, draw=self.luck.random())
                now += self.backoff.next_delay(ModelFullError("full"), state) or 0.0
            model = other or model
            if now - began > WALL_S:
                return None
            yield now
        return None


class RoundRobin(Naive):
    """Each call the next model; after a failure the next one at once."""

    at = 0

    def choose(self, now: float) -> str:  # noqa: ARG002
        self.at += 1
        return self.day.truths[self.at % MODELS].id

    def elsewhere(self, model: str, status: int, now: float) -> str | None:  # noqa: ARG002
        return self.choose(now)


class Official(Naive):
    """The official router: its formula, its stickiness; fails over at 503 only, never at 429."""

    def choose(self, now: float) -> str:
        if not self.chosen or now - self.chosen_at > STICKY_S:
            self.chosen, self.chosen_at = self.ranked(now)[0], now
        return self.chosen

    def ranked(self, now: float) -> list[str]:
        rules = RankRules(official=True, stale_s=math.inf)
        return candidates(rank(CATALOG(self.day), self.day.look(now), now=START + now, rules=rules))

    def elsewhere(self, model: str, status: int, now: float) -> str | None:
        if status != 503:
            return None
        rest = [name for name in self.ranked(now) if name != model]
        self.chosen, self.chosen_at = rest[0], now
        return rest[0]


class Ours:
    """What `auto_router_from_env` does, without sockets."""

    def __init__(self, day: Day, score: Score, seed: int) -> None:
        self.day, self.score, self.luck = day, score, random.Random(seed + 2)
        self.catalog = CATALOG(day)
        self.memory = Memory()
        self.keys = Keys(day, self.luck)
        self.backoff = Backoff(RetryOptions(enabled=True, base_s=2.0, max_s=30.0))
        self.order: list[str] = []
        self.ranked_at = -math.inf

    def ranked(self, now: float) -> list[str]:
        if now - self.ranked_at >= LOOK_EVERY_S:
            self.rank_again(now)
        return self.order

    def rank_again(self, now: float) -> None:
        incumbent = self.order[0] if self.order else None
        found = candidates(
            rank(
                self.catalog,
                self.day.look(now),
                now=START + now,
                seen=self.memory.seen(now),
                incumbent=incumbent,
            )
        )
        self.order, self.ranked_at = found or self.order, now

    def next_model(self, tried: set[str], now: float) -> str | None:
        for model in self.ranked(now)[:5]:
            if model not in tried and self.memory.rest_s(model, now) == 0.0:
                return model
        return None

    def wait_s(self, rounds: int, now: float) -> float:
        state = RetryState(attempt=rounds, elapsed_s=0, slept_s=0, draw=self.luck.random())
        wait = self.backoff.next_delay(ModelFullError("full"), state) or 0.0
        rests = [self.memory.rest_s(model, now) for model in self.order[:5]]
        return max(wait, min(rests, default=0.0), self.keys.pause_s(now), 0.1)

    def call(self, began: float) -> Steps:
        now, rounds, waited, tried = began, 1, 0.0, set[str]()
        while now - began <= WALL_S:
            pause = self.keys.pause_s(now)
            model = None if pause else self.next_model(tried, now)
            if model is None:
                wait = self.wait_s(rounds, now)
                now, waited = now + wait, waited + (wait if pause else 0.0)
                rounds, tried = rounds + 1, set()
                yield now
                continue
            found = self.keys.place(model, now, WALL_S - (now - began))
            if found is None:
                return None
            key, wait = found
            pace = self.keys.paces[key]
            self.keys.air[model, key] += 1
            if wait:
                now, waited = now + wait, waited + wait
                yield now
                if pace.pause_s(now) or self.memory.rest_s(model, now):
                    if not pace.pause_s(now):
                        pace.give_back()
                    self.keys.air[model, key] -= 1
                    continue
            started = now
            status, body = self.day.send(self.score, model, key, now)
            if status == 200:
                now += self.day.takes_s(model, now)
                yield now
                self.keys.air[model, key] -= 1
                pace.answered(limit_per_min=60.0)
                self.memory.answered(model, now)
                self.keys.latencies.took(model, now - started)
                return waited if now - began <= WALL_S else None
            self.score.wasted += 1
            now += REFUSED_S
            yield now
            self.keys.air[model, key] -= 1
            tried.add(model)
            self.refused(model, pace, status, body, now, started)
        return None

    def refused(
        self, model: str, pace: KeyPace, status: int, body: bytes, now: float, started: float
    ) -> None:
        failure = classify(status, body, now=START + now)
        if failure.reaction == PAUSE_KEY:
            pace.limited(now, started_at=started)
            return
        if failure.reaction in (NEXT, WARM_UP):
            pace.hurry()
        self.memory.refused(model, now, rest_s=failure.rest_s, reason=failure.kind)
        self.rank_again(now)


OURS = "scillm-chutes"
BARE: dict[str, type[Naive]] = {
    "one model, back-off": Naive,
    "round robin": RoundRobin,
    "official formula": Official,
}
MANNERS = " + pace"
"""Marks the others when they have our pacing, our keys' pauses and our choice among keys."""
POLICIES: dict[str, Callable[[Day, Score, int], Naive | Ours]] = {
    **BARE,
    **{f"{name.split(',')[0]}{MANNERS}": partial(cls, careful=True) for name, cls in BARE.items()},
    OURS: Ours,
}
