"""The parts of a server: who may come in, how many, what is counted, what is described."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from scillm.errors import (
    ProviderError,
    ScillmError,
    UnsupportedParamError,
    UsageError,
)
from scillm.serve import openapi
from scillm.serve.admission import LONGEST_ADVICE_S, Admission
from scillm.serve.bridge_app import bridge_app, waiting_wanted
from scillm.serve.bridge_openapi import bridge_document
from scillm.serve.chat_app import chat_app
from scillm.serve.chat_openapi import chat_document
from scillm.serve.guard import Guard, host_name, is_local, refuse_open_host
from scillm.serve.jobs import Answer, Jobs
from scillm.serve.metrics import BUCKETS_S, Metrics
from scillm.serve.problems import TYPES, Problem, Refused, problem_of
from scillm.serve.seed_envelopes import CERTAINLY, CODEWORLD
from scillm.serve.web import Route

TOKEN = "a-long-random-token"


# -- the guard ---------------------------------------------------------------------------------


@given(
    token=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), other=st.text()
)
def test_only_the_token_itself_opens_a_server(token: str, other: str) -> None:
    """Whatever else is brought is refused; the refusal never repeats what was wanted."""
    guard = Guard(token=token)
    right = {"authorization": f"Bearer {token}"}

    assert guard.refusal("/x", right) is None
    refusal = guard.refusal("/x", {"authorization": f"Bearer {other}"})
    assert (refusal is None) == (other.strip() == token)
    assert token not in repr(guard) or len(token) < 12


@pytest.mark.parametrize("token", ["", " ", "with space", "schlüssel"])
def test_a_token_that_protects_nothing_is_refused(token: str) -> None:
    """An empty variable is not a token; the error does not show what came."""
    with pytest.raises(UsageError, match="not empty") as caught:
        Guard(token=token)

    assert not token.strip() or token not in str(caught.value)


@pytest.mark.parametrize("path", ["/healthz", "/ready"])
def test_an_orchestrator_needs_no_token(path: str) -> None:
    """Health is open, everything else is not."""
    guard = Guard(token=TOKEN)

    assert guard.refusal(path, {}) is None
    assert guard.refusal(path + "/x", {}) is not None


@given(st.from_regex(r"[a-z0-9.\-]{0,12}(:\d{1,5})?", fullmatch=True))
def test_a_name_is_local_only_when_it_must_be(authority: str) -> None:
    """Only names that resolvers keep on this machine (RFC 6761) and loopback addresses count."""
    host = host_name(authority)

    local = host == "localhost" or host.endswith(".localhost") or host.startswith("127.")
    assert not is_local(host) or local


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_an_open_host_needs_a_token(host: str, local: bool) -> None:
    """Loopback may go without; any other address may be bound with a token only."""
    refuse_open_host(host, token=TOKEN)
    if local:
        refuse_open_host(host, token=None)
        return

    with pytest.raises(UsageError, match="it has no token"):
        refuse_open_host(host, token=None)


def test_a_server_without_a_token_keeps_nothing_from_its_callers() -> None:
    """Who may come in at all may see the details of /ready too."""
    assert Guard(token=None).knows({})


# -- admission ---------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("width", [1, 3])
async def test_admission_is_never_too_wide_and_forgets_nobody(width: int) -> None:
    """Twelve pieces of work, so many at a time; one at a time they begin in the order they came."""
    admission = Admission(width=width, queue=12 - width, queue_s=60)
    begun: list[int] = []
    running = Counter[str]()
    gate = anyio.Event()

    async def work(number: int, ticket: Any) -> None:
        async with ticket:
            begun.append(number)
            running["now"] += 1
            running["most"] = max(running["most"], running["now"])
            await gate.wait()
            running["now"] -= 1

    refused: list[Problem] = []
    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(work, number, admission.enter())
            await anyio.wait_all_tasks_blocked()
        try:
            admission.enter()
        except Refused as error:
            refused.append(error.problem)
        gate.set()

    assert running["most"] == width
    # Slots that become free in one tick are taken in the scheduler's order.
    assert sorted(begun) == list(range(12))
    assert width > 1 or begun == sorted(begun)
    assert (admission.running, admission.waiting) == (0, 0)
    assert [problem.status for problem in refused] == [429]


@pytest.mark.anyio
async def test_who_is_cancelled_while_waiting_gives_the_place_back() -> None:
    """A client that leaves the queue takes nothing with it."""
    admission = Admission(width=1, queue=1, queue_s=60)

    async def wait(ticket: Any) -> None:
        async with ticket:
            raise AssertionError

    async with admission.enter():
        async with anyio.create_task_group() as group:
            group.start_soon(wait, admission.enter())
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        assert admission.waiting == 0
    async with admission.enter():
        assert admission.running == 1


@pytest.mark.anyio
async def test_the_advice_when_to_come_back_follows_the_usual_time() -> None:
    """Retry-After grows with the work that runs, and has a bound."""
    now = [0.0]
    admission = Admission(width=1, queue=0, queue_s=60, clock=lambda: now[0])
    for _ in range(50):
        async with admission.enter():
            now[0] += 30.0

    async with admission.enter():
        with pytest.raises(Refused) as refused:
            admission.enter()

    advice = refused.value.problem.retry_after_s
    assert advice is not None
    assert 25 < advice <= LONGEST_ADVICE_S


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"queue": -1}, {"queue_s": 0}], ids=lambda row: next(iter(row))
)
def test_limits_that_admit_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """A server that can never answer is a mistake, told when it is made."""
    with pytest.raises(ValueError, match="Admission needs"):
        Admission(**{"width": 1, "queue": 1, "queue_s": 1.0, **wrong})


# -- background work ---------------------------------------------------------------------------


@pytest.mark.anyio
async def test_answers_are_forgotten_after_their_time() -> None:
    """An answer is there for as long as was stated, then it is gone."""
    now = [0.0]
    jobs = Jobs(max_kept=10, ttl_s=60, clock=lambda: now[0])

    async def work() -> Answer:
        return Answer(status=200, body=b"{}")

    async with jobs:
        kept = jobs.start("a", lambda _kept: work)
        await kept.over.wait()
        now[0] = 60.0
        there = jobs.get("a")
        now[0] = 60.1
        gone = jobs.get("a")

    assert there is kept
    assert gone is None


def test_background_work_needs_a_running_server() -> None:
    """An app whose lifespan nobody runs says so, instead of losing the work."""
    jobs = Jobs(max_kept=1, ttl_s=1)

    with pytest.raises(UsageError, match="needs the app's lifespan"):
        jobs.start("a", lambda _kept: pytest.fail)


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("", 0), ("respond-async", 0), ("wait=5", 5), ("respond-async, wait=10", 10),
        ('wait="7"', 7), ("wait=99999", 60), ("await=5", 0), ("wait=x", 0),
    ],
)  # fmt: skip
def test_the_wish_to_wait_is_read(prefer: str, seconds: float) -> None:
    """RFC 7240, section 4.3; at most a minute is granted."""
    assert waiting_wanted(prefer) == seconds


# -- metrics -----------------------------------------------------------------------------------


@given(
    seconds=st.lists(st.floats(min_value=0, max_value=1000), min_size=1, max_size=20),
    label=st.text(),
)
def test_metrics_are_prometheus_text(seconds: list[float], label: str) -> None:
    """Every line parses, buckets only grow, and the last one counts everything."""
    metrics = Metrics()
    for took in seconds:
        metrics.took("a_seconds", "How long.", took, path=label)
        metrics.count("a_total", "How many.", path=label)
    metrics.gauge("a_now", "Now.", lambda: 3.5)

    lines = metrics.text().split("\n")

    assert lines[-1] == ""
    assert "a_now 3.5" in lines
    buckets = [int(line.rpartition(" ")[2]) for line in lines if line.startswith("a_seconds_buc")]
    assert len(buckets) == len(BUCKETS_S) + 1
    assert buckets == sorted(buckets)
    assert buckets[-1] == len(seconds)
    for line in lines[:-1]:
        if not line.startswith("# "):
            float(line.rpartition(" ")[2])


def test_a_number_without_labels_has_no_braces() -> None:
    """The plain form of the format."""
    metrics = Metrics()
    metrics.count("a_total", "x", 2)

    assert metrics.text() == "# HELP a_total x\n# TYPE a_total counter\na_total 2\n"


def test_a_label_cannot_break_out_of_its_quotes() -> None:
    """Quotes, backslashes and line ends are escaped as the format says."""
    metrics = Metrics()
    metrics.count("a_total", "x", path='"} 1\nb_total 2\\')

    assert 'a_total{path="\\"} 1\\nb_total 2\\\\"} 1' in metrics.text()


# -- problems ----------------------------------------------------------------------------------


@given(status=st.integers(300, 599), text=st.text())
def test_every_upstream_error_has_a_status_a_client_understands(status: int, text: str) -> None:
    """4xx as they came, 5xx as a gateway's; the body always has OpenAI's four fields."""
    problem = problem_of(ProviderError(text, status_code=status))

    assert problem.status == status if 400 <= status < 500 else problem.status in (502, 503)
    assert set(problem.body()["error"]) == {"message", "type", "param", "code"}


def test_a_problem_shows_the_parameter_but_no_secret() -> None:
    """Keys are masked in every message, the server's own token too."""
    error = UnsupportedParamError(f"'x' is {TOKEN} and sk-abcdefghijklmnop", param="x")

    problem = problem_of(error, secrets=[TOKEN])

    assert problem.param == "x"
    assert problem.message == "'x' is *** and ***"


