"""A day at Chutes that is invented: models with load and outages, keys, an edge, arrivals."""

from __future__ import annotations

import json
import math
import random

from attrs import define, field, frozen
from scillm_chutes.fake.accounts import FakeAccount
from scillm_chutes.fake.answers import page
from scillm_chutes.fake.inference import CAPACITY
from scillm_chutes.records import Busyness, Catalog, Feed, Model

DAY_S = 86_400.0
HOUR_S = 3600.0
START = 1_795_046_400.0  # a midnight UTC
MODELS = 10
WALL_S = 120.0
MOST_ATTEMPTS = 8
REFUSED_S = 0.25
FEED_EVERY_S = 1800.0
FEED_WORK_S = 1200.0
LOOK_EVERY_S = 45.0
STEP_S = 60.0
STICKY_S = 1800.0


@frozen(kw_only=True)
class World:
    """How hard the day is. `base` is the range of the models' mean use."""

    name: str
    keys: int
    base: tuple[float, float]
    foreign_bans: int


WORLDS = {
    # The first one tried: round robin already answers everything there.
    "mild": World(name="mild", keys=4, base=(0.45, 0.75), foreign_bans=0),
    "rough": World(name="rough", keys=3, base=(0.5, 0.85), foreign_bans=5),
}


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
        over = max(0.0, (self.used[self.minute(now)] - 0.75) / 0.25)
        return min(0.97, math.pow(over, 1.5))


def models_of(world: World, seed: int) -> list[Truth]:
    """Ten models with waves of their own, noise, rushes and outages."""
    luck = random.Random(seed)
    minutes = int(DAY_S / STEP_S) + 10
    found = []
    for number in range(MODELS):
        base, swing = luck.uniform(*world.base), luck.uniform(0.1, 0.3)
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
    waits: list[float] = field(factory=list)
    by_hour: list[list[int]] = field(factory=lambda: [[0, 0] for _ in range(24)])
    banned_s: float = 0.0

    def numbers(self) -> dict[str, float]:
        """The columns of the table."""
        late = [WALL_S] * (self.calls - self.answered)
        return {
            "answered %": 100.0 * self.answered / self.calls,
            "wasted": float(self.wasted),
            "in bans": float(self.in_bans),
            "ban h": self.banned_s / HOUR_S,
            "p50 s": percentile(self.latencies, 0.5),
            "p95 s": percentile(self.latencies, 0.95),
            "p95 all": percentile(self.latencies + late, 0.95),
            "wait p95": percentile(self.waits, 0.95),
        }


class Day:
    """The world with its keys; what is sent is answered or refused as the service would."""

    def __init__(self, world: World, seed: int) -> None:
        self.truths = models_of(world, seed)
        self.world = {truth.id: truth for truth in self.truths}
        self.luck = random.Random(seed + 1)
        self.keys = [FakeAccount(key=f"cpk_{number}") for number in range(world.keys)]
        # Another program on the same key overruns the limit now and then.
        self.bans = [
            sorted(self.luck.uniform(0.0, DAY_S) for _ in range(world.foreign_bans))
            for _ in self.keys
        ]
        self.feed = feed_at(self.truths, 0.0)
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


def CATALOG(day: Day) -> Catalog:  # noqa: N802 - one catalog per day
    return Catalog(models=[Model(id=truth.id) for truth in day.truths], at=START)


def arrivals(calls: int, seed: int) -> list[float]:
    """Moments of calls: a wave with its peak in the afternoon."""
    luck = random.Random(seed + 3)
    found: list[float] = []
    while len(found) < calls:
        at = luck.random() * DAY_S
        if luck.random() < 0.6 + 0.4 * math.cos(2 * math.pi * (at / DAY_S - 0.6)):
            found.append(at)
    return sorted(found)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan
