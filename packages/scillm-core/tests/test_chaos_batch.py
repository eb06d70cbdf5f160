"""`scillm batch run` against a server that breaks in every way, killed again and again.

The bound on what is billed. A request is billed when the model has worked on it: the server then
sends a good answer, or one that is lost on the way (reset inside the body, JSON or body cut,
stalled past the client's patience). An answer that is lost must be paid again, whoever asks. A good
one is paid again only when the client was killed before it was written down: of those there are at
most `width` for each kill, one for every request in flight. So

    billed <= items + lost + kills * width

The bound on a budget of requests. The journal learns what an item has cost together with its
outcome, so that a kill forgets the attempts of the items in flight, and only those: at most
`width` items, each with up to `retry_max_attempts` requests. So

    sent <= budget + kills * width * attempts
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from scillm.runs.journal import scan
from support.chaos import SPARE_FILES, Batch, billed, chaos_server, names, write_requests
from support.scillm_process import Installation

if TYPE_CHECKING:
    from collections.abc import Mapping

ATTEMPTS = 8
"""`retry_max_attempts`, its default."""
SETTLED_KIB = 12 * 1024
"""Ids and places of thousands of answers, allocator's luck; one reply more than kept is 1 KiB."""
TOKENS = {"prompt_tokens": 2, "completion_tokens": 2}
PRICES = {"prompt_tokens": 1000.0, "completion_tokens": 10_000.0}
"""Dollars per million."""
COST = sum(TOKENS[part] * PRICES[part] / 1e6 for part in TOKENS)
"""Of one answer of the server, by its own count of words."""


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def check_whole(batch: Batch, count: int) -> None:
    """Every id exactly once, in order, with its own answer; the journal is sound, nothing else."""
    rows = batch.output()
    texts = [row["response"]["body"]["choices"][0]["message"]["content"] for row in rows]
    outcomes = Counter(row["id"] for row in batch.journal() if row["kind"] == "answer")
    folder = sorted(path.name for path in batch.paths[1].parent.glob("out*"))
    extent = scan(Path(f"{batch.paths[1]}.journal"))  # raises for a line that was changed

    assert extent.torn_bytes == 0
    assert [row["custom_id"] for row in rows] == names(count)
    assert texts == [f"echo:say {name}" for name in names(count)]
    assert outcomes == Counter(names(count))
    assert folder == ["out.jsonl", "out.jsonl.journal"]


def check_billed(batch: Batch, count: int) -> None:
    """The bound of the module's docstring, and: without a kill nothing good is paid twice."""
    book = batch.server.book()
    good, lost = billed(book)
    twice = Counter((epoch, name) for epoch, name, kind in book if kind == "good")
    kinds = {kind for _, _, kind in book}

    assert set(good) == set(names(count))
    assert good.total() <= count + batch.kills * batch.width
    assert good.total() + lost <= count + lost + batch.kills * batch.width
    assert max(twice.values()) == 1
    assert len(kinds) == 10, f"The server was tamer than promised: {kinds}"


def check_nothing_is_left(batch: Batch) -> None:
    """No leg held more than a file per request in flight; all connections are closed."""
    assert max(leg.most_files for leg in batch.legs) <= batch.width + SPARE_FILES
    assert batch.server.counts()["open"] == 0


def test_chaos_and_two_kills_lose_and_double_nothing(here: Installation) -> None:
    """200 requests, every fourth broken, storms, two SIGKILLs: each id is answered exactly once
    and at most the answers in flight at a kill are paid again."""
    luck = Random(20)
    with chaos_server(seed=20, period_s=1.5) as server:
        write_requests(here.folder / "in.jsonl", 200)
        batch = Batch(here=here, server=server, width=16)
        batch.fly_and_kill(luck, kills=2, good=(20, 70))
        batch.fly_to_the_end()

        assert batch.kills == 2
        check_whole(batch, 200)
        check_billed(batch, 200)
        check_nothing_is_left(batch)


