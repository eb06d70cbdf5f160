"""`run_batch`: every item has one answer or one stated failure, and nothing is asked twice."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import lowlevel
from scillm.batch.buckets import AsyncTokenBucket, TokenBucket
from scillm.batch.checkpoint import JsonlCheckpoint
from scillm.batch.progress import Progress, duration_text, left_s, rate_per_s
from scillm.batch.runner import run_batch, run_batch_sync
from scillm.errors import BudgetExceededError, RateLimitError, UsageError
from scillm.models import ChatMessage, Choice, Completion
from scillm.runs.chain import JournalLockedError
from support.behaviours import Stall
from support.faulty import CHAT_PATH, FaultyServer
from support.strict_chat import answer


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def items(count: int) -> list[dict[str, Any]]:
    return [{"id": n, "text": f"t{n}"} for n in range(count)]


def answers(path: Path) -> dict[Any, Any]:
    rows = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    found = {row["id"]: row["out"] for row in rows}
    assert len(found) == len(rows)
    return found


async def upper(item: dict[str, Any]) -> str:
    await lowlevel.checkpoint()
    return str(item["text"]).upper()


class Asked:
    """Counts calls, and how many run at once."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.ids: list[Any] = []
        self.now = self.most = 0
        self._pause_s = pause_s

    async def __call__(self, item: dict[str, Any]) -> str:
        self.ids.append(item["id"])
        self.now += 1
        self.most = max(self.most, self.now)
        await anyio.sleep(self._pause_s)
        self.now -= 1
        return "ok"


@pytest.mark.anyio
async def test_every_item_is_answered_once(tmp_path: Path) -> None:
    """The call form of old: positional, with a bucket; the results file has a line per item."""
    bucket = AsyncTokenBucket(1000.0, 100)
    path = await run_batch(
        items(20), "id", upper, tmp_path / "r.jsonl", bucket=bucket, max_concurrency=4
    )

    assert path == tmp_path / "r.jsonl"
    assert answers(path) == {n: f"T{n}" for n in range(20)}
    assert bucket.stats()["acquired"] == 20


@pytest.mark.anyio
async def test_a_later_run_asks_only_what_is_open(tmp_path: Path) -> None:
    """Answered items are skipped, new ones are asked, named arguments work."""
    path = tmp_path / "r.jsonl"
    await run_batch(items=items(5), id_key="id", fn=upper, checkpoint_path=path)
    asked = Asked()
    await run_batch(items=items(8), id_key="id", fn=asked, checkpoint_path=path)

    assert sorted(asked.ids) == [5, 6, 7]
    assert len(answers(path)) == 8


