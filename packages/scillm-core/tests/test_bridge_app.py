"""The bridge's server on real sockets: answers, limits, cancelling, background work, streams."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from scillm.errors import EngineError, SandboxError, UsageError
from scillm.events import ItemFinished
from scillm.records import JobResult
from scillm.runs.manifest import finding
from scillm.serve.bridge_app import BridgeLimits, bridge_app
from scillm.serve.envelope import EnvelopeSpec
from scillm.serve.openapi import Operation
from scillm.serve.web import Request, Response, Route, json_response
from support.served import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scillm.events import Event
    from scillm.records import Job

SPEC = EnvelopeSpec(engine="adder", schema="adder@v1")
TOKEN = "a-long-random-token"


class Adder:
    """Adds the numbers of every item; `sleep_s` in an item is slept. Remembers what happened."""

    def __init__(self, emit: Callable[[Event], None] = lambda _event: None) -> None:
        self.emit = emit
        self.begun = threading.Semaphore(0)
        self.cancelled = threading.Semaphore(0)
        self.running = 0
        self.most = 0

    async def run(self, job: Job, /) -> JobResult:
        self.begun.release()
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            rows = [
                await self.add(item, number, len(job.items))
                for number, item in enumerate(job.items, 1)
            ]
        except anyio.get_cancelled_exc_class():
            self.cancelled.release()
            raise
        finally:
            self.running -= 1
        return JobResult(
            summary={"items": len(rows)},
            results=rows,
            findings=[finding(f"{row['item_id']}/sum", row["sum"]) for row in rows],
            environment={"seed": job.seed},
        )

    async def add(self, item: Any, number: int, total: int) -> dict[str, Any]:
        if "raise" in item:
            raise {"engine": EngineError, "sandbox": SandboxError, "usage": UsageError}.get(
                item["raise"], RuntimeError
            )(f"the {item['raise']} said no to sk-secret-of-somebody")
        await anyio.sleep(item.get("sleep_s", 0))
        self.emit(ItemFinished(engine="adder", item_id=f"{number}", done=number, total=total))
        return {"item_id": f"item-{number}", "sum": sum(item.get("add", [])) + item.get("more", 0)}


def numbers(*add: float, **more: Any) -> dict[str, Any]:
    return {"items": [{"add": list(add), **more}]}


@contextmanager
def bridge(engine: Any = None, **options: Any) -> Iterator[httpx.Client]:
    app = bridge_app(engine or Adder(), spec=SPEC, **options)
    with served(app) as url, httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
        yield client


def complete(client: httpx.Client, document: Any, **headers: str) -> httpx.Response:
    return client.post("/bridge/complete", json=document, headers=headers)


def until(done: Callable[[], bool], *, seconds: float = 10) -> bool:
    """Whether `done()` came true in time."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if "data" in fields:
            found.append((fields.get("event", ""), json.loads(fields["data"])))
    return found


