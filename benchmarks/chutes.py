"""A day at Chutes in virtual time: our router beside three others.

python benchmarks/chutes.py [--calls 100000] [--seed 7] [--svg docs/chutes/day.svg]

The world is invented (load waves, outages, an edge limiter with doubling bans as the fake has it,
other programs that overrun the limit of the same keys, a feed that is up to fifty minutes old); the
decisions are `rank`, `Memory`, `KeyPace`, `classify` and the core's `Backoff` as they ship. The
same seed gives the same world to every policy, and the same table.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import sys
from collections.abc import Callable, Generator
from pathlib import Path

from attrs import define, field, frozen
from scillm.protocols import RetryState
from scillm.resilience.retry import Backoff, RetryOptions
from scillm_chutes.classify import NEXT, PAUSE_KEY, WARM_UP, classify
from scillm_chutes.errors import ModelFullError
from scillm_chutes.fake.accounts import FakeAccount
from scillm_chutes.fake.answers import page
from scillm_chutes.fake.site import CAPACITY
from scillm_chutes.memory import Memory
from scillm_chutes.pacing import KeyPace, PaceRules
from scillm_chutes.ranking import RankRules, candidates, rank
from scillm_chutes.records import Busyness, Catalog, Feed, Model

DAY_S = 86_400.0
HOUR_S = 3600.0
START = 1_795_046_400.0  # a midnight UTC
MODELS = 10
KEYS = 3
FOREIGN_BANS = 5
WALL_S = 120.0
MOST_ATTEMPTS = 8
REFUSED_S = 0.25
FEED_EVERY_S = 1800.0
FEED_WORK_S = 1200.0
LOOK_EVERY_S = 45.0
STEP_S = 60.0
STICKY_S = 1800.0

Steps = Generator[float, None, bool]
"""A call on its way: yields the moments at which it goes on, returns whether it was answered."""


@frozen(kw_only=True)
class Truth:
    """How one model really is, minute by minute."""

    id: str
    instances: int
    used: tuple[float, ...]
    down: tuple[bool, ...]

    def minute(self, now: float) -> int:
        return min(int(now / STEP_S), len(self.used) - 1)

    def refusal(self, now: float) -> float:
        """Chance that a call finds no room: none below .75 of use, rising to .97."""
        return min(0.97, max(0.0, (self.used[self.minute(now)] - 0.75) / 0.25) ** 1.5)


def world_of(seed: int) -> list[Truth]:
    """Ten models with waves of their own, noise, rushes and outages."""
    luck = random.Random(seed)
    minutes = int(DAY_S / STEP_S) + 10
    found = []
    for number in range(MODELS):
        base, swing = luck.uniform(0.5, 0.85), luck.uniform(0.1, 0.3)
        peak, noise = luck.uniform(0.0, DAY_S), 0.0
        rushes = [(luck.uniform(0, DAY_S), luck.uniform(600, 5400)) for _ in range(5)]
        outages = [(luck.uniform(0, DAY_S), luck.uniform(1200, 7200)) for _ in range(2)]
        used, down = [], []
        for minute in range(minutes):
            now = minute * STEP_S
            noise = 0.97 * noise + luck.gauss(0.0, 0.02)
            level = base + swing * math.cos(2 * math.pi * (now - peak) / DAY_S) + noise
            level += 0.35 * any(at <= now < at + long for at, long in rushes)
            used.append(min(1.0, max(0.02, level)))
            down.append(any(at <= now < at + long for at, long in outages))
        name = f"vendor{number}/Model-{number}-{8 * (number + 1)}B"
        found.append(
            Truth(id=name, instances=luck.randint(2, 12), used=tuple(used), down=tuple(down))
        )
    return found


def feed_at(world: list[Truth], now: float) -> Feed:
    """The newest batch that is finished at `now`: measured 20 minutes before it appears."""
    batch = math.floor((now - FEED_WORK_S) / FEED_EVERY_S) * FEED_EVERY_S
    rows = {}
    for truth in world:
        at = max(batch, 0.0)

        def mean(seconds: float, truth: Truth = truth, at: float = at) -> float:
            last = truth.minute(at)
            some = truth.used[max(0, last - int(seconds / STEP_S)) : last + 1]
            return sum(some) / len(some)

        rows[truth.id] = Busyness(
            name=truth.id,
            used_now=truth.used[truth.minute(at)],
            used_5m=mean(300),
            used_15m=mean(900),
            used_1h=mean(3600),
            refused_5m=truth.refusal(at),
            refused_15m=truth.refusal(max(0.0, at - 450)),
            refused_1h=truth.refusal(max(0.0, at - 1800)),
            active=0 if truth.down[truth.minute(at)] else truth.instances,
        )
    return Feed(rows=rows, at=START + max(batch, 0.0))


@define
class Score:
    """What one policy got out of the day."""

    name: str
    calls: int = 0
    answered: int = 0
    sent: int = 0
    wasted: int = 0
    in_bans: int = 0
    latencies: list[float] = field(factory=list)
    by_hour: list[list[int]] = field(factory=lambda: [[0, 0] for _ in range(24)])
    banned_s: float = 0.0


class Day:
    """The world with its keys; what is sent is answered or refused as the service would."""

    def __init__(self, world: list[Truth], seed: int) -> None:
        self.world = {truth.id: truth for truth in world}
        self.truths = world
        self.luck = random.Random(seed + 1)
        self.keys = [FakeAccount(key=f"cpk_{number}") for number in range(KEYS)]
        # Another program on the same key overruns the limit now and then.
        self.bans = [
            sorted(self.luck.uniform(0.0, DAY_S) for _ in range(FOREIGN_BANS)) for _ in self.keys
        ]
        self.feed = feed_at(world, 0.0)
        self._looked = 0.0

    def look(self, now: float) -> Feed:
        if now - self._looked >= LOOK_EVERY_S:
            self._looked, self.feed = now, feed_at(self.truths, now)
        return self.feed

    def send(self, score: Score, model: str, key: int, now: float) -> tuple[int, bytes]:
        """Status and body of one call."""
        account, truth = self.keys[key], self.world[model]
        score.sent += 1
        while self.bans[key] and self.bans[key][0] <= now:
            at = self.bans[key].pop(0)
            account.ban(at)
            score.banned_s += min(account.banned_until, DAY_S) - at
        before = account.bans
        if not account.admit(now):
            score.in_bans += account.bans == before
            if account.bans > before:
                score.banned_s += min(account.banned_until, DAY_S) - now
            return 429, page("429 Too Many Requests")
        if truth.down[truth.minute(now)]:
            return 503, b'{"detail": "No instances available (yet) for chute_id=\'x\'"}'
        if self.luck.random() < truth.refusal(now):
            return 429, json.dumps({"detail": CAPACITY}).encode()
        return 200, b""

    def takes_s(self, model: str, now: float) -> float:
        truth = self.world[model]
        slow = 1.0 / (1.0 - 0.7 * truth.used[truth.minute(now)])
        return 1.2 * slow * self.luck.lognormvariate(0.0, 0.35)


class Naive:
    """Asks the model that `choose` names, backs off after every failure; knows one kind of 429.

    `elsewhere` moves on to the next model at once instead, once round.
    """

    def __init__(self, day: Day, score: Score, seed: int) -> None:
        self.day, self.score, self.luck = day, score, random.Random(seed + 2)
        self.backoff = Backoff(RetryOptions(enabled=True, base_s=2.0, max_s=30.0))
        self.turn = 0
        self.chosen, self.chosen_at = "", -math.inf

    def choose(self, now: float) -> str:  # noqa: ARG002
        return self.day.truths[0].id

    def elsewhere(self, model: str, status: int, now: float) -> str | None:  # noqa: ARG002
        return None

    def call(self, began: float) -> Steps:
        now, model = began, self.choose(began)
        for attempt in range(1, MOST_ATTEMPTS + 1):
            self.turn += 1
            status, _body = self.day.send(self.score, model, self.turn % KEYS, now)
            if status == 200:
                now += self.day.takes_s(model, now)
                yield now
                return now - began <= WALL_S
            self.score.wasted += 1
            now += REFUSED_S
            other = self.elsewhere(model, status, now)
            if other is None:
                state = RetryState(attempt=attempt, elapsed_s=0, slept_s=0, draw=self.luck.random())
                now += self.backoff.next_delay(ModelFullError("full"), state) or 0.0
            model = other or model
            if now - began > WALL_S:
                return False
            yield now
        return False


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


def CATALOG(day: Day) -> Catalog:  # noqa: N802 - one catalog per day
    return Catalog(models=[Model(id=truth.id) for truth in day.truths], at=START)


class Ours:
    """What `auto_router_from_env` does, without sockets."""

    def __init__(self, day: Day, score: Score, seed: int) -> None:
        self.day, self.score, self.luck = day, score, random.Random(seed + 2)
        self.catalog = CATALOG(day)
        self.memory = Memory()
        self.paces = [KeyPace(PaceRules()) for _ in range(KEYS)]
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

    def next_leg(self, tried: set[str], now: float) -> tuple[str, int] | None:
        open_ = [n for n in range(KEYS) if self.paces[n].pause_s(now) == 0.0]
        for model in self.ranked(now)[:5]:
            if open_ and model not in tried and self.memory.rest_s(model, now) == 0.0:
                return model, open_[int(self.luck.random() * len(open_))]
        return None

    def wait_s(self, rounds: int, now: float) -> float:
        state = RetryState(attempt=rounds, elapsed_s=0, slept_s=0, draw=self.luck.random())
        wait = self.backoff.next_delay(ModelFullError("full"), state) or 0.0
        rests = [self.memory.rest_s(model, now) for model in self.order[:5]]
        pauses = [pace.pause_s(now) for pace in self.paces]
        return max(wait, min(rests, default=0.0), min(pauses), 0.1)

    def call(self, began: float) -> Steps:
        now, rounds, tried = began, 1, set[str]()
        while now - began <= WALL_S:
            leg = self.next_leg(tried, now)
            if leg is None:
                now += self.wait_s(rounds, now)
                rounds, tried = rounds + 1, set()
                yield now
                continue
            model, key = leg
            pace = self.paces[key]
            wait = pace.reserve(now)
            if wait:
                now += wait
                yield now
                if pace.pause_s(now) or self.memory.rest_s(model, now):
                    continue
            started = now
            status, body = self.day.send(self.score, model, key, now)
            if status == 200:
                now += self.day.takes_s(model, now)
                yield now
                pace.answered(limit_per_min=60.0)
                self.memory.answered(model, now)
                return now - began <= WALL_S
            self.score.wasted += 1
            now += REFUSED_S
            yield now
            tried.add(model)
            self.refused(model, pace, status, body, now, started)
        return False

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


POLICIES: dict[str, Callable[[Day, Score, int], Naive | Ours]] = {
    "one model, back-off": Naive,
    "round robin": RoundRobin,
    "official formula": Official,
    "scillm-chutes": Ours,
}


def arrivals(calls: int, seed: int) -> list[float]:
    """Moments of calls: a wave with its peak in the afternoon."""
    luck = random.Random(seed + 3)
    found: list[float] = []
    while len(found) < calls:
        at = luck.random() * DAY_S
        if luck.random() < 0.6 + 0.4 * math.cos(2 * math.pi * (at / DAY_S - 0.6)):
            found.append(at)
    return sorted(found)


def play(name: str, *, calls: int, seed: int) -> Score:
    """One policy's day."""
    score = Score(name)
    day = Day(world_of(seed), seed)
    policy = POLICIES[name](day, score, seed)
    heap: list[tuple[float, int, float, Steps]] = []
    for number, at in enumerate(arrivals(calls, seed)):
        heap.append((at, number, at, policy.call(at)))
    heapq.heapify(heap)
    while heap:
        now, number, began, steps = heapq.heappop(heap)
        try:
            heapq.heappush(heap, (max(now, next(steps)), number, began, steps))
        except StopIteration as ended:
            hour = score.by_hour[min(23, int(began / HOUR_S))]
            score.calls += 1
            hour[1] += 1
            if ended.value:
                score.answered += 1
                hour[0] += 1
                score.latencies.append(now - began)
    return score


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def table(scores: list[Score]) -> str:
    """The comparison, a line per policy."""
    head = (
        f"{'policy':<22}{'answered':>9}{'failed':>8}{'p50 s':>8}{'p95 s':>8}"
        f"{'wasted':>9}{'in bans':>9}{'ban h':>8}"
    )
    return "\n".join([head, *map(line_of, scores)])


