"""`scillm batch run --budget-…`: a batch stops when its budget is spent, and goes on with more."""

from __future__ import annotations

import json
import signal
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from scillm.batch.entries import Index, answer_entry, failure_entry, failure_of, with_spend
from scillm.batch.progress import Progress
from scillm.cli.batch_progress import told
from scillm.cli.batch_spend import rests_told
from support.behaviours import Json, Stall
from support.faulty import CHAT_PATH, FaultyServer
from support.scillm_process import Done, Installation
from support.strict_chat import answer, error_reply

PRICES = ("--input-price", "1000", "--output-price", "10000")
"""A tenth of a cent per token in, a cent per token out."""


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def write_input(here: Installation, count: int, **more: Any) -> tuple[Path, Path]:
    path = here.folder / "in.jsonl"
    body = {"model": "m", "messages": [{"role": "user", "content": "say it"}], **more}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    rows = [{"custom_id": f"r{n}", **line} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path, here.folder / "out.jsonl"


def run(here: Installation, paths: tuple[Path, Path], server: FaultyServer, *more: str) -> Done:
    return here.run("batch", "run", *map(str, paths), "--api-base", server.base_url, *more)


def told_by(done: Done) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(done.out)
    return document


def test_a_spent_budget_stops_the_run_and_a_larger_one_goes_on(
    here: Installation, faulty_server: FaultyServer
) -> None:
    """What was not run is not failed; the next run pays only for the rest, out of one budget."""
    paths = write_input(here, 20, max_tokens=5)
    first = run(here, paths, faulty_server, "--budget-usd", "0.3", *PRICES, "--json")
    sent = len(faulty_server.requests)
    stopped = told_by(first)
    again = run(here, paths, faulty_server, "--budget-usd", "0.3", *PRICES, "--json")
    more = run(here, paths, faulty_server, "--budget-usd", "100", *PRICES, "--json")

    assert first.code == 1
    assert 0 < stopped["answered"] == sent < 20
    assert (stopped["failed"], stopped["open"]) == (0, 20 - sent)
    assert 0 < stopped["spend"]["usd"] <= 0.3
    assert "no room" in stopped["error"]
    assert "earlier runs included" in stopped["error"]
    assert "--budget-usd 0.3" in stopped["resume"]
    assert told_by(again)["answered"] == sent
    assert more.code == 0
    assert told_by(more)["answered"] == 20
    assert len(faulty_server.requests) == 20
    assert told_by(more)["spend"]["requests"] == 20
    assert told_by(more)["spend"]["usd"] == pytest.approx(20 * stopped["spend"]["usd"] / sent)


def test_the_budget_is_used_to_its_end(here: Installation, faulty_server: FaultyServer) -> None:
    """What has no room only because of what is in the air waits; it does not stop the batch."""
    faulty_server.route(CHAT_PATH, lambda seen: Stall(0.05, answer(seen)))
    paths = write_input(here, 12, max_tokens=5)
    done = run(here, paths, faulty_server, "--budget-tokens", "200", "--json")

    ended = told_by(done)
    per_request = ended["spend"]["tokens"] / ended["answered"]
    assert ended["answered"] == 12
    assert per_request * 12 <= 200
    assert done.code == 0


def test_what_is_in_flight_is_finished_however_long_it_takes(
    here: Installation, faulty_server: FaultyServer
) -> None:
    """Requests are the budget here: those that left are all answered and kept."""
    faulty_server.route(CHAT_PATH, lambda seen: Stall(0.3, answer(seen)))
    paths = write_input(here, 9)
    done = run(here, paths, faulty_server, "--budget-requests", "4", "--json")

    assert told_by(done)["answered"] == len(faulty_server.requests) == 4
    assert told_by(done)["spend"]["requests"] == 4


def test_failures_are_paid_too(here: Installation, faulty_server: FaultyServer) -> None:
    """A request that failed was sent; it counts, also after a resume."""
    faulty_server.route(CHAT_PATH, error_reply(400, "no"))
    paths = write_input(here, 5)
    first = run(here, paths, faulty_server, "--budget-requests", "3", "--json")
    status = json.loads(here.run("batch", "status", str(paths[1]), "--json").out)
    again = run(here, paths, faulty_server, "--budget-requests", "5", "--retry-failed", "--json")

    assert (told_by(first)["failed"], told_by(first)["open"]) == (3, 2)
    assert status["spend"] == {"requests": 3, "tokens": 0, "usd": 0.0}
    assert told_by(again)["spend"]["requests"] == len(faulty_server.requests) == 5


def test_a_killed_run_is_paid_from_the_same_budget(
    here: Installation, faulty_server: FaultyServer
) -> None:
    """Spending is read back from the journal: a kill forgives only what was in flight."""
    paths = write_input(here, 30)
    faulty_server.route(CHAT_PATH, lambda seen: Stall(0.05, answer(seen)))
    process = here.start(
        "batch", "run", *map(str, paths), "--api-base", faulty_server.base_url,
        "--concurrency", "2", "--budget-requests", "10",
    )  # fmt: skip
    while len(faulty_server.requests) < 5:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    run(here, paths, faulty_server, "--concurrency", "2", "--budget-requests", "10")

    assert 10 <= len(faulty_server.requests) <= 12


def test_money_needs_a_price(here: Installation, faulty_server: FaultyServer) -> None:
    """An unknown price stops the run before anything is sent, and says what to do."""
    paths = write_input(here, 3)
    done = run(here, paths, faulty_server, "--budget-usd", "5")
    half = run(here, paths, faulty_server, "--input-price", "5")

    assert done.code == 1
    assert "--input-price" in done.err
    assert "go together" in half.err
    assert faulty_server.requests == []


def test_the_outcome_says_what_was_spent(here: Installation, faulty_server: FaultyServer) -> None:
    """In `batch status` too."""
    paths = write_input(here, 2)
    run(here, paths, faulty_server, *PRICES)
    status = here.run("batch", "status", str(paths[1]))

    assert "2 requests, 8 tokens, $0.044" in status.out


def test_the_progress_line_has_spend_and_rests() -> None:
    """Who rests until when; neither key hashes nor passwords are shown."""
    noon = datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone.utc)
    resting = {"openai http://me:secret@host/v1 m key-0123456789abcdef": 65.0, "b": 9.0, "c": 1.0}
    more = ["spent $0.1 of $5", *rests_told(resting, noon)]
    line = told(Progress(answered=2), 10, 1.0, more)

    assert line == (
        "2 of 10, 0 failed, 2.0/s, 4s left, spent $0.1 of $5, "
        "openai http://host/v1 m rests until 12:01:05, b rests until 12:00:09, 1 more rest"
    )


def test_a_journal_adds_up_what_its_rows_say() -> None:
    """Answers, failures and abandoned requests all count; rows of before have no spend."""
    index = Index()
    ok = answer_entry("a", {"id": "a"}, at=0.0, elapsed_s=0.0)
    bad = failure_entry(failure_of(ValueError("x"), id="b"), at=0.0, elapsed_s=0.0)
    for entry in (
        with_spend(ok, {"requests": 1, "tokens": 5, "pico_usd": 0}),
        with_spend(bad, {"requests": 2}),
        with_spend({"kind": "spent", "of": "c", "at": 0.0}, {"requests": 1}),
        with_spend({"kind": "start", "at": 0.0, "about": {}}, None),
    ):
        index.note(entry, 0)

    assert index.spent == {"requests": 4, "tokens": 5}
    assert (set(index.answered), set(index.failed)) == ({"a"}, {"b"})


def test_a_slow_down_is_shown_while_it_lasts(
    here: Installation, faulty_server: FaultyServer
) -> None:
    """On a terminal, a batch that waits for an announced pause says until when."""
    faulty_server.queue(CHAT_PATH, Json({"error": {"message": "busy"}}, 429, {"retry-after": "2"}))
    paths = write_input(here, 6)
    seen = here.on_terminal(
        "batch", "run", *map(str, paths), "--api-base", faulty_server.base_url,
        "--concurrency", "2", "--budget-requests", "20", columns=200,
    )  # fmt: skip

    assert seen.code == 0
    assert "rests until" in seen.out
    assert "of 20 requests" in seen.out
