"""What is measured, and how: every number is checked to come from right answers."""

from __future__ import annotations

import asyncio
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from attrs import frozen
from peers import missing
from server import PIECE, TEXT

if TYPE_CHECKING:
    from peers import Ask, Opener, OpenerNow, Stream

SHORT = 20
"""Pieces of a stream whose beginning is measured."""

Measured = TypeVar("Measured")
Rounds: TypeAlias = Mapping[str, list[Measured]]
"""Per client, one measurement for each round."""

IMPORTS = {
    "import scillm": ("import scillm", ""),
    "from scillm import completion, Router": (
        "from scillm import completion, Router",
        (
            "completion(model='openai/bench', api_base=base, api_key='k', messages=messages)"
            ".choices[0].message.content"
        ),
    ),
    "raw httpx": (
        "import httpx",
        (
            "httpx.post(base + '/chat/completions', json={'model': 'bench', 'messages': messages})"
            ".json()['choices'][0]['message']['content']"
        ),
    ),
    "raw aiohttp": ("import aiohttp, asyncio", "asyncio.run(first())"),
    "openai": (
        "import openai",
        (
            "openai.OpenAI(base_url=base, api_key='k').chat.completions.create("
            "model='bench', messages=messages).choices[0].message.content"
        ),
    ),
}
"""What is imported, and the expression that gives the first answer (empty: nothing to ask)."""

SCRIPT = """
import sys, time
base, messages = sys.argv[1], [{'role': 'user', 'content': 'hi'}]
async def first():
    async with aiohttp.ClientSession() as session:
        body = {'model': 'bench', 'messages': messages}
        async with session.post(base + '/chat/completions', json=body) as reply:
            return (await reply.json())['choices'][0]['message']['content']
start = time.perf_counter()
%s
imported = time.perf_counter()
answer = %s
print(imported - start, time.perf_counter() - start, repr(answer))
"""


class WrongAnswerError(Exception):
    """A client did not give the answer that the server sent; its time means nothing."""


def check(wanted: object, came: object) -> None:
    """Raise `WrongAnswerError` unless they are the same."""
    if wanted != came:
        raise WrongAnswerError(f"{wanted!r} was sent, but {came!r} came out.")


@frozen(kw_only=True)
class Speed:
    """How fast calls were. Seconds."""

    per_s: float
    p50_s: float
    p99_s: float


def speed(spent: list[float], took_s: float) -> Speed:
    """The speed of calls that took so long each, and so long together."""
    ordered = sorted(spent)
    last = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return Speed(per_s=len(spent) / took_s, p50_s=statistics.median(ordered), p99_s=last)


def own_garbage_only() -> None:
    """Let whoever is measured next pay for its own garbage, not for a scan of what others hold.

    LiteLLM leaves 300,000 objects in the process; one full scan of them takes as long as the
    slowest of a thousand calls.
    """
    gc.collect()
    gc.freeze()


def in_turn(
    names: Iterable[str], rounds: int, measure: Callable[[str], Measured]
) -> Rounds[Measured]:
    """`rounds` numbers per name, the names taking turns so that a slow moment hits them all."""
    numbers: dict[str, list[Measured]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, sofar in numbers.items():
            own_garbage_only()
            sofar.append(measure(name))
    return numbers


# -- importing ---------------------------------------------------------------------------------


@frozen(kw_only=True)
class ImportCost:
    """Seconds in a new process; the first answer includes the import, None: nothing is asked."""

    import_s: float
    first_answer_s: float | None


def import_costs(base: str, rounds: int) -> dict[str, ImportCost]:
    """Medians over new processes, after one that warms the disk cache and writes bytecode."""
    costs = {}
    for name in IMPORTS:
        if missing(name):
            continue
        runs = [_import_once(base, name) for _ in range(rounds + 1)][1:]
        asked = IMPORTS[name][1] != ""
        costs[name] = ImportCost(
            import_s=statistics.median(imported for imported, _ in runs),
            first_answer_s=statistics.median(all_ for _, all_ in runs) if asked else None,
        )
    return costs


def _import_once(base: str, name: str) -> tuple[float, float]:
    statement, expression = IMPORTS[name]
    script = SCRIPT % (statement, expression or repr(TEXT))
    done = subprocess.run(
        [sys.executable, "-c", script, base], capture_output=True, text=True, timeout=60, check=True
    )
    imported, answered, answer = done.stdout.split(maxsplit=2)
    check(repr(TEXT), answer.strip())
    return float(imported), float(answered)


# -- one call after the other ------------------------------------------------------------------


def in_sequence(base: str, opener: Opener, calls: int) -> Speed:
    """Calls one after the other, async."""

    async def run() -> Speed:
        async with opener(base) as (ask, _):
            await _warm(ask, 3)
            spent = []
            for _ in range(calls):
                start = time.perf_counter()
                text = await ask()
                spent.append(time.perf_counter() - start)
                check(TEXT, text)
        return speed(spent, sum(spent))

    return asyncio.run(run())


def in_sequence_now(base: str, opener: OpenerNow, calls: int) -> Speed:
    """The same, sync."""
    with opener(base) as ask:
        for _ in range(3):
            check(TEXT, ask())
        spent = []
        for _ in range(calls):
            start = time.perf_counter()
            text = ask()
            spent.append(time.perf_counter() - start)
            check(TEXT, text)
    return speed(spent, sum(spent))


async def _warm(ask: Ask, calls: int) -> None:
    for text in await asyncio.gather(*(ask() for _ in range(calls))):
        check(TEXT, text)


# -- many calls at once ------------------------------------------------------------------------


def at_once(base: str, opener: Opener, calls: int, concurrency: int) -> Speed:
    """Calls with so many in flight all the time; connections are open beforehand."""

    async def run() -> Speed:
        async with opener(base) as (ask, _):
            await _warm(ask, concurrency)
            left, spent = iter(range(calls)), []

            async def work() -> None:
                for _ in left:
                    began = time.perf_counter()
                    text = await ask()
                    spent.append(time.perf_counter() - began)
                    check(TEXT, text)

            start = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(concurrency)))
            return speed(spent, time.perf_counter() - start)

    return asyncio.run(run())


# -- streaming ---------------------------------------------------------------------------------


def per_chunk(base: str, opener: Opener, chunks: int) -> float:
    """Seconds per piece of one streamed answer, from the call to the end."""

    async def run() -> float:
        async with opener(base) as (_, stream):
            await _read(stream, 2)
            start = time.perf_counter()
            await _read(stream, chunks)
            return (time.perf_counter() - start) / chunks

    return asyncio.run(run())


def first_token(base: str, opener: Opener, streams: int) -> float:
    """Median seconds from the call to the first piece of text, over short streams."""

    async def run() -> float:
        async with opener(base) as (_, stream):
            await _read(stream, SHORT)
            return statistics.median([await _read(stream, SHORT) for _ in range(streams)])

    return asyncio.run(run())


async def _read(stream: Stream, chunks: int) -> float:
    """Seconds to the first of `chunks` pieces; all are read and checked."""
    came, first_s = 0, 0.0
    start = time.perf_counter()
    async for piece in stream(chunks):
        if came == 0:
            first_s = time.perf_counter() - start
        check(PIECE, piece)
        came += 1
    check(chunks, came)
    return first_s
