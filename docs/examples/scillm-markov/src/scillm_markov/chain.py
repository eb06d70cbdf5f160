"""A Markov chain over words: what followed what, and seeded walks through it."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

EDGE = ""
"""Stands before the first and after the last word of a text; `str.split` never gives it."""


def learn(texts: Iterable[str]) -> dict[str, list[str]]:
    """For every word, the words that followed it, as often as they did."""
    chain: dict[str, list[str]] = {}
    for text in texts:
        words = text.split()
        for word, following in zip([EDGE, *words], [*words, EDGE], strict=True):
            chain.setdefault(word, []).append(following)
    return chain


def walk(chain: Mapping[str, Sequence[str]], *, seed: int) -> Iterator[str]:
    """The words of one walk from edge to edge. It can be long: take what you need."""
    dice = Random(seed)
    word = EDGE
    while word := dice.choice(chain[word]):
        yield word