def test_a_job_is_worked_on_and_answered() -> None:
    """One POST: the engine's results, findings and environment, and how long it took."""
    with bridge() as client:
        answer = complete(client, {**numbers(1, 2, 39), "seed": 7})

    assert answer.status_code == 200
    body = answer.json()
    assert body["results"] == [{"item_id": "item-1", "sum": 42}]
    assert body["findings"][0]["value"] == 42
    assert body["environment"] == {"seed": 7}
    assert body["run_manifest"]["seed"] == 7
    assert abs(body["run_manifest"]["ts"] - time.time()) < 60
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ("engine", 500, "engine_failed"),
        ("sandbox", 503, "sandbox_unavailable"),
        ("usage", 400, None),
        ("surprise", 500, "internal_error"),
    ],
)
def test_an_engine_that_fails_says_what_kind_of_failure(
    said: str, status: int, code: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors of the engine become a status and a code; nothing that looks like a key gets out."""
    with bridge() as client:
        answer = complete(client, {"items": [{"raise": said}]})

    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert "sk-secret" not in answer.text
    assert ("said no" in error["message"]) == (said != "surprise")
    assert bool(caplog.records) == (said == "surprise")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "must be JSON"),
        (b"{", 400, "must be JSON"),
        (b"\xff\xfe\xfd", 400, "is not UTF-8"),
        (b'{"items": [NaN]}', 400, "NaN is not JSON"),
        (b"[" * 200_000, 400, "nested too deeply"),
        (b"[]", 400, "must be a JSON object"),
        (b'{"item": []}', 400, "Did you mean 'items'"),
        (b'{"items": [' + b"1," * 5 + b"1]}", 413, "At most 5 items"),
        (b'{"items": ["' + b"x" * 300_000 + b'"]}', 413, "larger than 262144 bytes"),
    ],
)
def test_a_wrong_body_gets_a_clear_refusal(body: bytes, status: int, says: str) -> None:
    """Empty, cut, not text, not JSON, too deep, too many, too large: each is told apart."""
    limits = BridgeLimits(max_items=5, max_body_bytes=256 * 1024)
    with bridge(limits=limits) as client:
        answer = client.post("/bridge/complete", content=body)
        after = complete(client, numbers(1))

    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]
    assert after.status_code == 200


def test_a_body_without_a_length_is_bounded_too() -> None:
    """Chunked uploads stop at the same size."""
    with bridge(limits=BridgeLimits(max_body_bytes=1000)) as client:
        answer = client.post("/bridge/complete", content=(b"x" * 100 for _ in range(20)))

    assert answer.status_code == 413


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    """A client that sends half a body gets 408 after the time the server grants."""
    head = b"POST /bridge/complete HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{"
    with (
        bridge(limits=BridgeLimits(body_seconds=0.1)) as client,
        socket.create_connection((client.base_url.host, client.base_url.port or 0)) as raw,
    ):
        raw.settimeout(10)
        raw.sendall(head)
        reply = raw.recv(65536)

    assert reply.startswith(b"HTTP/1.1 408")


def test_work_is_stopped_at_its_time_limit() -> None:
    """max_seconds ends the work itself, not only the waiting: 504 says so."""
    engine = Adder()
    with bridge(engine) as client:
        answer = complete(client, {**numbers(1, sleep_s=60), "max_seconds": 0.05})
        stopped = engine.cancelled.acquire(timeout=10)

    assert answer.status_code == 504
    assert "not done within 0.05 s and was stopped" in answer.json()["error"]["message"]
    assert stopped


def test_more_time_than_the_server_gives_is_cut_and_told() -> None:
    """A client that asks for an hour is told that it gets less."""
    with bridge(limits=BridgeLimits(max_seconds=5)) as client:
        answer = complete(client, {**numbers(1), "max_seconds": 3600})

    assert answer.json()["warnings"] == [
        "max_seconds is 5, the limit of this server, instead of 3600"
    ]
    assert answer.json()["run_manifest"]["options"]["max_seconds"] == 5


def test_no_more_than_the_stated_number_run_at_once_and_a_full_queue_is_told() -> None:
    """Two run, two wait, the fifth gets 429 with Retry-After; all accepted ones are answered."""
    engine = Adder()
    limits = BridgeLimits(max_concurrency=2, queue=2)
    answers: list[httpx.Response] = []
    with bridge(engine, limits=limits) as client:

        def ask() -> None:
            answers.append(complete(client, numbers(1, sleep_s=0.6)))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        busy = until(lambda: "scillm_bridge_waiting 2" in client.get("/metrics").text)
        refused = complete(client, numbers(1))
        for thread in threads:
            thread.join()

    assert busy
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "queue_full"
    assert [answer.status_code for answer in answers] == [200] * 4
    assert engine.most == 2


def test_waiting_in_the_queue_has_an_end() -> None:
    """Who waits too long for a slot gets 429, and the queue is free again."""
    limits = BridgeLimits(max_concurrency=1, queue=1, queue_seconds=0.05)
    engine = Adder()
    with bridge(engine, limits=limits) as client:
        other = threading.Thread(target=lambda: complete(client, numbers(1, sleep_s=0.5)))
        other.start()
        engine.begun.acquire(timeout=10)
        answer = complete(client, numbers(1))
        other.join()
        after = complete(client, numbers(1))

    assert answer.status_code == 429
    assert "no slot became free within 0.05 s" in answer.json()["error"]["message"]
    assert after.status_code == 200


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_work_ends_when_the_client_leaves(accept: str) -> None:
    """Closing the socket cancels the engine's work, and frees its slot."""
    engine = Adder()
    body = json.dumps(numbers(1, sleep_s=60)).encode()
    head = (
        f"POST /bridge/complete HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: {accept}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()
    with bridge(engine, limits=BridgeLimits(max_concurrency=1, queue=0)) as client:
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as raw:
            raw.sendall(head + body)
            begun = engine.begun.acquire(timeout=10)
        cancelled = engine.cancelled.acquire(timeout=10)
        free = until(lambda: "scillm_bridge_running 0" in client.get("/metrics").text)
        counted = 'outcome="cancelled"} 1' in client.get("/metrics").text
        after = complete(client, numbers(2))

    assert begun
    assert cancelled
    assert free
    assert counted
    assert after.json()["results"][0]["sum"] == 2


def test_background_work_is_fetched_later() -> None:
    """202 and a place at once; 202 with progress while it runs; then the answer, more than once."""
    engine = Adder()
    with bridge(lambda emit: setattr(engine, "emit", emit) or engine) as client:
        begun = complete(client, {"items": [{}, {"sleep_s": 0.3, "add": [2]}], "async": True})
        place = begun.headers["location"]
        first = until(lambda: client.get(place).json().get("progress", {}).get("done") == 1)
        done = until(lambda: client.get(place).status_code == 200)
        answers = [client.get(place).json() for _ in range(2)]

    assert begun.status_code == 202
    assert begun.json()["result"] == place
    assert begun.json()["kept_s"] == 3600
    assert int(begun.headers["retry-after"]) == 1
    assert first
    assert done
    assert answers[0] == answers[1]
    assert answers[0]["results"][1]["sum"] == 2


def test_background_work_can_be_asked_for_by_the_standard_header() -> None:
    """`Prefer: respond-async` (RFC 7240, section 4.1) does the same."""
    with bridge() as client:
        answer = complete(client, numbers(1), prefer="respond-async, wait=5")

    assert answer.status_code == 202


def test_background_work_that_fails_answers_with_its_status() -> None:
    """The status of the work is the status of its answer."""
    with bridge() as client:
        place = complete(client, {"items": [{"raise": "sandbox"}], "async": True}).json()["result"]
        done = until(lambda: client.get(place).status_code != 202)
        answer = client.get(place)

    assert done
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "sandbox_unavailable"


def test_background_work_can_be_cancelled() -> None:
    """DELETE stops it, and it is forgotten."""
    engine = Adder()
    with bridge(engine) as client:
        place = complete(client, {**numbers(1, sleep_s=60), "async": True}).json()["result"]
        engine.begun.acquire(timeout=10)
        answer = client.delete(place)
        cancelled = engine.cancelled.acquire(timeout=10)
        gone = client.get(place)

    assert answer.json()["status"] == "cancelled"
    assert cancelled
    assert gone.status_code == 404
    assert gone.json()["error"]["code"] == "job_not_found"


def test_background_work_does_not_outlive_the_server() -> None:
    """Ending the server cancels what still runs."""
    engine = Adder()
    with bridge(engine) as client:
        complete(client, {**numbers(1, sleep_s=60), "async": True})
        engine.begun.acquire(timeout=10)

    assert engine.cancelled.acquire(timeout=0.1)


def test_a_full_server_refuses_background_work_at_once() -> None:
    """429 comes with the POST, not with the result."""
    engine = Adder()
    with bridge(engine, limits=BridgeLimits(max_concurrency=1, queue=0)) as client:
        first = complete(client, {**numbers(1, sleep_s=60), "async": True})
        second = complete(client, {**numbers(1), "async": True})

    assert first.status_code == 202
    assert second.status_code == 429


def test_only_the_last_results_are_kept() -> None:
    """Answers nobody fetches do not fill the memory."""
    with bridge(limits=BridgeLimits(max_kept=2)) as client:
        places = []
        for number in range(4):
            place = complete(client, {**numbers(number), "async": True}).json()["result"]
            places.append(place)
            assert until(lambda place=place: client.get(place).status_code == 200)
        states = [client.get(place).status_code for place in places]

    assert states == [404, 404, 200, 200]


def test_progress_is_streamed_as_it_happens() -> None:
    """One event per item, then the result: the same document as without a stream."""
    with bridge(Adder) as client:
        answer = complete(
            client, {"items": [{"add": [1]}, {"add": [2]}]}, accept="text/event-stream"
        )

    told = events(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [(name, row.get("done")) for name, row in told[:2]] == [("progress", 1), ("progress", 2)]
    assert told[0][1]["type"] == "ItemFinished"
    assert told[2][0] == "result"
    assert [row["sum"] for row in told[2][1]["results"]] == [1, 2]


def test_progress_comes_before_the_end() -> None:
    """The first event is here while the second item still runs."""
    document = {"items": [{}, {"sleep_s": 60}]}
    with (
        bridge(Adder) as client,
        client.stream(
            "POST", "/bridge/complete", json=document, headers={"accept": "text/event-stream"}
        ) as answer,
    ):
        lines = answer.iter_lines()
        line = next(line for line in lines if line.startswith("data"))

    assert json.loads(line.removeprefix("data: "))["done"] == 1


def test_a_stream_that_fails_says_so_in_an_event() -> None:
    """The last event is `error`, with the same body as an error reply."""
    with bridge(Adder) as client:
        answer = complete(client, {"items": [{"raise": "engine"}]}, accept="text/event-stream")

    name, row = events(answer.text)[-1]
    assert name == "error"
    assert row["error"]["code"] == "engine_failed"


def test_a_result_that_is_not_json_is_an_error_not_broken_json() -> None:
    """NaN never reaches a client."""

    class Wild:
        async def run(self, _job: Job, /) -> JobResult:
            return JobResult(summary={"mean": float("nan")}, results=[], findings=[])

    with bridge(Wild()) as client:
        answer = complete(client, numbers(1))

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "result_is_not_json"


def test_the_engine_can_choose_the_status_of_a_result() -> None:
    """A whole result may come with 503, where nothing could be decided."""
    with bridge(status=lambda result: 503 if result.summary["items"] == 2 else 200) as client:
        one = complete(client, numbers(1))
        two = complete(client, {"items": [{}, {}]})

    assert one.status_code == 200
    assert two.status_code == 503
    assert two.json()["summary"] == {"items": 2}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": TOKEN}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"x-api-key": "wrong"}, 401),
        ({"authorization": f"Bearer {TOKEN}"}, 200),
        ({"authorization": f"bearer {TOKEN}"}, 200),
        ({"x-api-key": TOKEN}, 200),
    ],
)
def test_a_server_with_a_token_answers_those_who_bring_it(
    headers: dict[str, str], status: int
) -> None:
    """Everything but /healthz and /ready wants the token; no answer repeats it."""
    with bridge(token=TOKEN) as client:
        answers = [
            complete(client, numbers(1), **headers),
            client.get("/metrics", headers=headers),
            client.get("/openapi.json", headers=headers),
        ]
        nothing = client.get("/bridge/result/x", headers=headers)
        health = client.get("/healthz")

    assert [answer.status_code for answer in answers] == [status] * 3
    assert nothing.status_code == (404 if status == 200 else 401)
    assert health.status_code == 200
    assert not any(TOKEN in answer.text for answer in answers)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "localhost:8888"}, 200),
        ({"host": "[::1]:8888"}, 200),
        ({"host": "codeworld:8888"}, 200),
        ({"origin": "http://localhost:3000"}, 200),
    ],
)
def test_without_a_token_web_pages_cannot_reach_the_engine(
    headers: dict[str, str], status: int
) -> None:
    """A page of another origin, or under a name of its own (DNS rebinding), is refused."""
    with bridge(hosts=["codeworld"]) as client:
        answer = complete(client, numbers(1), **headers)

    assert answer.status_code == status


def test_ready_is_what_the_engine_says() -> None:
    """200 with details, 503 with the reason; details are for those with the token."""
    said: list[Any] = [{"ready": True, "level": "L3"}, {"level": "none"}, False]

    async def ready() -> Any:
        found = said.pop(0)
        if found is False:
            raise SandboxError("no namespaces here")
        return found

    with bridge(ready=ready, token=TOKEN) as client:
        key = {"x-api-key": TOKEN}
        answers = [client.get("/ready", headers=key) for _ in range(3)]
        said.append({"ready": True, "level": "L3"})
        stranger = client.get("/ready")

    assert [answer.status_code for answer in answers] == [200, 503, 503]
    assert answers[0].json() == {"ready": True, "level": "L3"}
    assert answers[2].json() == {"ready": False, "reason": "no namespaces here"}
    assert stranger.json() == {"ready": True}


def test_a_package_adds_routes_behind_the_same_token() -> None:
    """Extra routes are guarded, counted and described like the bridge's own."""

    async def verify(_request: Request) -> Response:
        return json_response({"verified": True})

    routes = [Route("/verify", verify, methods=["POST"])]
    described = Operation(
        method="post",
        path="/verify",
        id="verify",
        summary="Verify.",
        answers={200: ("Yes.", {"application/json": {"type": "object"}})},
    )
    with bridge(token=TOKEN, routes=routes, operations=[described]) as client:
        refused = client.post("/verify")
        answer = client.post("/verify", headers={"x-api-key": TOKEN})
        document = client.get("/openapi.json", headers={"x-api-key": TOKEN}).json()
        metrics = client.get("/metrics", headers={"x-api-key": TOKEN}).text

    assert refused.status_code == 401
    assert answer.json() == {"verified": True}
    assert "/verify" in document["paths"]
    assert 'path="/verify",status="200"} 1' in metrics


def test_what_is_not_there_says_where_to_look() -> None:
    """A wrong path or method is answered with JSON."""
    with bridge() as client:
        missing = client.get("/bridge/complet")
        wrong = client.get("/bridge/complete")

    assert missing.status_code == 404
    assert "/openapi.json" in missing.json()["error"]["message"]
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"


def test_a_hundred_clients_that_leave_at_random_leave_nothing_behind() -> None:
    """After a storm of disconnects nothing runs, nothing waits, and the next job is answered."""
    limits = BridgeLimits(max_concurrency=8, queue=200)
    body = json.dumps(numbers(1, sleep_s=0.05)).encode()
    head = (
        f"POST /bridge/complete HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with bridge(limits=limits) as client:
        address = client.base_url.host, client.base_url.port or 0
        sockets = [socket.create_connection(address) for _ in range(100)]
        for number, raw in enumerate(sockets):
            raw.sendall(head.encode() + body[: len(body) - number % 3])
        for number, raw in enumerate(sockets):
            if number % 2:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            raw.close()

        def idle() -> bool:
            text = client.get("/metrics").text
            return "scillm_bridge_running 0" in text and "scillm_bridge_waiting 0" in text

        quiet = until(idle, seconds=20)
        after = complete(client, numbers(40, 2))

    assert quiet
    assert after.json()["results"][0]["sum"] == 42
