"""Two problems with a scripted generator: programs are text, one line of which is evolved.

Standard library only: the peers import this file inside their own virtual environments.
"""

from __future__ import annotations

import hashlib
import random
import re

LINE = re.compile(r"^CHOICES = \[([^\]]*)\]", re.MULTILINE)


def luck(*path: object) -> random.Random:
    """A generator that is a function of `path` alone."""
    text = "/".join(map(str, path)).encode()
    return random.Random(int.from_bytes(hashlib.sha256(text).digest()[:8], "big"))


def choices_of(code: str) -> list[int]:
    """The evolved numbers: the last such line of a program or a prompt."""
    return [int(part) for part in LINE.findall(code)[-1].split(",")]


class Modules:
    """K-module: four hidden choices out of five each; only the number of right ones is told."""

    name = "K-module"
    budget = 100
    solved = 1.0

    def __init__(self, seed: int) -> None:
        draw = luck("modules", seed)
        # The start is all wrong, so that no search begins with a part of the answer.
        self.hidden = [draw.randrange(1, 5) for _ in range(4)]

    def program(self, choices: list[int]) -> str:
        return f"CHOICES = {choices}\n\n\ndef run():\n    return CHOICES\n"

    def first(self) -> str:
        return self.program([0, 0, 0, 0])

    def rewrite(self, parent: str | None, draw: random.Random) -> str:
        """One choice changed to another; without a parent, all drawn."""
        if parent is None:
            return self.program([draw.randrange(5) for _ in range(4)])
        choices = choices_of(parent)
        place = draw.randrange(4)
        choices[place] = (choices[place] + draw.randrange(1, 5)) % 5
        return self.program(choices)

    def score(self, code: str) -> float:
        return sum(a == b for a, b in zip(choices_of(code), self.hidden, strict=True)) / 4


EDGES = (0, 1, 3, 6, 10, 15, 25, 40, 60)
"""A bin's priority is looked up by the room it would have left; the last entry is for more."""
CAPACITY = 150


class Packing:
    """FunSearch's online bin packing: a program is the priority of a bin by the room left in it.

    Items follow OR-library's recipe (sizes 20 to 100, capacity 150). The score is the lower bound
    on the number of bins divided by the bins used.
    """

    name = "bin packing"
    budget = 100
    solved = None

    def __init__(self, seed: int) -> None:
        draw = luck("items", seed)
        self.instances = [[draw.randint(20, 100) for _ in range(250)] for _ in range(3)]

    def program(self, choices: list[int]) -> str:
        return (
            f"CHOICES = {choices}\n\n\ndef priority(left):\n"
            f"    return CHOICES[sum(left > edge for edge in {EDGES})]\n"
        )

    def first(self) -> str:
        """All bins alike, and the first that fits is taken: first fit."""
        return self.program([0] * (len(EDGES) + 1))

    def rewrite(self, parent: str | None, draw: random.Random) -> str:
        """One or two priorities changed to others; without a parent, all drawn."""
        if parent is None:
            return self.program([draw.randint(-9, 9) for _ in range(len(EDGES) + 1)])
        choices = choices_of(parent)
        for place in draw.sample(range(len(choices)), draw.randint(1, 2)):
            choices[place] = (choices[place] + 9 + draw.randrange(1, 19)) % 19 - 9
        return self.program(choices)

    def score(self, code: str) -> float:
        table = choices_of(code)
        by_left = [table[sum(left > edge for edge in EDGES)] for left in range(CAPACITY + 1)]
        shares = [lower_bound(items) / bins_used(items, by_left) for items in self.instances]
        return sum(shares) / len(shares)


def bins_used(items: list[int], by_left: list[int]) -> int:
    bins: list[int] = []
    for item in items:
        best, place = None, -1
        for index, room in enumerate(bins):
            if room >= item and (best is None or by_left[room - item] > best):
                best, place = by_left[room - item], index
        if place < 0:
            bins.append(CAPACITY - item)
        else:
            bins[place] -= item
    return len(bins)


def lower_bound(items: list[int]) -> int:
    return -(-sum(items) // CAPACITY)


PROBLEMS = {"modules": Modules, "packing": Packing}