@pytest.mark.deep
def test_chaos_and_twenty_kills_lose_and_double_nothing(here: Installation) -> None:
    """The same with 5,000 requests, 64 in flight and 20 kills; memory does not grow."""
    luck = Random(5000)
    with chaos_server(seed=5000) as server:
        write_requests(here.folder / "in.jsonl", 5000)
        batch = Batch(here=here, server=server, width=64)
        batch.fly_and_kill(luck, kills=20, good=(20, 280))
        batch.fly_to_the_end()

        assert batch.kills == 20
        check_whole(batch, 5000)
        check_billed(batch, 5000)
        check_nothing_is_left(batch)
        long = max(batch.legs, key=lambda leg: len(leg.memory_kib))
        assert len(long.memory_kib) >= 50
        assert max(long.memory_kib) - long.memory_kib[0] <= SETTLED_KIB


# -- budgets ---------------------------------------------------------------------------------------


def forgotten(batch: Batch) -> int:
    """Requests that left in a killed leg for items whose outcome it did not write down."""
    pages: list[set[str]] = []
    for row in batch.journal():
        if row["kind"] == "start":
            pages.append(set())
        else:
            pages[-1].add(row.get("id") or row["of"])
    killed = {leg.epoch for leg in batch.legs if leg.is_killed}
    by_epoch = dict(zip((leg.epoch for leg in batch.legs), pages, strict=True))
    book = batch.server.book()
    return sum(epoch in killed and name not in by_epoch[epoch] for epoch, name, _ in book)


def spend_under_chaos(
    here: Installation, *, count: int, kills: int, width: int, options: Mapping[str, str]
) -> Batch:
    """A batch that is killed, and then stopped by its budget, and its last leg."""
    luck = Random(count)
    words = [word for pair in options.items() for word in pair]
    with chaos_server(seed=count, period_s=1.5) as server:
        write_requests(here.folder / "in.jsonl", count)
        batch = Batch(here=here, server=server, width=width, options=words)
        batch.fly_and_kill(luck, kills=kills, good=(5, 20 if kills < 5 else 50))
        for _ in range(12):
            if "budget" in batch.fly().said:
                break
        stopped, spent = batch.legs[-1], forgotten(batch)
        check_budget(batch, options, spent)

        assert batch.kills == kills
        assert stopped.code == 1
        assert "earlier runs included" in stopped.said
        batch.options = ()
        batch.fly_to_the_end()
        check_whole(batch, count)
        check_billed_once(batch, count)
    return batch


def check_budget(batch: Batch, options: Mapping[str, str], spent: int) -> None:
    """Nothing was overrun but by what kills forgot, which is bounded too."""
    book = batch.server.book()
    good, lost = billed(book)

    assert spent <= batch.kills * batch.width * ATTEMPTS
    if "--budget-requests" in options:
        assert len(book) <= int(options["--budget-requests"]) + spent
    else:
        cost = COST * (good.total() + lost)
        assert cost <= float(options["--budget-usd"]) + COST * spent


def check_billed_once(batch: Batch, count: int) -> None:
    """As without a budget."""
    good, _ = billed(batch.server.book())

    assert good.total() <= count + batch.kills * batch.width


MONEY = {
    "--budget-usd": "2.5",
    "--input-price": str(PRICES["prompt_tokens"]),
    "--output-price": str(PRICES["completion_tokens"]),
}


@pytest.mark.parametrize("options", [{"--budget-requests": "100"}, MONEY])
def test_chaos_and_a_kill_overrun_no_budget(here: Installation, options: dict[str, str]) -> None:
    """A batch's budget holds over kills, but for what was in flight then; a larger one goes on."""
    batch = spend_under_chaos(here, count=120, kills=1, width=8, options=options)

    assert len(batch.legs) >= 3


@pytest.mark.deep
@pytest.mark.parametrize(
    "options", [{"--budget-requests": "1500"}, {**MONEY, "--budget-usd": "25"}]
)
def test_chaos_and_ten_kills_overrun_no_budget(here: Installation, options: dict[str, str]) -> None:
    """The same with 2,000 requests, 64 in flight and ten kills."""
    batch = spend_under_chaos(here, count=2000, kills=10, width=64, options=options)

    assert len(batch.legs) >= 12
