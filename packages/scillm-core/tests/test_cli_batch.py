"""`scillm batch`: a file of requests in, a file of answers out, over kills and interruptions."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.behaviours import Behaviour, Json, Stall
from support.faulty import CHAT_PATH, FaultyServer, RefuseAfterAccept, Request, error_reply
from support.scillm_process import Done, Installation
from support.strict_chat import answer

KEY = "sk-of-this-test"
ANY_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def request(custom_id: str, **more: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": f"say {custom_id}"}], **more}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def write_input(here: Installation, rows: list[dict[str, Any]]) -> tuple[Path, Path]:
    path = here.folder / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path, here.folder / "out.jsonl"


def numbered(count: int) -> list[dict[str, Any]]:
    return [request(f"r{n}") for n in range(count)]


def run_args(paths: tuple[Path, Path], server: FaultyServer, *more: str) -> list[str]:
    return ["batch", "run", *map(str, paths), "--api-base", server.base_url, *more]


def run(here: Installation, paths: tuple[Path, Path], server: FaultyServer, *more: str) -> Done:
    return here.run(*run_args(paths, server, *more))


def output_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def text_of(row: dict[str, Any]) -> str:
    return str(row["response"]["body"]["choices"][0]["message"]["content"])


def asked(server: FaultyServer) -> list[str]:
    """Custom ids in the order the server was asked for them."""
    return [seen.json["messages"][-1]["content"].removeprefix("say ") for seen in server.requests]


def failing(*bad: str, status: int = 500) -> Behaviour:
    def behaviour(seen: Request) -> Behaviour:
        name = seen.json["messages"][-1]["content"].removeprefix("say ")
        return error_reply(status, "not now") if name in bad else answer(seen)

    return behaviour


def slow(seconds: float) -> Behaviour:
    return lambda seen: Stall(seconds, answer(seen))


def test_every_request_has_its_line_in_order(
    here: Installation, faulty_server: FaultyServer
) -> None:
    """OUT has the OpenAI output format, one line per request, in the order of IN; the body goes
    to the server as it was, except that -m names the model."""
    rows = [request("b", seed=7, temperature=0), request("a", n=2), request("ü")]
    paths = write_input(here, rows)
    done = run(here, paths, faulty_server, "-m", "openai/other")

    assert (done.code, done.err) == (0, "")
    assert done.out == f"3 of 3 answered, 0 failed: {paths[1]}\n"
    assert [row["custom_id"] for row in output_of(paths[1])] == ["b", "a", "ü"]
    assert [text_of(row) for row in output_of(paths[1])] == [
        "echo:say b",
        "echo:say a",
        "echo:say ü",
    ]
    assert all(row["response"]["status_code"] == 200 for row in output_of(paths[1]))
    bodies = {seen.json["messages"][0]["content"]: seen.json for seen in faulty_server.requests}
    assert bodies["say b"] == {**rows[0]["body"], "model": "other"}
    assert len(output_of(paths[1])[1]["response"]["body"]["choices"]) == 2


def test_a_second_run_asks_nothing_and_writes_the_same(
    here: Installation, faulty_server: FaultyServer
) -> None:
    """A finished batch can be run again for nothing; a lost OUT comes back byte for byte."""
    paths = write_input(here, numbered(5))
    run(here, paths, faulty_server)
    first = paths[1].read_bytes()
    paths[1].unlink()
    again = run(here, paths, faulty_server)

    assert again.code == 0
    assert paths[1].read_bytes() == first
    assert len(faulty_server.requests) == 5


def test_new_requests_are_added(here: Installation, faulty_server: FaultyServer) -> None:
    """An input that has grown costs only what is new."""
    run(here, write_input(here, numbered(3)), faulty_server)
    paths = write_input(here, numbered(5))
    done = run(here, paths, faulty_server)

    assert done.code == 0
    assert len(output_of(paths[1])) == 5
    assert sorted(asked(faulty_server)) == ["r0", "r1", "r2", "r3", "r4"]


def test_a_changed_request_is_refused(here: Installation, faulty_server: FaultyServer) -> None:
    """An answer is never put beside a question it was not given to."""
    run(here, write_input(here, numbered(3)), faulty_server)
    paths = write_input(here, [request("r0", seed=1), *numbered(3)[1:]])
    done = run(here, paths, faulty_server)

    assert done.code == 2
    assert "1 requests of" in done.err
    assert "were changed after they were answered, the first is 'r0'" in done.err
    assert len(faulty_server.requests) == 3


def test_failures_are_stated_and_tried_again_on_demand(
    here: Installation, faulty_server: FaultyServer
) -> None:
    """A refusal keeps its status, a broken line its reason; --retry-failed asks only these."""
    paths = write_input(here, numbered(4))
    faulty_server.route(CHAT_PATH, failing("r1", status=400))
    faulty_server.queue(CHAT_PATH, RefuseAfterAccept())
    first = run(here, paths, faulty_server, "--concurrency", "1", "--no-retry")
    rows = output_of(paths[1])
    faulty_server.route(CHAT_PATH, answer)
    before = len(faulty_server.requests)
    kept = run(here, paths, faulty_server)
    kept_requests = len(faulty_server.requests) - before
    last = run(here, paths, faulty_server, "--retry-failed")

    assert first.code == kept.code == 1
    assert first.out.startswith("2 of 4 answered, 2 failed: ")
    assert f"To try them again: scillm batch run {paths[0]} {paths[1]} --api-base" in first.out
    assert first.out.endswith("--no-retry --retry-failed\n")
    assert (rows[0]["response"], rows[0]["error"]["code"]) == (None, "APIConnectionError")
    assert rows[1]["response"]["status_code"] == 400
    assert rows[1]["response"]["body"]["error"]["message"] == "not now"
    assert rows[1]["error"] is None
    assert kept_requests == 0
    assert last.code == 0
    assert sorted(asked(faulty_server)[before:]) == ["r0", "r1"]
    assert [text_of(row) for row in output_of(paths[1])] == [f"echo:say r{n}" for n in range(4)]


def test_a_busy_server_is_asked_again(here: Installation, faulty_server: FaultyServer) -> None:
    """Without being told, a batch waits as long as a 429 says and gives no request up."""
    paths = write_input(here, numbered(6))
    busy = Json({"error": {"message": "slow down"}}, 429, {"retry-after": "1"})
    faulty_server.queue(CHAT_PATH, busy, busy, busy)
    done = run(here, paths, faulty_server, "--concurrency", "3")

    assert (done.code, done.out) == (0, f"6 of 6 answered, 0 failed: {paths[1]}\n")
    assert 9 <= len(faulty_server.requests) <= 12


def test_an_error_that_every_request_would_meet_stops_the_batch(
    here: Installation, faulty_server: FaultyServer
) -> None:
    """A wrong key, or a model nobody knows, gives no request up; the right one goes on."""
    paths = write_input(here, numbered(40))
    with FaultyServer(api_key=KEY) as server:
        wrong = run(here, paths, server, "--concurrency", "2")
        missing = here.run("batch", "run", *map(str, paths), "-m", "absent/m")
        seen = len(server.requests)
        right = here.run(*run_args(paths, server, "--api-key-env", "MY_KEY"), env={"MY_KEY": KEY})

    assert (wrong.code, missing.code, right.code) == (1, 1, 0)
    assert "Incorrect API key" in wrong.err
    assert "To go on: scillm batch run" in wrong.out
    assert "absent" in missing.err
    assert seen <= 2
    assert len(output_of(paths[1])) == 40
    assert KEY not in (here.folder / "out.jsonl.journal").read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it has no requests"),
        ("x\n", "line 1: is not JSON"),
        (f"{json.dumps(request('a'))}\n" * 2, "line 2: custom_id 'a' is that of line 1 too"),
    ],
)
def test_a_wrong_input_sends_nothing(
    here: Installation, faulty_server: FaultyServer, text: str, told: str
) -> None:
    """The whole input is checked first: exit code 2, the line, and nothing is written."""
    paths = write_input(here, [])
    paths[0].write_text(text, encoding="utf-8")
    done = run(here, paths, faulty_server)

    assert done.code == 2
    assert told in done.err
    assert faulty_server.requests == []
    assert not paths[1].exists()


def test_wrong_paths_are_wrong_usage(here: Installation, faulty_server: FaultyServer) -> None:
    """An absent input, an output that is the input or somebody else's file: all refused."""
    paths = write_input(here, numbered(1))
    absent = run(here, (here.folder / "absent", paths[1]), faulty_server)
    same = run(here, (paths[0], paths[0]), faulty_server)
    nothing = here.run("batch", "status", str(here.folder / "absent"))
    paths[1].write_text("precious")
    foreign = run(here, paths, faulty_server)

    assert (absent.code, same.code, nothing.code, foreign.code) == (2, 2, 2, 2)
    assert "was not written by a batch" in foreign.err
    assert paths[1].read_text() == "precious"
    assert "cannot be read" in absent.err
    assert "cannot be the input and the output" in same.err
    assert "There is no batch behind" in nothing.err


def test_an_address_that_is_no_url_is_wrong_usage(here: Installation) -> None:
    """Not the failure of each request, to be asked again one by one."""
    paths = write_input(here, numbered(3))
    done = here.run("batch", "run", *map(str, paths), "--api-base", "localhost:8000/v1")

    assert done.code == 2
    assert "--api-base must be a URL" in done.err
    assert [path.name for path in here.folder.glob("out*")] == []


def test_a_pipe_cannot_be_the_input(here: Installation, faulty_server: FaultyServer) -> None:
    """It could be read only once: refused at once with what to do, and nothing is written."""
    paths = write_input(here, [])
    pipe = here.folder / "pipe"
    os.mkfifo(pipe)
    done = run(here, (pipe, paths[1]), faulty_server)

    assert done.code == 2
    assert "must be an ordinary file" in done.err
    assert not list(here.folder.glob("out.jsonl*"))


def test_a_place_that_cannot_be_written_is_said_before_anything_is_sent(
    here: Installation, faulty_server: FaultyServer
) -> None:
    """For example below a file: wrong usage, with the path and the reason."""
    paths = write_input(here, numbered(1))
    done = run(here, (paths[0], paths[0] / "out.jsonl"), faulty_server)

    assert done.code == 2
    assert re.search(r"must be a file that can be written, but: (File exists|Not a dir)", done.err)
    assert faulty_server.requests == []


def test_an_output_that_cannot_be_written_loses_no_answer(
    here: Installation, faulty_server: FaultyServer
) -> None:
    """It is told, with what to do; the same command writes it when it can, and asks nothing."""
    paths = write_input(here, numbered(3))
    (here.folder / "out.jsonl.partial").mkdir()
    failed = run(here, paths, faulty_server)
    (here.folder / "out.jsonl.partial").rmdir()
    done = run(here, paths, faulty_server)

    assert failed.code == 1
    assert "Every answer is safe in its journal" in failed.err
    assert "Traceback" not in failed.err
    assert done.code == 0
    assert len(output_of(paths[1])) == 3
    assert len(faulty_server.requests) == 3


def test_an_input_that_changes_under_way_is_told(
    here: Installation, faulty_server: FaultyServer
) -> None:
    """Requests that are no longer there are open, with the reason; nothing ends in silence."""
    paths = write_input(here, numbered(1))
    kept = paths[0].read_text()
    more = "\n" * 300_000 + json.dumps(request("more"))
    paths[0].write_text(kept + more)

    def cut(seen: Request) -> Behaviour:
        with paths[0].open("r+b") as file:
            file.truncate(len(kept))
        return answer(seen)

    faulty_server.route(CHAT_PATH, cut)
    done = run(here, paths, faulty_server, "--concurrency", "1")

    assert done.code == 1
    assert "was changed while it was read" in done.err
    assert "To go on: scillm batch run" in done.out
    assert len(faulty_server.requests) == 1


def test_an_output_that_exists_is_whole(here: Installation, faulty_server: FaultyServer) -> None:
    """While a request has neither answer nor failure there is no OUT, not even an old one."""
    paths = write_input(here, numbered(2))
    run(here, paths, faulty_server)
    paths = write_input(here, numbered(3))
    with FaultyServer(api_key=KEY) as server:
        stopped = run(here, paths, server)
    existed = paths[1].exists()
    done = run(here, paths, faulty_server)

    assert (stopped.code, existed, done.code) == (1, False, 0)
    assert "is not written yet" in stopped.out
    assert len(output_of(paths[1])) == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_finishes_what_is_in_flight(
    here: Installation, faulty_server: FaultyServer, number: signal.Signals, code: int
) -> None:
    """A first signal takes no new request, writes down those in flight, and prints the command
    that goes on; that command asks none of them again."""
    paths = write_input(here, numbered(60))
    faulty_server.route(CHAT_PATH, slow(0.1))
    with here.start(*run_args(paths, faulty_server, "--concurrency", "4")) as process:
        faulty_server.wait_until(lambda: len(faulty_server.requests) >= 10, 30)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    sent = asked(faulty_server)
    line = re.search("^To go on: scillm (.*)$", out, re.MULTILINE)
    assert line is not None, (out, err)
    faulty_server.route(CHAT_PATH, answer)
    done = here.run(*line[1].split())

    assert process.returncode == code
    assert re.search("finishing [1-4] in flight", err)
    assert f"Stopped: {len(sent)} of 60 answered, 0 failed" in out
    assert "Traceback" not in err
    assert len(sent) < 60
    assert done.code == 0
    assert sorted(asked(faulty_server)) == sorted(f"r{n}" for n in range(60))
    assert len(output_of(paths[1])) == 60


def test_a_second_ctrl_c_ends_at_once(here: Installation, faulty_server: FaultyServer) -> None:
    """Who cannot wait need not: the second signal ends the process, and the journal is sound."""
    paths = write_input(here, numbered(9))
    faulty_server.route(CHAT_PATH, slow(20))
    with here.start(*run_args(paths, faulty_server, "--concurrency", "2")) as process:
        faulty_server.wait_until(lambda: len(faulty_server.requests) >= 2, 30)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "finishing 2 in flight" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    faulty_server.route(CHAT_PATH, answer)
    done = run(here, paths, faulty_server)

    assert process.returncode == 130
    assert "2 cut off in flight (they may have been billed)" in out
    assert "To go on: scillm batch run" in out
    assert "Traceback" not in err
    assert done.code == 0
    assert len(output_of(paths[1])) == 9


def test_two_runs_at_once_are_refused(here: Installation, faulty_server: FaultyServer) -> None:
    """The second run is told the pid of the first and asks nothing; status sees it running."""
    paths = write_input(here, numbered(2))
    faulty_server.route(CHAT_PATH, slow(1.5))
    with here.start(*run_args(paths, faulty_server)) as process:
        faulty_server.wait_until(lambda: len(faulty_server.requests) >= 2, 30)
        second = run(here, paths, faulty_server)
        status = json.loads(here.run("batch", "status", str(paths[1]), "--json").out)
        process.communicate(timeout=30)

    assert second.code == 1
    assert f"is being written by process {process.pid}" in second.err
    assert (status["running"], status["pid"], status["open"]) == (True, process.pid, 2)
    assert process.returncode == 0
    assert len(faulty_server.requests) == 2


def test_status_tells_how_far_a_batch_is(here: Installation, faulty_server: FaultyServer) -> None:
    """Counts, kinds of failure, model, paths; the same as text and as JSON."""
    paths = write_input(here, numbered(4))
    faulty_server.route(CHAT_PATH, failing("r1", "r3"))
    run(here, paths, faulty_server, "-m", "openai/m", "--no-retry")
    as_json = json.loads(here.run("batch", "status", str(paths[1]), "--json").out)
    as_text = here.run("batch", "status", str(paths[1]))

    assert {key: as_json[key] for key in ("requests", "answered", "failed", "open", "running")} == {
        "requests": 4,
        "answered": 2,
        "failed": 2,
        "open": 0,
        "running": False,
    }
    assert as_json["failures"] == {"InternalServerError": 2}
    assert as_json["about"]["model"] == "openai/m"
    assert as_json["output"] == str(paths[1])
    assert as_text.code == 0
    assert "2: 2 InternalServerError" in as_text.out
    assert "state     whole" in as_text.out


def test_a_damaged_journal_is_a_failure(here: Installation, faulty_server: FaultyServer) -> None:
    """A changed journal is named with its line by run and status, and nothing is sent."""
    paths = write_input(here, numbered(3))
    run(here, paths, faulty_server)
    journal = here.folder / "out.jsonl.journal"
    journal.write_bytes(journal.read_bytes().replace(b"echo:say r1", b"echo:say R1"))
    for done in (run(here, paths, faulty_server), here.run("batch", "status", str(paths[1]))):
        assert done.code == 1
        assert re.search("Line [234] of .*out.jsonl.journal is wrong: ", done.err)

    assert len(faulty_server.requests) == 3


def test_a_terminal_shows_progress_and_a_pipe_none_of_it(
    here: Installation, faulty_server: FaultyServer
) -> None:
    """A terminal gets a bar with counts, rate and rest; a pipe gets the outcome alone."""
    paths = write_input(here, numbered(30))
    faulty_server.route(CHAT_PATH, slow(0.02))
    seen = here.on_terminal(*run_args(paths, faulty_server), columns=100)
    plain = ANY_ESCAPE.sub("", seen.out)
    paths[1].unlink()
    (here.folder / "out.jsonl.journal").unlink()
    piped = run(here, paths, faulty_server)

    assert seen.code == piped.code == 0
    assert (piped.out, piped.err) == (f"30 of 30 answered, 0 failed: {paths[1]}\n", "")
    assert re.search(r"\d+ of 30, 0 failed, [\d.]+/s, \d+s left", plain)
    assert "30 of 30 answered, 0 failed" in plain


def test_a_pause_is_shown_while_everything_waits_for_it(
    here: Installation, faulty_server: FaultyServer
) -> None:
    """The only request is refused for 3 s: the terminal says who rests until when, meanwhile."""
    paths = write_input(here, numbered(1))
    faulty_server.queue(CHAT_PATH, Json({"error": {"message": "busy"}}, 429, {"retry-after": "3"}))
    done = here.on_terminal(*run_args(paths, faulty_server))

    assert done.code == 0
    plain = ANY_ESCAPE.sub("", done.out)
    assert re.search(r"0 of 1, 0 failed, .*?rests\s+until\s+\d\d:\d\d:\d\d", plain, re.DOTALL)


def test_the_outcome_as_json(here: Installation, faulty_server: FaultyServer) -> None:
    """--json prints one document, whether the batch is whole or not."""
    paths = write_input(here, numbered(2))
    done = run(here, paths, faulty_server, "--json")

    assert json.loads(done.out) == {
        "requests": 2,
        "answered": 2,
        "failed": 0,
        "open": 0,
        "cut_off": 0,
        "output": str(paths[1]),
        "journal": f"{paths[1]}.journal",
        "error": None,
        "resume": None,
        "spend": {"requests": 2, "tokens": 8, "usd": 0.0},
    }


def kill_often(
    here: Installation, server: FaultyServer, *, count: int, kills: int, width: int, seed: int
) -> tuple[Path, int]:
    """Run a batch, killing it `kills` times at random moments; where it went, and real kills."""
    luck = Random(seed)
    paths = write_input(here, numbered(count))
    server.route(CHAT_PATH, lambda seen: Stall(luck.uniform(0.0, 0.02), answer(seen)))
    args = run_args(paths, server, "--concurrency", str(width))
    killed = 0
    for _ in range(kills):
        before = len(server.requests)
        more = luck.randint(0, max(1, (count - before) // 4))
        with here.start(*args) as process:
            while process.poll() is None and len(server.requests) < before + more:
                pass
            try:
                process.wait(luck.uniform(0.0, 0.03))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                killed += 1
            process.communicate(timeout=30)
    assert run(here, paths, server, "--concurrency", str(width)).code == 0
    return paths[1], killed


def check_killed(out: Path, server: FaultyServer, *, count: int, killed: int, width: int) -> None:
    rows = output_of(out)
    billed = Counter(asked(server))

    assert [row["custom_id"] for row in rows] == [f"r{n}" for n in range(count)]
    assert [text_of(row) for row in rows] == [f"echo:say r{n}" for n in range(count)]
    assert set(billed) == {f"r{n}" for n in range(count)}
    assert sum(billed.values()) <= count + killed * width
    assert sorted(entry.name for entry in out.parent.glob("out*")) == [
        "out.jsonl",
        "out.jsonl.journal",
    ]


def test_ten_kills_lose_and_double_nothing(here: Installation, faulty_server: FaultyServer) -> None:
    """Killed ten times with SIGKILL at random moments, a batch ends with every id exactly once,
    its own answer beside it, and at most the requests in flight paid again per kill."""
    out, killed = kill_often(here, faulty_server, count=400, kills=10, width=8, seed=1)

    assert killed >= 8
    check_killed(out, faulty_server, count=400, killed=killed, width=8)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(5))
def test_many_kills_lose_and_double_nothing(
    here: Installation, faulty_server: FaultyServer, seed: int
) -> None:
    """The same with 40 kills, 3,000 requests and 32 in flight."""
    out, killed = kill_often(here, faulty_server, count=3000, kills=40, width=32, seed=seed)

    assert killed >= 30
    check_killed(out, faulty_server, count=3000, killed=killed, width=32)


def test_a_full_disk_is_told_and_harms_nothing(
    here: Installation, faulty_server: FaultyServer
) -> None:
    """When the journal cannot grow the batch stops with the reason; with room it goes on."""
    paths = write_input(here, numbered(60))
    narrow = ("--concurrency", "1")  # rows that finish together are written together
    full = subprocess.run(
        ["prlimit", "--fsize=9000", *here.command(*run_args(paths, faulty_server, *narrow))],
        capture_output=True,
        text=True,
        env=here.environ(),
        timeout=60,
        check=False,
    )
    answered = json.loads(here.run("batch", "status", str(paths[1]), "--json").out)["answered"]
    sent = len(faulty_server.requests)
    done = run(here, paths, faulty_server)

    assert full.returncode == 1
    assert "could not be written: File too large" in full.stderr
    assert "Traceback" not in full.stderr
    assert 0 < answered < 60
    assert done.code == 0
    assert len(output_of(paths[1])) == 60
    assert len(faulty_server.requests) - sent == 60 - answered
