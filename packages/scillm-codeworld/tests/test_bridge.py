"""CodeWorld's bridge on a real socket: older clients, limits, tokens, sessions, the provider."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading

import anyio
import httpx
import pytest
from scillm import Router
from scillm.errors import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    EngineError,
    UsageError,
)
from scillm.plugins import settings
from scillm.plugins.registry import Registry
from scillm.protocols import Engine
from scillm.records import Endpoint
from scillm.runs import recorded
from scillm.runs.store import RunStore
from scillm.serve.bridge_app import BridgeLimits
from scillm_codeworld import bridge
from scillm_codeworld.engine.jobs import CodeWorldEngine
from scillm_codeworld.record.envelope import familiar_result, read_asked
from scillm_codeworld.settings import ALL_SETTINGS
from support.served import served

TOKEN = "a-token-of-the-bridge"
SQUARE = "def solve(x):\n    return x * x\n"
CONTEXT = {
    "code_variants": {"right": SQUARE, "wrong": "def solve(x):\n    return 0\n"},
    "inputs": [2, 3],
    "expected": [4, 9],
}
ITEM = {"task_id": "square", "task": "Square the number.", "context": CONTEXT}
FOREVER = {"task": "wait", "context": {"code_variants": {"a": "def solve(x):\n    while 1: pass"},
                                       "input": 1, "expected": 1}}  # fmt: skip


def values(tmp_path, **environ):
    return settings.load({"SCILLM_RUNS_DIR": str(tmp_path), **environ}, more=ALL_SETTINGS)


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def base(runs_dir):
    """A bridge as `scillm codeworld serve` makes it, without a token."""
    limits = BridgeLimits(max_items=4, max_body_bytes=100_000, max_seconds=20)
    with served(bridge.make_app(values(runs_dir), limits=limits)) as url:
        yield url


def complete(base, document, **more):
    return httpx.post(f"{base}/bridge/complete", json=document, timeout=60, **more)


def canonical(**args):
    """The envelope that clients have always written."""
    return {
        "messages": [],
        "items": [ITEM],
        "provider": {"name": "codeworld", "args": {"repeats": 0, **args}},
        "options": {"max_seconds": 20},
    }


# -- the envelope ------------------------------------------------------------------------------


def test_the_canonical_envelope_runs_and_answers_with_the_keys_clients_know(base):
    """Every key of the earlier bridge is there, and says what really happened."""
    reply = complete(base, canonical(metrics=["correctness", "brevity"]))
    told = reply.json()

    assert reply.status_code == 200
    assert told["summary"]["succeeded"] == 1
    assert told["statistics"]["metrics"] == ["correctness", "brevity"]
    (result,) = told["results"]
    assert (result["item_id"], result["index"], result["status"]) == ("square", 0, "solved")
    assert result["scores"]["correctness"] == 1.0
    assert result["scores"]["aggregate"] > 0.9
    assert result["outputs"] == {"result": 4}
    assert set(result["timings"]) == {"duration_ms"}
    assert result["item"] == ITEM
    assert {row["id"] for row in result["code_variants"]} == {"right", "wrong"}
    assert told["run_manifest"]["item_ids"] == told["run_manifest"]["task_ids"] == ["square"]
    assert told["run_manifest"]["schema"] == "canonical+codeworld@v1"
    assert told["duration_ms"] > 0
    assert (told["stdout"], told["stderr"]) == ("", "")


@pytest.mark.parametrize(
    "document",
    [
        {"items": [ITEM], "codeworld_metrics": ["correctness"], "request_timeout": 20},
        {"items": [{"spec": "square", "id": "square", "context": CONTEXT}], "seed": 3},
        {"items": [ITEM], "provider": "codeworld", "codeworld_iterations": 3},
        {"items": [ITEM], "codeworld_allowed_languages": ["python"], "options": {"track_id": "t"}},
        canonical(strategy="mcts", rollouts=9, depth=2, uct_c=1.25, timeout_ms=50),
        canonical(strategy_config={"name": "mcts", "rollouts": 9, "exploration_constant": 0.5,
                                   "seed": 4}),
        canonical(judge=True, judge_mode="lex"),
        canonical(judge=False, allowed_languages=[]),
        canonical(scoring={"lang": "py", "code": "def score(t, c, o, m): return {'s': 0.5}"}),
        {"items": [{"task": "t", "context": {"code_variants": {"a": "solve = sum"}, "xs": [1, 2],
                                             "expected": 3, "tool_invocations": []}}]},
    ],
)  # fmt: skip
def test_every_spelling_that_clients_use_is_understood(base, document):
    """Aliases, sugar at the top, groups, judge modes, a scorer for all items, `xs`."""
    reply = complete(base, document)
    told = reply.json()

    assert reply.status_code == 200, told
    assert told["results"][0]["status"] == "solved", told["results"][0]["reason"]


def test_a_search_is_told_in_the_older_words_too(base):
    """`mcts`, `strategy_name`, `strategy_seed`, `mcts_stats`; the best variant is an id."""
    told = complete(base, canonical(strategy="mcts", rollouts=9, seed=4)).json()

    manifest = told["run_manifest"]
    assert (manifest["strategy_name"], manifest["strategy_seed"]) == ("mcts", 4)
    assert manifest["mcts_stats"]["best_variant"] == "right"
    assert told["results"][0]["mcts"]["best_variant"] == "right"


def test_what_has_no_effect_is_told(base):
    """Nothing that a client writes is dropped in silence."""
    told = complete(base, canonical(iterations=3, timeout_ms=50, depth=8, strategy="mcts")).json()

    notes = " ".join(told["environment"]["notes"])
    assert "iterations has no effect" in notes
    assert "timeout_ms has no effect" in notes


def test_a_wrong_program_is_never_told_as_right(base):
    """The earlier bridge put the expected answer in the place of a failure; this one does not."""
    broken = {"syntax": "this is not python", "crash": "def solve(x): return 1 / 0"}
    item = {**ITEM, "context": {**CONTEXT, "code_variants": broken}}

    (result,) = complete(base, {"items": [item]}).json()["results"]

    assert (result["status"], result["best"]) == ("unsolved", None)
    assert (result["scores"], result["outputs"], result["timings"]) == ({}, {}, {})


@pytest.mark.parametrize(
    ("document", "status", "said"),
    [
        ({"items": [ITEM], "provider": {"name": "codeworld", "args": {"speed": 1}}}, 400, "speed"),
        ({"items": [ITEM], "provider": {"name": "other"}}, 400, "other"),
        ({"items": [ITEM], "itms": []}, 400, "itms"),
        ({"items": [ITEM] * 5}, 413, "4 items"),
        (canonical(strategy="nosuch"), 400, "nosuch"),
        (canonical(judge_mode="best"), 400, "judge_mode"),
        (canonical(isolation="L99"), 400, "L99"),
        (canonical(autogenerate={"model": "m", "api_base": "http://10.0.0.1"}), 400, "api_base"),
        ([1], 400, "object"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_name(base, document, status, said):
    """A clear error each; the server goes on."""
    reply = complete(base, document)

    assert said in json.dumps(reply.json()), reply.text
    assert reply.status_code == status
    assert httpx.get(f"{base}/healthz").json()["ok"]


def test_a_malformed_item_fails_alone(base):
    """The others are run, and every result stands at its place."""
    told = complete(base, {"items": [{"task": "x"}, ITEM, 7]}).json()

    assert [row["status"] for row in told["results"]] == ["invalid", "solved", "invalid"]
    assert told["summary"]["failed"] == 2


def test_a_body_that_is_too_long_is_refused(base):
    """Before it is read to its end."""
    reply = complete(
        base, {"items": [ITEM], "messages": [{"role": "user", "content": "x" * 10**5}]}
    )

    assert reply.status_code == 413


# -- in the background, as a stream, cancelled -------------------------------------------------


def test_work_in_the_background_is_fetched_by_its_id(base):
    """202 with a place, then the same answer that would have come at once."""
    reply = complete(base, {**canonical(), "async": True})
    place = reply.json()["result"]
    found = httpx.get(f"{base}{place}", headers={"prefer": "wait=20"}, timeout=30)

    assert reply.status_code == 202
    assert found.status_code == 200
    assert found.json()["results"][0]["best"] == "right"


def test_progress_streams_item_by_item(base):
    """Events first, the whole result last."""
    document = {**canonical(), "items": [ITEM, {**ITEM, "task_id": "again"}]}
    text = complete(base, document, headers={"accept": "text/event-stream"}).text

    assert text.count('"type": "ItemFinished"') + text.count('"type":"ItemFinished"') == 2
    assert text.index("event: progress") < text.index("event: result")
    last = text.split("event: result\n", 1)[1]
    assert json.loads(last.removeprefix("data: ").split("\n")[0])["summary"]["succeeded"] == 2


def test_a_client_that_leaves_takes_its_work_along(base):
    """The program that loops for ever is ended with its caller, and the place is free again."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{base}/bridge/complete",
                   json={"items": [FOREVER] * 2, "provider": {"args": {"timeout_s": 15}}},
                   timeout=1.0)  # fmt: skip

    for _ in range(200):
        if "scillm_bridge_running 0" in httpx.get(f"{base}/metrics").text:
            return
        threading.Event().wait(0.05)
    pytest.fail("10 s after its client left, the work was still running")


def test_work_that_takes_too_long_is_ended_and_says_so(base):
    """`max_seconds` bounds the whole request."""
    reply = complete(base, {"items": [FOREVER], "options": {"max_seconds": 0.5}})

    assert reply.status_code == 504
    assert "0.5 s" in reply.text


# -- front doors, tokens, records --------------------------------------------------------------


def test_the_front_doors_are_there(base):
    """Health, readiness with the isolation observed, numbers, and a description."""
    ready = httpx.get(f"{base}/ready", timeout=30).json()

    assert httpx.get(f"{base}/healthz").json()["engine"] == "codeworld"
    assert ready["ready"]
    assert ready["isolation"]["level"]
    assert "scillm_bridge_jobs_total" in httpx.get(f"{base}/metrics").text
    assert "/bridge/complete" in httpx.get(f"{base}/openapi.json").json()["paths"]


def test_a_token_is_asked_for_when_one_is_set(tmp_path):
    """CODEWORLD_TOKEN; without it the bridge answers only this machine."""
    app = bridge.make_app(values(tmp_path, CODEWORLD_TOKEN=TOKEN))
    with served(app) as url:
        without = complete(url, canonical())
        wrong = complete(url, canonical(), headers={"authorization": "Bearer no"})
        right = complete(url, canonical(), headers={"authorization": f"Bearer {TOKEN}"})

    assert [row.status_code for row in (without, wrong, right)] == [401, 401, 200]
    assert TOKEN not in right.text