def line_of(s: Score) -> str:
    return (
        f"{s.name:<22}{s.answered / s.calls:>9.2%}{s.calls - s.answered:>8,}"
        f"{percentile(s.latencies, 0.5):>8.2f}{percentile(s.latencies, 0.95):>8.2f}"
        f"{s.wasted:>9,}{s.in_bans:>9,}{s.banned_s / HOUR_S:>8.2f}"
    )


COLOURS = ("#b45f06", "#777777", "#3d6db5", "#1b7f4d")


def svg(scores: list[Score], calls: int, seed: int) -> str:
    """Share of answered calls by hour, and wasted calls, as one drawing."""
    wide, high, left, top = 760, 470, 60, 40

    def x(hour: float) -> float:
        return left + hour * 28.0

    def y(share: float) -> float:
        return top + (1.0 - share) * 220.0

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" '
            'font-family="sans-serif" font-size="12" role="img">'
        ),
        "<title>A simulated day: answered calls by hour, and wasted calls</title>",
        f'<rect width="{wide}" height="{high}" fill="#ffffff"/>',
        (
            f'<text x="{left}" y="22" font-size="14">Answered within {WALL_S:.0f} s, by hour '
            f"({calls:,} calls, seed {seed}; simulated)</text>"
        ),
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(
            f'<line x1="{left}" x2="{x(23)}" y1="{y(share)}" y2="{y(share)}" stroke="#ddd"/>'
        )
        parts.append(
            f'<text x="{left - 8}" y="{y(share) + 4}" text-anchor="end">{share:.0%}</text>'
        )
    parts += [
        f'<text x="{x(hour)}" y="{y(0) + 18}" text-anchor="middle">{hour} h</text>'
        for hour in range(0, 24, 3)
    ]
    most = max(max(s.wasted for s in scores), 1)
    for number, (s, colour) in enumerate(zip(scores, COLOURS, strict=True)):
        points = " ".join(
            f"{x(h):.1f},{y(a / n if n else 1):.1f}" for h, (a, n) in enumerate(s.by_hour)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        row = 320 + number * 34
        long = 380.0 * s.wasted / most
        parts.append(f'<text x="{left}" y="{row + 14}">{s.name}</text>')
        parts.append(
            f'<rect x="220" y="{row}" width="{max(long, 1):.1f}" height="20" fill="{colour}"/>'
        )
        parts.append(f'<text x="{228 + long:.1f}" y="{row + 14}">{s.wasted:,}</text>')
    parts.append('<text x="60" y="308" font-size="14">Calls sent in vain</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--svg", type=Path)
    args = parser.parse_args()
    scores = [play(name, calls=args.calls, seed=args.seed) for name in POLICIES]
    print(table(scores))
    if args.svg is not None:
        args.svg.parent.mkdir(parents=True, exist_ok=True)
        args.svg.write_text(svg(scores, args.calls, args.seed), "utf-8")
    ours, others = scores[-1], scores[:-1]
    ahead = all(ours.answered > s.answered and ours.wasted < s.wasted for s in others)
    print("ahead of all in answers and waste:", "yes" if ahead else "NO")
    return 0 if ahead else 1


if __name__ == "__main__":
    sys.exit(main())
