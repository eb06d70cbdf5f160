"""The bridge over real sockets: SciLLM's envelope, Kimina's API, bounds, tokens, cancellation."""

from __future__ import annotations

import importlib
import json
import socket
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm import portal
from scillm.errors import UsageError
from scillm.plugins.settings import load
from scillm.records import ChatRequest, Endpoint
from scillm.serve.bridge_app import BridgeLimits
from scillm.testing import host_for
from scillm_certainly.bridge import certainly_app
from scillm_certainly.errors import QueueFullError
from scillm_certainly.kimina import read_check, read_verify
from scillm_certainly.provider import Certainly
from scillm_certainly.settings import SETTINGS
from support.served import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from scillm.records import Json
    from scillm_certainly.pool.resident import Resident
    from scillm_certainly.records import CheckRequest, ProofVerdict

GOOD = "theorem t (n : Nat) : 0 + n = n := by simp"
ENDLESS = "partial def f (n : Nat) : Nat := f (n + 1)\n#eval f 0"
SMALL = BridgeLimits(max_items=20, max_body_bytes=2_000_000, max_seconds=60)


@pytest.fixture(scope="module")
def base(lean: Resident, lean_values: Mapping[str, Json]) -> Iterator[str]:
    """A bridge over the tests' Lean."""
    with served(certainly_app(lean_values, checker=lean, limits=SMALL)) as url:
        yield url


def call(
    url: str, document: Json = None, *, body: bytes | None = None, **headers: str
) -> tuple[int, Json]:
    data = body if body is not None else None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_the_older_clients_envelope_is_served(base: str) -> None:
    """Aliases are read, answers have the old names, and 1 = 2 is not proved."""
    status, told = call(
        f"{base}/bridge/complete",
        {
            "messages": [],
            "lean4_requirements": [
                {"requirement_text": "1 = 2", "strategies": "direct,computational"},
                {"requirement_text": "∀ n : Nat, n * 0 = 0", "context": {}},
                {"id": "code", "code": GOOD},
                {"code": GOOD, "nonsense": 1},
            ],
            "lean4_flags": ["--deterministic", "--no-llm"],
            "max_seconds": 50,
            "session_id": "s",
            "track_id": "t",
        },
    )

    assert status == 200
    assert told["summary"] == {"items": 4, "proved": 2, "failed": 1, "unproved": 1}
    assert told["statistics"] == {"successful_proofs": 2, "failed_proofs": 1, "unproved": 1}
    assert told["proof_results"] == told["results"]
    assert [row["status"] for row in told["results"]] == [
        "rejected", "proved", "proved", "inconclusive",
    ]  # fmt: skip
    assert told["run_manifest"]["options"]["session_id"] == "s"
    assert told["run_manifest"]["item_ids"] == ["item-1", "item-2", "code", "item-4"]
    assert told["environment"]["lean"] == "4.28.0"