def test_a_foreign_host_name_is_not_answered_without_a_token(base):
    """A web page cannot reach the bridge through the browser."""
    reply = complete(base, canonical(), headers={"host": "evil.example"})

    assert reply.status_code == 403


def test_a_run_at_the_bridge_is_kept_and_can_be_verified(base, runs_dir):
    """The run id of the answer is that of a record in the server's run store."""
    told = complete(base, canonical(strategy="mcts", rollouts=6)).json()
    store = RunStore(runs_dir)
    run_id = told["run_manifest"]["run_id"]

    found = anyio.run(recorded.verify, CodeWorldEngine(), store.load(run_id), store.folder(run_id))

    assert found.problems == []


def test_a_bridge_may_keep_nothing(tmp_path):
    """CODEWORLD_BRIDGE_KEEP=0."""
    with served(bridge.make_app(values(tmp_path, CODEWORLD_BRIDGE_KEEP="0"))) as url:
        told = complete(url, canonical()).json()

    assert told["summary"]["succeeded"] == 1
    assert list(tmp_path.iterdir()) == []


def test_a_session_tells_when_it_no_longer_gets_better(base):
    """`signals` of a session: its runs, the newest value, and whether it is a plateau."""
    document = {**canonical(), "options": {"session_id": "s1", "track_id": "a"}}
    first, second = (complete(base, document).json()["signals"] for _ in range(2))

    assert (first["session_id"], first["runs"], first["plateau"]) == ("s1", 1, None)
    assert (second["runs"], second["plateau"]) == (2, True)


def test_what_the_server_requires_no_client_can_lower(tmp_path):
    """The server's level is the floor of every job."""
    app = bridge.make_app(values(tmp_path), isolation="L3")
    with served(app) as url:
        told = complete(url, canonical(isolation="L1")).json()

    if "error" in told:  # a host without L3 refuses, and runs nothing
        assert "L3" in json.dumps(told["error"])
    else:
        assert told["environment"]["isolation"]["level"] >= "L3"


# -- the provider ------------------------------------------------------------------------------


def ask(base=None, *, environ=None, **arguments):
    """`completion` in an environment of its own."""
    found = settings.load(environ or {}, more=ALL_SETTINGS)
    with Router(settings=found) as router:
        answer = router.completion(
            model="codeworld", items=[ITEM], repeats=0, api_base=base, **arguments
        )
    return answer.additional_kwargs["codeworld"]


def test_the_provider_works_the_same_here_and_at_a_bridge(base, tmp_path):
    """The same findings, summary and best, whichever way the job goes."""
    environ = {"SCILLM_RUNS_DIR": str(tmp_path)}
    here = ask(environ=environ, seed=3)
    there = ask(base, environ=environ, seed=3)

    assert here["summary"] == there["summary"]
    assert [row["best"] for row in here["results"]] == [row["best"] for row in there["results"]]
    assert [row["digest"] for row in here["run_manifest"]["findings"]] == [
        row["digest"] for row in there["run_manifest"]["findings"]
    ]
    assert there["run_manifest"]["job"]["seed"] == 3


def test_the_callers_seed_counts_at_a_bridge_too(base):
    """SCILLM_DETERMINISTIC_SEED stands in for `seed`, wherever the job is run; an argument wins."""
    environ = {"SCILLM_DETERMINISTIC_SEED": "77"}

    seeds = [ask(base, environ=environ, **seed)["run_manifest"]["job"]["seed"]
             for seed in ({}, {"seed": 3})]  # fmt: skip

    assert seeds == [77, 3]


def test_an_explicit_address_wins_over_the_environment(base):
    """CODEWORLD_BASE stands in for `api_base`; `here` is this process all the same."""
    gone = {"CODEWORLD_BASE": "http://127.0.0.1:9"}

    assert ask(base, environ=gone)["summary"]["succeeded"] == 1
    assert ask("here", environ=gone)["summary"]["succeeded"] == 1
    assert ask(environ={"CODEWORLD_BASE": base})["run_manifest"]["run_id"].startswith("20")
    with pytest.raises(APIConnectionError):
        ask(environ=gone, num_retries=0)


def test_the_environments_token_goes_to_the_environments_bridge_alone(tmp_path):
    """An address that a caller gives is never sent CODEWORLD_TOKEN."""
    app = bridge.make_app(values(tmp_path, CODEWORLD_TOKEN=TOKEN))
    with served(app) as url:
        environ = {"CODEWORLD_BASE": url, "CODEWORLD_TOKEN": TOKEN}
        assert ask(environ=environ)["summary"]["succeeded"] == 1
        assert ask(url, environ=environ, api_key=TOKEN)["summary"]["succeeded"] == 1
        with pytest.raises(AuthenticationError):
            ask(url, environ=environ)


def test_a_bridges_refusal_arrives_as_an_error(base):
    """What the engine there raised, or the error of its status."""
    with pytest.raises(BadRequestError, match="speed"):
        ask(base, strategy="mcts", params={"speed": 5})
    with (
        Router(settings=settings.load({}, more=ALL_SETTINGS)) as router,
        pytest.raises(EngineError, match=r"0\.5 s"),
    ):
        router.completion(model="codeworld", items=[FOREVER], api_base=base, timeout=0.5)


def test_the_provider_is_an_engine_wherever_it_works(base):
    """The same job goes to the bridge when there is one."""
    with Router(settings=settings.load({}, more=ALL_SETTINGS)) as router:
        afar = router.provider(Endpoint(provider="codeworld", api_base=base))

        assert isinstance(afar, Engine)


# -- starting it -------------------------------------------------------------------------------


def test_importing_the_bridge_reads_no_environment_and_uvicorn_finds_the_app(tmp_path):
    """`uvicorn scillm_codeworld.bridge:app` serves; a bad setting matters only then."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "scillm_codeworld.bridge:app", "--port", str(port)]
    environ = {**os.environ, "SCILLM_RUNS_DIR": str(tmp_path), "CODEWORLD_TOKEN": TOKEN}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            seen = []
            while "running on" not in "".join(seen).lower():
                seen.append(server.stdout.readline())
                assert seen[-1], seen
            reply = complete(
                f"http://127.0.0.1:{port}",
                canonical(),
                headers={"authorization": f"Bearer {TOKEN}"},
            )
        finally:
            server.terminate()

    assert reply.json()["summary"]["succeeded"] == 1


def test_the_command_serves_until_it_is_told_to_stop(tmp_path):
    """`scillm codeworld serve --port 0` says where it is, answers, and ends on SIGTERM with 0."""
    code = "from scillm_codeworld.command import command; command()"
    command = [sys.executable, "-c", code, "serve", "--port", "0", "--runs-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        line = server.stdout.readline()
        url = line.split()[-1]
        told = complete(url, canonical()).json()
        server.terminate()
        rest = server.stdout.read()

    assert "ready on http://127.0.0.1:" in line
    assert told["summary"]["succeeded"] == 1
    assert server.returncode == 0, rest
    assert len(RunStore(tmp_path).ids()) == 1


# -- the pure parts ----------------------------------------------------------------------------


def test_read_asked_leaves_its_arguments_as_they_are():
    """Neither the items nor the options of a request are changed."""
    item = {"task": "t", "context": {"xs": [1], "tool_invocations": [1]}}
    given = {"iterations": 2, "scoring": {"code": "c"}, "session_id": "s", "max_seconds": 3}
    before = json.dumps([item, given])

    asked = read_asked([item, 5], given)

    assert json.dumps([item, given]) == before
    assert asked.items == [{"task": "t", "context": {"input": [1]}, "scoring": {"code": "c"}}, 5]
    assert asked.options == {}
    assert asked.session == {"session_id": "s", "track_id": None}
    assert len(asked.notes) == 2


def test_of_two_inputs_the_one_of_today_counts_and_the_other_is_told():
    """`xs` beside `input` is not silently dropped."""
    asked = read_asked([{"task": "t", "context": {"xs": [1], "input": [2]}}], {})

    assert asked.items == [{"task": "t", "context": {"input": [2]}}]
    assert asked.notes == ("context.xs has no effect beside input or inputs",)


@pytest.mark.parametrize(
    ("given", "judge"),
    [({"judge_mode": "lex"}, "lexicographic"), ({"judge": True}, "weighted"),
     ({"judge": False, "judge_mode": "lex"}, None), ({"judge": "pareto"}, "pareto")],
)  # fmt: skip
def test_a_judge_may_be_named_by_its_mode_alone(given, judge):
    """In the older words or in those of today."""
    assert read_asked([], given).options.get("judge") == judge


@pytest.mark.parametrize(
    ("args", "keys", "value"),
    [
        ({"judge": True, "repeats": 1}, {"aggregate_judge"}, 1.0),
        ({"judge": {"weights": {"correctness": 1.0}}}, {"aggregate_judge"}, 1.0),
        ({"judge_mode": "lex", "repeats": 1}, {"aggregate_judge_lex"}, [1.0, 1.0, 1.0]),
        ({"judge": "pareto"}, set(), None),
        ({}, set(), None),
    ],
)
def test_a_judge_that_was_asked_for_is_told_under_the_keys_clients_know(base, args, keys, value):
    """`aggregate_judge`, or a list by `aggregate_judge_lex`; without a judge neither."""
    (result,) = complete(base, canonical(**args)).json()["results"]

    known = {"aggregate_judge", "aggregate_judge_lex"}
    assert set(result) & known == keys
    assert all(result[key] == value for key in keys)
    assert ("scores_judge" in result) == bool(args)


def test_a_judge_in_both_words_is_refused():
    """Neither wins in silence."""
    with pytest.raises(UsageError, match="judge is 'pareto' and judge_mode is 'lex'"):
        read_asked([], {"judge": "pareto", "judge_mode": "lex"})


def test_an_item_that_is_none_has_familiar_keys_all_the_same():
    """A client that reads `scores` of an invalid item finds nothing in it."""
    found = familiar_result({"status": "invalid", "best": None}, 7)

    assert found == {"status": "invalid", "best": None, "item": 7, "scores": {}, "outputs": {},
                     "timings": {}}  # fmt: skip


def test_several_clients_at_once_each_get_their_own(base):
    """Answers do not mix."""
    found = {}

    def work(number):
        context = {"code_variants": {"a": f"def solve(x): return x + {number}"}, "input": 0,
                   "expected": number}  # fmt: skip
        told = complete(base, {"items": [{"id": f"i{number}", "task": "t", "context": context}]})
        found[number] = told.json()["results"][0]["outputs"]["result"]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {number: number for number in range(4)}


def test_the_provider_is_found_by_its_name():
    """The entry point leads to the class that knows both ways."""
    assert Registry().get("scillm.providers", "codeworld").__name__ == "CodeWorld"