def _classes(cls: type[ScillmError]) -> list[type[ScillmError]]:
    return [cls, *(sub for child in cls.__subclasses__() for sub in _classes(child))]


@pytest.mark.parametrize("cls", _classes(ScillmError), ids=lambda cls: cls.__name__)
def test_every_error_of_ours_is_a_problem(cls: type[ScillmError]) -> None:
    """No class of the tree falls through to a status without a name."""
    problem = problem_of(cls("the words"))

    assert problem.status in TYPES or problem.status == 500
    assert 400 <= problem.status < 600
    assert ("the words" in problem.message) == (problem.code != "internal_error")


def test_retry_after_is_a_whole_number_of_at_least_one() -> None:
    """RFC 9110, section 10.2.3: seconds, rounded so that nobody comes back too early."""
    heads = [
        Problem(status=429, message="", retry_after_s=wait).head()["retry-after"]
        for wait in (0.0, 0.2, 1.0, 1.2)
    ]

    assert heads == ["1", "1", "1", "2"]


# -- descriptions ------------------------------------------------------------------------------


async def _nobody(_request: Any) -> Any:
    raise AssertionError


APPS = {
    "bridge": (
        bridge_app(lambda _emit: pytest.fail("an engine was made"), spec=CODEWORLD),
        bridge_document(CODEWORLD, version="1", secured=False),
    ),
    "proofs": (
        bridge_app(lambda _emit: pytest.fail("an engine was made"), spec=CERTAINLY, token=TOKEN),
        bridge_document(CERTAINLY, version="1", secured=True),
    ),
    "chat": (
        chat_app(_nobody, models=[], token=TOKEN),
        chat_document("x", version="1", secured=True),
    ),
}


@pytest.mark.parametrize("name", APPS)
def test_openapi_documents_are_valid(name: str) -> None:
    """OpenAPI 3.1 as its own validator reads it."""
    errors = list(OpenAPIV31SpecValidator(APPS[name][1]).iter_errors())

    assert errors == []


@pytest.mark.parametrize("name", APPS)
def test_openapi_describes_what_is_there_and_nothing_else(name: str) -> None:
    """Every route has its operation, every operation its route."""
    app, document = APPS[name]
    routes = {
        (route.path.replace(":path", ""), method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {
        (path, method) for path, methods in document["paths"].items() for method in methods
    }

    assert routes == described


@pytest.mark.parametrize("name", APPS)
def test_openapi_says_where_the_token_is_needed(name: str) -> None:
    """Exactly the operations behind the token name it."""
    app, document = APPS[name]
    secured = "securitySchemes" in document["components"]
    wanted = {
        path: any("security" in row for row in methods.values())
        for path, methods in document["paths"].items()
    }

    assert wanted == {path: secured and path not in ("/healthz", "/ready") for path in wanted}
    assert openapi.COMMON
    assert app is not None