def test_a_job_ends_in_its_time_with_what_was_found(base: str) -> None:
    """An endless item costs the job its time, and not the answers that were there."""
    items = [{"id": "good", "code": GOOD}, {"id": "endless", "code": ENDLESS}]
    status, told = call(f"{base}/bridge/complete", {"items": items, "max_seconds": 4})

    assert status == 200
    assert [(row["status"], row["limit"]) for row in told["results"]] == [
        ("proved", ""),
        ("inconclusive", "timeout"),
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[]", 400),
        (b'{"items": []}', 400),
        (b'{"items": [{"code": "x"}], "max_seconds": -1}', 400),
        (b'{"items": [{"code": "x"}], "colour": 1}', 400),
        (b'{"items": [' + b'{"code": "x"},' * 20 + b'{"code": "x"}]}', 413),
        (b'{"items": ["' + b"x" * 3_000_000 + b'"]}', 413),
    ],
)
def test_what_is_no_request_is_refused(base: str, body: bytes, status: int) -> None:
    """Empty, broken, huge or unknown: a status and a sentence, and the server lives on."""
    answered, told = call(f"{base}/bridge/complete", body=body)

    assert answered == status
    assert told["error"]["message"]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"code": "x" * 1_000_001}, "at most"),
        ({"code": "a\0b"}, "NUL"),
        ({"code": "\ud800"}, "surrogate"),
        ({"code": ""}, "no code"),
        ({"id": "good", "code": GOOD}, "came before"),
        ({"code": GOOD, "heartbeats": -5}, "heartbeats"),
        ({"code": GOOD, "axioms": "x"}, "axioms"),
        (17, "mapping"),
    ],
)
def test_a_bad_item_leaves_its_neighbours_alone(base: str, item: Json, says: str) -> None:
    """The bad item says what is wrong with it; the others are checked."""
    status, told = call(f"{base}/bridge/complete", {"items": [{"id": "good", "code": GOOD}, item]})

    assert status == 200
    assert told["results"][0]["status"] == "proved"
    assert told["results"][1]["limit"] == "malformed"
    assert says in told["results"][1]["reason"]


@pytest.mark.parametrize(
    ("path", "document", "accept"),
    [
        ("/bridge/complete", {"items": [{"code": ENDLESS + "\n-- left"}]}, "*/*"),
        ("/bridge/complete", {"items": [{"code": ENDLESS + "\n-- left"}]}, "text/event-stream"),
        ("/api/check", {"snippets": [{"id": "a", "code": ENDLESS + "\n-- left"}]}, "*/*"),
    ],
    ids=["envelope", "events", "kimina"],
)
def test_a_client_that_leaves_ends_its_check(
    base: str, lean: Resident, path: str, document: Json, accept: str
) -> None:
    """Long before the deadline its Lean is gone, and the next client is answered."""
    host, port = base.removeprefix("http://").split(":")
    body = json.dumps(document).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Accept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    before = portal.call(lean.stats)
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(head.encode() + body)
        at_work = until(lambda: lean.numbers()["busy"] == 1, within_s=60)
    freed = until(lambda: lean.numbers()["busy"] == 0, within_s=10)
    ended = lean.numbers()["ended"]
    status, told = call(f"{base}/bridge/complete", {"items": [{"code": GOOD + "\n-- next"}]})

    assert at_work
    assert freed
    assert ended == before["ended"] + 1
    assert (status, told["summary"]["proved"]) == (200, 1)


