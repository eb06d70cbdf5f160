"""Luck as a function of a seed, a path and a purpose: no state, so that no order can change it."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")
LOG_4, LOG_5_AND_1 = math.log(4.0), 1.0 + math.log(5.0)
NEARLY_1 = 1.0 + 1e-9
Stream = random.Random
"""What `stream` gives."""


def number(seed: int, *path: object) -> int:
    """64 uniform bits."""
    text = "\x1f".join([str(seed), *map(str, path)]).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def uniform(seed: int, *path: object) -> float:
    """A float in [0, 1)."""
    return (number(seed, *path) >> 11) / 9007199254740992.0


def pick(items: Sequence[Item], seed: int, *path: object) -> Item:
    """One of `items`, each equally likely; no draw is made for a single one."""
    if len(items) == 1:
        return items[0]
    return items[number(seed, *path) % len(items)]


def order(items: Sequence[Item], seed: int, *path: object) -> list[Item]:
    """`items` shuffled."""
    shuffled = list(items)
    stream(seed, *path).shuffle(shuffled)
    return shuffled


def stream(seed: int, *path: object) -> Stream:
    """A generator for one decision that needs many draws, or draws of a distribution."""
    return random.Random(number(seed, *path))  # noqa: S311  (a search, not a secret)


class Shape(NamedTuple):
    """A Beta distribution with both parameters at least 1, and what every draw of it needs."""

    a: float
    b: float
    total: float
    rate: float
    reach: float


def shape(a: float, b: float) -> Shape:
    """Beta(a, b); both at least 1. Where one is 1 its draws need no rejection, so no rate."""
    a, b = (1.0 if side < NEARLY_1 else side for side in (a, b))
    total = a + b
    if a == 1.0 or b == 1.0:
        return Shape(a, b, total, 0.0, 0.0)
    rate = math.sqrt((total - 2.0) / (2.0 * a * b - total))
    return Shape(a, b, total, rate, min(a, b) + 1.0 / rate)


def beta(luck: Stream, of: Shape) -> float:
    """One draw of `of`: Cheng's algorithm BB (1978), half the work of two Gamma draws."""
    a, b, total, rate, reach = of
    draw = luck.random
    if not rate:
        power = 1.0 / a if b == 1.0 else 1.0 / b
        found = math.pow(draw(), power)
        return found if b == 1.0 else 1.0 - found
    low, high = (a, b) if a < b else (b, a)
    while True:
        first, second = draw(), 1.0 - draw()
        if not first:  # its logarithm is asked for
            continue
        v = rate * math.log(first / (1.0 - first))
        w = low * math.exp(v)
        z = first * first * second
        r = reach * v - LOG_4
        s = low + r - w
        if s + LOG_5_AND_1 >= 5.0 * z:
            break
        bound = math.log(z) if z else -math.inf
        if s >= bound or r + total * math.log(total / (high + w)) >= bound:
            break
    return w / (high + w) if low == a else high / (high + w)