@pytest.mark.anyio
async def test_a_failing_item_fails_alone_and_is_tried_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure has class, message and whether another try can help; a later run asks again."""
    path = tmp_path / "r.jsonl"

    async def moody(item: dict[str, Any]) -> str:
        if item["id"] == 1:
            raise RateLimitError("slow down", status_code=429)
        if item["id"] == 2:
            raise ValueError("a bug")
        return "fine"

    with caplog.at_level(logging.WARNING):
        await run_batch(items(4), "id", moody, path)
    failed = {failure.id: failure for failure in JsonlCheckpoint(path).failures()}
    first = answers(path)
    kept = Asked()
    await run_batch(items(4), "id", kept, path, retry_failed=False)
    again = Asked()
    await run_batch(items(4), "id", again, path)

    assert sorted(first) == [0, 3]
    assert (failed["1"].type, failed["1"].message, failed["1"].retryable) == (
        "RateLimitError",
        "slow down",
        True,
    )
    assert (failed["2"].type, failed["2"].message, failed["2"].retryable) == (
        "ValueError",
        "a bug",
        False,
    )
    assert "2 items have no answer" in caplog.text
    assert kept.ids == []
    assert sorted(again.ids) == [1, 2]
    assert sorted(answers(path)) == [0, 1, 2, 3]
    assert JsonlCheckpoint(path).failures() == []


@pytest.mark.anyio
async def test_an_answer_that_is_not_json_is_a_failure(tmp_path: Path) -> None:
    """What cannot be kept is stated, and harms no other item."""
    path = tmp_path / "r.jsonl"

    async def odd(item: dict[str, Any]) -> object:
        deep: list[Any] = []
        for _ in range(300):
            deep = [deep]
        return {1: {1, 2}, 2: float("nan"), 4: deep}.get(item["id"], "fine")

    await run_batch(items(5), "id", odd, path)

    assert sorted(answers(path)) == [0, 3]
    assert {f.id: f.type for f in JsonlCheckpoint(path).failures()} == {
        "1": "TypeError",
        "2": "ValueError",
        "4": "ValueError",
    }


@pytest.mark.anyio
async def test_a_completion_is_kept_as_plain_json(tmp_path: Path) -> None:
    """What `acompletion` returns can be returned as it is."""

    async def ask(item: dict[str, Any]) -> Completion:
        return Completion(id="c", choices=[Choice(message=ChatMessage(content="hi"))])

    path = await run_batch(items(1), "id", ask, tmp_path / "r.jsonl")

    assert answers(path)[0]["choices"][0]["message"]["content"] == "hi"


@pytest.mark.anyio
async def test_items_without_an_id_are_stated_by_their_index_once(tmp_path: Path) -> None:
    """An item without an id is never asked; its failure names its place, once over all runs."""
    path = tmp_path / "r.jsonl"
    mixed = [{"id": "a", "text": "x"}, {"text": "y"}, {"id": None}, "text"]
    for _ in range(2):
        await run_batch(mixed, "id", upper, path)
    failures = JsonlCheckpoint(path).failures()

    assert answers(path) == {"a": "X"}
    assert [(f.id, f.index, f.type) for f in failures] == [
        (None, 1, "MissingId"),
        (None, 2, "MissingId"),
        (None, 3, "MissingId"),
    ]
    assert "Item 1 needs an id" in failures[0].message
    assert len((tmp_path / "r.jsonl.journal").read_bytes().splitlines()) == 4


@pytest.mark.anyio
async def test_an_id_that_comes_twice_is_asked_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Duplicates are told with their ids; 1 and "1" are one id."""
    asked = Asked()
    told: list[Progress] = []
    twice = [*items(5), *items(3), {"id": "4", "text": "x"}]
    with caplog.at_level(logging.WARNING):
        path = await run_batch(twice, "id", asked, tmp_path / "r", on_progress=told.append)

    assert sorted(asked.ids) == [0, 1, 2, 3, 4]
    assert sorted(answers(path)) == [0, 1, 2, 3, 4]
    assert (told[-1].duplicates, told[-1].done) == (4, 5)
    assert "4 items were not asked because their id came before" in caplog.text


@pytest.mark.anyio
async def test_items_are_taken_only_as_workers_become_free(tmp_path: Path) -> None:
    """An endless input is fine: never more is taken than in flight, and `stop_on` ends it."""
    taken = 0
    most_ahead = 0
    finished = 0

    def endless() -> Iterator[dict[str, Any]]:
        nonlocal taken, most_ahead
        while True:
            taken += 1
            most_ahead = max(most_ahead, taken - finished)
            yield {"id": taken}

    async def fn(item: dict[str, Any]) -> str:
        nonlocal finished
        await lowlevel.checkpoint()
        if item["id"] == 100:
            raise BudgetExceededError("no money left")
        finished += 1
        return "ok"

    with pytest.raises(BudgetExceededError):
        await run_batch(
            endless(),
            "id",
            fn,
            tmp_path / "r",
            max_concurrency=5,
            stop_on=(BudgetExceededError,),
        )

    # One more per worker: an item counts as finished a moment before it is written down.
    assert most_ahead <= 10
    done = answers(tmp_path / "r")
    assert set(range(1, 96)) <= set(done)
    assert 100 not in done
    assert JsonlCheckpoint(tmp_path / "r").failures() == []


@pytest.mark.anyio
async def test_no_more_than_max_concurrency_run_at_once(tmp_path: Path) -> None:
    """The width is reached and never passed; without one it is 16."""
    asked, plain = Asked(0.01), Asked(0.01)
    await run_batch(items(20), "id", asked, tmp_path / "a", max_concurrency=3)
    await run_batch(items(40), "id", plain, tmp_path / "b")

    assert (asked.most, plain.most) == (3, 16)
    with pytest.raises(UsageError, match="max_concurrency"):
        await run_batch(items(1), "id", asked, tmp_path / "c", max_concurrency=0)


@pytest.mark.anyio
async def test_cancelling_finishes_what_is_in_flight(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a cancel no item is taken, those in flight are written down, the log says how to go
    on, and going on asks none of them again."""
    path = tmp_path / "r.jsonl"
    first = Asked(0.05)
    told: list[Progress] = []
    with caplog.at_level(logging.WARNING), anyio.move_on_after(0.12) as scope:
        await run_batch(items(100), "id", first, path, max_concurrency=4, on_progress=told.append)
    kept = answers(path)
    second = Asked()
    await run_batch(items(100), "id", second, path)

    assert scope.cancelled_caught
    assert sorted(kept) == sorted(first.ids)
    assert 4 <= len(first.ids) < 100
    assert any(progress.stopping for progress in told)
    assert told[-1].in_flight == 0
    assert "Run it again with the same checkpoint" in caplog.text
    assert sorted(first.ids + second.ids) == list(range(100))


@pytest.mark.anyio
async def test_what_does_not_end_in_time_is_cut_off(tmp_path: Path) -> None:
    """A stopped run waits `grace_s` and no longer; what was cut off is asked again."""
    path = tmp_path / "r.jsonl"
    stuck = Asked(1000.0)
    told: list[Progress] = []
    started = time.monotonic()
    with anyio.move_on_after(0.05):
        await run_batch(
            items(9), "id", stuck, path, max_concurrency=2, grace_s=0.1, on_progress=told.append
        )

    assert time.monotonic() - started < 10
    assert (told[-1].dropped, told[-1].in_flight) == (2, 0)
    assert answers(path) == {}
    assert JsonlCheckpoint(path).failures() == []


@pytest.mark.anyio
async def test_a_broken_input_ends_the_run_after_what_is_in_flight(tmp_path: Path) -> None:
    """An exception of the input comes out as it is; answers so far are kept."""

    def breaks() -> Iterator[dict[str, Any]]:
        yield from items(6)
        raise OSError("the disk with the input is gone")

    with pytest.raises(OSError, match="is gone"):
        await run_batch(breaks(), "id", Asked(0.02), tmp_path / "r", max_concurrency=3)

    assert sorted(answers(tmp_path / "r")) == list(range(6))


@pytest.mark.anyio
@pytest.mark.parametrize("when", ["at once", "while stopping"])
async def test_a_listener_that_raises_ends_the_run(tmp_path: Path, when: str) -> None:
    """A bug in `on_progress` is not hidden."""

    def listener(progress: Progress) -> None:
        if when == "at once" or progress.stopping:
            raise KeyError("my bug")

    async def fn(item: dict[str, Any]) -> str:
        if item["id"] == 3:
            raise BudgetExceededError("stop")
        return "ok"

    with pytest.raises((KeyError, BudgetExceededError)):
        await run_batch(
            items(9), "id", fn, tmp_path / "r", stop_on=(BudgetExceededError,), on_progress=listener
        )


@pytest.mark.anyio
async def test_an_ordinary_function_runs_in_threads(tmp_path: Path) -> None:
    """A blocking function blocks nobody: several run at once, and a bucket for threads holds."""
    together = threading.Barrier(3, timeout=10)

    def blocking(item: dict[str, Any]) -> str:
        together.wait()
        return threading.current_thread().name

    bucket = TokenBucket(1000.0, 100)
    path = await run_batch(
        items(9), "id", blocking, tmp_path / "r", bucket=bucket, max_concurrency=3
    )

    assert len(answers(path)) == 9
    assert threading.current_thread().name not in answers(path).values()
    assert bucket.stats()["acquired"] == 9


@pytest.mark.anyio
async def test_a_function_that_returns_an_awaitable_is_awaited(tmp_path: Path) -> None:
    """`fn=lambda item: acompletion(…)` works."""
    path = await run_batch(items(3), "id", lambda item: upper(item), tmp_path / "r")

    assert answers(path) == {0: "T0", 1: "T1", 2: "T2"}


@pytest.mark.anyio
async def test_a_bucket_really_paces_a_batch(tmp_path: Path) -> None:
    """N items at rate r and capacity b take at least (N-b)/r: (12-2)/40 = 0.25 s."""
    started = time.monotonic()
    await run_batch(items(12), "id", upper, tmp_path / "r", bucket=AsyncTokenBucket(40.0, 2))

    assert time.monotonic() - started >= 0.25


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"fn": 3}, "fn must be a function"),
        ({"items": {"id": 1}}, "items must be a list"),
        ({"items": None}, "items must be a list"),
        ({"max_concurrency": "4"}, "max_concurrency must be at least 1, but is '4'"),
        ({"max_concurrency": 0}, "max_concurrency must be at least 1"),
        ({"bucket": 3.0}, "bucket must be a TokenBucket"),
        ({"stop_on": ValueError}, "stop_on must be a tuple of exception classes"),
        ({"grace_s": -1}, "grace_s must be seconds"),
    ],
)
def test_a_wrong_argument_is_said_and_nothing_is_written(
    tmp_path: Path, wrong: dict[str, Any], told: str
) -> None:
    """Before an item is taken: not one failure for each item."""
    given: dict[str, Any] = {"items": items(3), "fn": Asked(), **wrong}
    with pytest.raises(UsageError, match=told):
        run_batch_sync(given.pop("items"), "id", checkpoint_path=tmp_path / "r", **given)

    assert not list(tmp_path.iterdir())


@pytest.mark.anyio
async def test_a_second_run_at_the_same_time_is_refused(tmp_path: Path) -> None:
    """Two runs cannot share a checkpoint; the second asks nothing."""
    path = tmp_path / "r"
    asked = Asked()
    with JsonlCheckpoint(path) as first:
        first.append({"id": "x", "out": 1})
        with pytest.raises(JournalLockedError, match="being written by"):
            await run_batch(items(3), "id", asked, path)

    assert asked.ids == []


def test_the_synchronous_form(tmp_path: Path) -> None:
    """Scripts need no event loop."""
    path = run_batch_sync(
        items(3), "id", lambda item: item["text"], tmp_path / "r", max_concurrency=2
    )

    assert answers(path) == {0: "t0", 1: "t1", 2: "t2"}


def test_the_synchronous_form_raises_bare(tmp_path: Path) -> None:
    """What ended the run is raised as it is, not in a group."""

    def fn(item: dict[str, Any]) -> str:
        raise BudgetExceededError("stop")

    with pytest.raises(BudgetExceededError):
        run_batch_sync(items(3), "id", fn, tmp_path / "r", stop_on=(BudgetExceededError,))


SCRIPT = """
import sys
import anyio
from scillm.batch.runner import run_batch_sync

async def fn(item):
    print("asked", flush=True)
    await anyio.sleep(item["seconds"])

run_batch_sync([{"id": 1, "seconds": float(sys.argv[2])}, {"id": 2}], "id", fn, sys.argv[1],
               max_concurrency=1)
"""


@pytest.mark.parametrize(("seconds", "interrupts", "kept"), [(1.0, 1, [1]), (60.0, 2, [])])
def test_ctrl_c_in_the_synchronous_form(
    tmp_path: Path, seconds: float, interrupts: int, kept: list[int]
) -> None:
    """One Ctrl-C finishes what is in flight, a second one cuts it off at once; both keep order."""
    path = tmp_path / "r"
    path.touch()
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        for _ in range(interrupts):
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
        out, err = process.communicate(timeout=20)

    assert (process.returncode, out) == (-signal.SIGINT, "")
    assert "KeyboardInterrupt" in err
    assert "Run it again with the same checkpoint" in err
    assert sorted(answers(path)) == kept
    assert not path.with_name("r.journal.lock").exists()


KILLED = """
import sys
import scillm
from scillm.batch.runner import run_batch_sync

async def ask(item):
    messages = [{"role": "user", "content": item["text"]}]
    answer = await router.acompletion("m", messages, api_base=sys.argv[2])
    return answer.text

router = scillm.Router()
items = ({"id": n, "text": f"say {n}"} for n in range(200))
run_batch_sync(items, "id", ask, sys.argv[1], max_concurrency=8)
"""


def test_a_killed_run_batch_loses_and_doubles_nothing(
    tmp_path: Path, faulty_server: FaultyServer
) -> None:
    """Killed five times with SIGKILL while it works, run_batch ends with one line per id, the
    right answer in it, and at most the items in flight asked again per kill."""
    path = tmp_path / "r.jsonl"
    command = [sys.executable, "-c", KILLED, str(path), faulty_server.base_url]
    faulty_server.route(CHAT_PATH, lambda seen: Stall(0.01, answer(seen)))
    for kill in range(5):
        with subprocess.Popen(command) as process:
            until = len(faulty_server.requests) + 17 + 3 * kill
            faulty_server.wait_until(lambda until=until: len(faulty_server.requests) >= until, 30)
            process.send_signal(signal.SIGKILL)
    last = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert last.returncode == 0, last.stderr
    assert answers(path) == {n: f"echo:say {n}" for n in range(200)}
    assert len(faulty_server.requests) <= 200 + 5 * 8


def test_rate_and_rest() -> None:
    """30 items in 60 s are 0.5/s, so 90 more take 180 s; before the first nothing is known."""
    assert rate_per_s(30, 60.0) == 0.5
    assert left_s(30, 90, 60.0) == 180.0
    assert (rate_per_s(0, 60.0), rate_per_s(1, 0.0), left_s(0, 9, 60.0)) == (0.0, 0.0, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (7.2, "7s"), (125, "2m05s"), (3720, "1h02m"), (93600, "1d02h")],
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    """A duration is shown in its two largest units."""
    assert duration_text(seconds) == text