def until(holds: Callable[[], bool], *, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return False


def test_unknown_flags_are_refused_item_by_item(base: str) -> None:
    """A flag is one that is known, or nothing is done."""
    flags = ["--output-file=/etc/passwd"]
    _, told = call(f"{base}/bridge/complete", {"items": [{"code": GOOD}], "lean4_flags": flags})

    assert told["summary"]["proved"] == 0
    assert "Unknown flag" in told["results"][0]["reason"]


def test_a_stream_brings_each_result_when_it_is_there(base: str) -> None:
    """Results come one by one with their ids, the quick ones first, and all of them at the end."""
    items: list[Json] = [
        {"id": f"good {number}", "code": f"{GOOD}\n-- {number}"} for number in range(3)
    ]
    items.append({"id": "quick"})
    request = urllib.request.Request(
        f"{base}/bridge/complete",
        data=json.dumps({"items": items}).encode(),
        headers={"accept": "text/event-stream"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        text = answer.read().decode()
    rows = [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:")]
    told, (end,) = [row for row in rows if "result" in row], rows[-1:]

    assert told[0]["item_id"] == "quick"
    assert [row["done"] for row in told] == [1, 2, 3, 4]
    assert {row["item_id"]: row["result"]["status"] for row in told} == {
        row["item_id"]: row["status"] for row in end["results"]
    }
    assert [row["status"] for row in end["results"]] == ["proved"] * 3 + ["inconclusive"]


def test_ready_means_that_a_proof_was_just_checked(base: str) -> None:
    """`/ready` shows the verdicts on a true and a false statement, asked at that moment."""
    before = call(f"{base}/ready")
    health = call(f"{base}/healthz")
    status, document = call(f"{base}/openapi.json")

    assert before[0] == 200
    assert (before[1]["true_statement"], before[1]["false_statement"]) == ("proved", "rejected")
    assert health[1]["engine"] == "certainly"
    assert status == 200
    assert {"/bridge/complete", "/api/check", "/verify"} <= set(document["paths"])


def test_without_a_lean_nothing_is_ready(tmp_path, monkeypatch) -> None:
    """No Lean is 503 everywhere, with what to install; never a proof."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    values = load({"SCILLM_CERTAINLY_HOME": str(tmp_path)}, more=SETTINGS)
    with served(certainly_app(values)) as url:
        ready = call(f"{url}/ready")
        done = call(f"{url}/bridge/complete", {"items": [{"code": GOOD}]})
        kimina = call(f"{url}/api/check", {"snippets": [{"id": "a", "code": GOOD}]})

    assert (ready[0], ready[1]["ready"]) == (503, False)
    assert (done[0], done[1]["summary"]["proved"]) == (503, 0)
    assert kimina[0] == 503
    assert "scillm certainly install" in kimina[1]["detail"]


def test_a_setting_that_is_wrong_stops_the_server_at_once(lean_values: Mapping[str, Json]) -> None:
    """A number of workers that is none is told when the server starts, not by each request."""
    with pytest.raises(UsageError, match="SCILLM_CERTAINLY_WORKERS must be 1 or more"):
        certainly_app({**lean_values, "certainly_workers": 0})


def test_a_token_is_asked_for(lean: Resident, lean_values: Mapping[str, Json]) -> None:
    """With a token set, only those who show it are served, at both APIs."""
    values = {**lean_values, "certainly_token": "s3cret"}
    snippets = {"snippets": [{"id": "a", "code": GOOD}]}
    with served(certainly_app(values, checker=lean)) as url:
        refused = [call(f"{url}/bridge/complete", {})[0], call(f"{url}/api/check", snippets)[0]]
        shown = call(f"{url}/api/check", snippets, Authorization="Bearer s3cret")

    assert refused == [401, 401]
    assert shown[0] == 200


def test_kimina_check_answers_as_kimina_does(base: str) -> None:
    """Every verdict has the form that Kimina's clients read; unsound never looks valid."""
    codes = {
        "good": GOOD,
        "bad": "theorem t : 1 = 3 := rfl",
        "gap": "theorem t : 1 = 3 := sorry",
        "hidden": 'macro "finish" : tactic => `(tactic| sorry)\ntheorem t : 1 = 2 := by finish',
        "axiom": "axiom a : 1 = 2\ntheorem t : 1 = 2 := a",
        "hash": "#check Nat",
        "import": "import Mathlib\ntheorem t : 1 = 1 := rfl",
        "endless": ENDLESS,
    }
    snippets = [{"id": name, "code": code} for name, code in codes.items()]
    status, told = call(f"{base}/api/check", {"snippets": snippets, "timeout": 5, "debug": True})
    rows = {row["id"]: row for row in told["results"]}

    assert status == 200
    assert rows["good"]["response"] == {"env": 0}
    assert rows["bad"]["response"]["messages"][0]["severity"] == "error"
    assert rows["gap"]["response"]["sorries"][0]["goal"] == "⊢ 1 = 3"
    assert rows["hidden"]["response"]["sorries"]
    assert "unsound" in rows["axiom"]["response"]["messages"][-1]["data"]
    assert rows["hash"]["response"]["messages"][0]["data"] == "Nat : Type"
    assert rows["hash"]["response"]["messages"][0]["endPos"] == {"line": 1, "column": 6}
    assert "Mathlib" in json.dumps(rows["import"]["response"])
    assert rows["endless"]["error"] == "Lean REPL command timed out in 5 seconds"
    assert rows["endless"]["diagnostics"]["repl_uuid"]


def test_kimina_verify_answers_as_kimina_does(base: str) -> None:
    """The older endpoint takes proof or code, and works under both of its names."""
    codes = [
        {"custom_id": 7, "proof": GOOD},
        {"custom_id": "b", "proof": None, "code": "theorem t : 1 = 2 := rfl"},
    ]
    for path in ("/verify", "/one_pass_verify_batch"):
        status, told = call(f"{base}{path}", {"codes": codes, "disable_cache": True})

        assert status == 200
        assert [row["custom_id"] for row in told["results"]] == ["7", "b"]
        assert told["results"][0]["response"]["env"] == 0
        assert told["results"][1]["response"]["messages"][0]["severity"] == "error"
    assert call(f"{base}/health") == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"snippets": []},
        {"snippets": [3]},
        {"snippets": [{"id": "a"}]},
        {"snippets": [{"id": "a", "code": 3}]},
        {"snippets": [{"id": "a", "code": "x"}, {"id": "a", "code": "y"}]},
        {"snippets": [{"id": "a", "code": "x"}], "timeout": -1},
        {"snippets": [{"id": "a", "code": "x"}], "timeout": "9"},
        {"snippets": [{"id": "a", "code": "x"}], "infotree": "full"},
    ],
)
def test_what_kimina_would_not_take_is_422(base: str, document: Json) -> None:
    """A request that is none gets Kimina's status and form of error."""
    status, told = call(f"{base}/api/check", document)

    assert status == 422
    assert told["detail"]


JSONS = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["snippets", "codes", "id", "code", "proof", "custom_id", "timeout"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSONS)
def test_any_document_is_read_or_refused(document: Json) -> None:
    """Whatever comes is a list of checks with distinct ids, or a usage error."""
    for read in (read_check, read_verify):
        try:
            found = read(document)
        except UsageError:
            continue
        ids = [row.id for row in found.requests]

        assert ids
        assert len(set(ids)) == len(ids)
        assert found.timeout_s > 0


class Full:
    """A checker that is always full."""

    async def check(self, request: CheckRequest, /) -> ProofVerdict:
        raise QueueFullError("full", retry_after=3.0)


def test_a_full_server_says_when_to_come_back(lean_values: Mapping[str, Json]) -> None:
    """Too much at once is 429 with Retry-After at Kimina's API, 503 at ours."""
    with served(certainly_app(lean_values, checker=Full())) as url:
        status, told = call(f"{url}/api/check", {"snippets": [{"id": "a", "code": "x"}]})
        ours = call(f"{url}/bridge/complete", {"items": [{"code": "x"}]})

    assert (status, told) == (429, {"detail": "No available REPLs"})
    assert (ours[0], ours[1]["results"][0]["limit"]) == (503, "busy")


def test_the_provider_works_through_the_bridge(base: str, lean_values: Mapping[str, Json]) -> None:
    """`completion(model="certainly", api_base=…)` gives what the bridge's Lean found."""
    made = Certainly(Endpoint(provider="certainly", api_base=base), host_for(settings=lean_values))
    items = [{"id": "a", "code": GOOD}, {"id": "b", "requirement_text": "1 = 2"}]
    request = ChatRequest(model="certainly", params={"items": items}, timeout_s=120)
    told = portal.call(made.complete, request).additional_kwargs["certainly"]

    assert [row["status"] for row in told["results"]] == ["proved", "rejected"]
    assert told["run_manifest"]["certificates"][0]["item_id"] == "a"


def test_uvicorns_name_for_it_is_an_app() -> None:
    """`uvicorn scillm_certainly.bridge:app` finds an ASGI app; other names are errors."""
    module = importlib.import_module("scillm_certainly.bridge")

    assert callable(module.app)
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing
