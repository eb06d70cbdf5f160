"""The response cache: the same question is asked once, and never answered wrongly."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time

import anyio
import pytest
import scillm
from hypothesis import given
from hypothesis import strategies as st
from scillm import errors
from scillm.events import CacheFaulted
from scillm.models import ChatMessage, Choice, Completion, Usage
from scillm.plugins.groups import HOOKS
from scillm.runs.cache import ResponseCache, make_cache
from scillm.runs.cache_rows import (
    UnreadableRowError,
    is_whole,
    key_of,
    public_headers,
    read_row,
    row_of,
)
from scillm.runs.cache_sqlite import SqliteStore
from scillm.runs.cache_stores import MemoryStore, StoreFaultError
from support.faulty import CHAT_PATH, FaultyServer, Json, Stall
from support.redis_server import redis_server
from support.strict_chat import answer

MESSAGES = [{"role": "user", "content": "hi"}]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
params = st.dictionaries(st.text(min_size=1, max_size=8), json_values, max_size=4)


@pytest.fixture
def server():
    with FaultyServer() as one:
        yield one


@pytest.fixture
def ask(server):
    def asked(router, text="hi", **more):
        messages = [{"role": "user", "content": text}]
        return router.completion("openai/m", messages, api_base=server.base_url, **more)

    return asked


@pytest.fixture
def process_cache():
    yield
    scillm.initialize_cache("off")


def saying(text, **more):
    choice = {
        "index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop",
        **more,
    }  # fmt: skip
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}


# -- keys and rows -------------------------------------------------------------------------------


@given(params, params, st.text(max_size=5))
def test_two_requests_share_a_key_exactly_when_they_are_the_same(first, second, namespace):
    """The order of parameters does not matter; any other difference does."""

    def key(given):
        return key_of(
            model="m", identity=["p"], messages=MESSAGES, params=given, namespace=namespace
        )

    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert key(first) == key(dict(reversed(first.items())))
    assert (key(first) == key(second)) == same


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"identity": ["elsewhere"]},
        {"messages": [{"role": "user", "content": "ho"}]},
        {"params": {"temperature": 0.5}},
        {"namespace": "n"},
    ],
)
def test_every_part_of_a_request_counts(change):
    """Model, place, messages, parameters, namespace."""
    asked = {"model": "m", "identity": ["p"], "messages": MESSAGES, "params": {}, "namespace": ""}

    assert key_of(**asked) != key_of(**{**asked, **change})


def test_what_is_not_json_has_no_key():
    """It cannot be compared, so it is asked anew."""
    asked = {"model": "m", "identity": [], "messages": MESSAGES}

    assert key_of(**asked, params={"x": object()}) is None
    assert key_of(**asked, params={"x": float("nan")}) is None


def test_credentials_are_no_part_of_a_key():
    """Who asks does not change what is asked."""
    headers = {"Authorization": "Bearer sk-1", "X-API-Key": "k", "OpenAI-Beta": "v2"}

    assert public_headers(headers) == {"openai-beta": "v2"}


def whole(text="yes", **side):
    return Completion(
        id="1",
        model="m",
        choices=[Choice(message=ChatMessage(content=text), finish_reason="stop")],
        usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3),
        extra={"system": "x"},
        additional_kwargs=side,
    )


@given(st.text(), params)
def test_a_row_gives_back_what_was_kept(text, side):
    """Text, unknown fields, usage, and the provider's own side information; not the call's."""
    named = {f"p-{name}": value for name, value in side.items()}
    completion = whole(text, scillm={"attempts": []}, **named)
    row = row_of("k", completion, at=5.0, expires_at=None, source={"provider": "p"})
    kept = read_row("k", row)

    assert kept.completion.to_dict() == completion.to_dict()
    assert kept.completion.additional_kwargs == named
    assert (kept.at, kept.expires_at, kept.source) == (5.0, None, {"provider": "p"})


ROW = row_of("k", whole("the answer is 42"), at=5.0, expires_at=9.0, source={})


@given(st.integers(0, len(ROW) - 1), st.integers(1, 255))
def test_a_damaged_row_is_never_an_answer(place, change):
    """Any single changed byte is found, or changes nothing."""
    damaged = bytearray(ROW)
    damaged[place] ^= change
    try:
        kept = read_row("k", bytes(damaged))
    except UnreadableRowError:
        return

    assert kept == read_row("k", ROW)


@given(st.integers(0, len(ROW) - 1))
def test_a_torn_row_is_never_an_answer(length):
    """Nor is another key's."""
    with pytest.raises(UnreadableRowError):
        read_row("k", ROW[:length])
    with pytest.raises(UnreadableRowError):
        read_row("other", ROW)


@pytest.mark.parametrize(
    ("finish", "content", "is_kept"),
    [
        ("stop", "yes", True),
        ("tool_calls", None, False),
        ("stop", "", False),
        ("length", "ye", False),
        ("content_filter", "no", False),
        (None, "yes", False),
    ],
)
def test_only_finished_answers_that_say_something_are_kept(finish, content, is_kept):
    """What was cut off, filtered or empty is asked again."""
    choice = Choice(message=ChatMessage(content=content), finish_reason=finish)

    assert is_whole(Completion(choices=[choice])) == is_kept
    assert not is_whole(Completion())


def test_what_is_not_json_beside_an_answer_keeps_it_out():
    """A row is whole or not there."""
    assert row_of("k", whole(thing=object()), at=0.0, expires_at=None, source={}) is None


# -- in memory -----------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.binary(max_size=12)), max_size=40),
    st.integers(1, 4),
    st.integers(1, 20),
)
def test_memory_holds_its_bounds_and_the_newest(puts, entries, size):
    """Never more entries or bytes than allowed; what was put last is there, if it fits at all."""
    store = MemoryStore(max_entries=entries, max_bytes=size)
    for key, row in puts:
        store.put(key, row, None)

        assert store.get(key) == (row if len(row) <= size else None)
        assert store.count() <= entries
        assert store.size_bytes <= size


def test_the_least_recently_used_goes_first():
    """Reading keeps a row alive."""
    store = MemoryStore(max_entries=2)
    store.put("a", b"1", None)
    store.put("b", b"2", None)
    store.get("a")
    store.put("c", b"3", None)

    assert [store.get(key) for key in "abc"] == [b"1", None, b"3"]


# -- through the Router --------------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def options(request, tmp_path):
    more = {"path": tmp_path / "answers.sqlite"} if request.param == "sqlite" else {}
    return {"type": request.param, **more}


def test_the_same_question_is_asked_once(server, ask, options):
    """The second answer is the first one, says so, and costs nothing."""
    with scillm.Router(cache=options, budget={"requests": 1}) as router:
        first = ask(router, temperature=0)
        second = ask(router, temperature=0)
        told = router.spend()

    assert len(server.requests) == told.requests == 1
    assert second.to_dict() == first.to_dict()
    assert (first.scillm_meta["cache_hit"], second._hidden_params["cache_hit"]) == (False, True)
    assert second.scillm_meta["response_cost"] == 0.0
    assert second.scillm_meta["attempts"] == []
    assert second.scillm_meta["served_model"] == "m"


def test_another_question_is_another_answer(server, ask, options):
    """Text, parameters, model and place are all part of the question."""
    with scillm.Router(cache=options) as router, FaultyServer() as other:
        ask(router)
        ask(router, text="ho")
        ask(router, seed=1)
        router.completion("openai/m2", MESSAGES, api_base=server.base_url)
        router.completion("openai/m", MESSAGES, api_base=other.base_url)
        ask(router, api_key="sk-someone-else")

        assert (len(server.requests), len(other.requests)) == (4, 1)


def test_calls_control_the_cache_with_litellms_words(server, ask):
    """no-cache does not read, no-store does not write, s-maxage and ttl bound the age."""
    with scillm.Router(cache="memory") as router:
        ask(router, text="a", cache={"no-store": True})
        ask(router, text="a")
        ask(router, text="a", cache={"no-cache": True})
        ask(router, text="a", caching=False)
        counted = len(server.requests)
        ask(router, text="b", cache={"ttl": 0})
        ask(router, text="b")
        expired = len(server.requests)
        time.sleep(0.02)
        ask(router, text="b", cache={"s-maxage": 0.01})
        ask(router, text="b", cache={"s-maxage": 100})
        ask(router, text="b", cache={"namespace": "mine"})
        ask(router, text="b", cache={"use-cache": False})

    assert (counted, expired) == (4, 6)
    assert len(server.requests) == 9


@pytest.mark.parametrize(
    "wrong",
    [
        {"cache": {"nocache": True}},
        {"cache": True},
        {"cache": {"ttl": "1"}},
        {"cache": {"no-cache": 1}},
        {"cache": {"namespace": 3}},
        {"caching": "yes"},
    ],
)
def test_a_misspelt_control_is_refused(ask, wrong):
    """Nobody believes to be past the cache who is not."""
    with scillm.Router(cache="memory") as router, pytest.raises(errors.UsageError, match="cach"):
        ask(router, **wrong)


def test_asking_for_a_cache_that_is_not_there_is_an_error(ask):
    """It would silently cost money."""
    with scillm.Router() as router, pytest.raises(errors.UsageError, match="initialize_cache"):
        ask(router, caching=True)


def test_failures_and_cut_off_answers_are_not_kept(server, ask):
    """The next call asks again."""
    server.queue(
        CHAT_PATH,
        Json({"error": {"message": "down"}}, 500),
        Json(saying("half", finish_reason="length")),
        Json(saying("")),
    )
    with scillm.Router(cache="memory") as router:
        with pytest.raises(errors.InternalServerError):
            ask(router)
        texts = [ask(router).text for _ in range(4)]

    assert texts == ["half", "", "echo:hi", "echo:hi"]
    assert len(server.requests) == 4


def test_json_that_breaks_its_schema_is_not_kept(server, ask):
    """A checked answer does not fail for ever because it failed once."""
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    server.queue(
        CHAT_PATH, Json(saying("no json")), Json(saying('{"b": 1}')), Json(saying('{"a": 1}'))
    )
    with scillm.Router(cache="memory") as router:
        plain = {"response_format": wanted, "response_mode": "plain"}
        texts = [ask(router, **plain).text for _ in range(4)]

    assert texts == ["no json", '{"b": 1}', '{"a": 1}', '{"a": 1}']


def test_a_fallbacks_answer_is_not_kept_as_the_groups(server):
    """When the group is back, it answers itself."""
    server.queue(CHAT_PATH, Json({"error": {"message": "down"}}, 500))
    rows = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": url}}
        for name, url in (("a", server.base_url), ("b", server.base_url))
    ]
    with scillm.Router(rows, fallbacks=[{"a": ["b"]}], cache="memory") as router:
        answers = [router.completion("a", MESSAGES) for _ in range(3)]

    assert [a.scillm_meta["resolved_model"] for a in answers] == ["b", "a", "a"]
    assert [a.scillm_meta["cache_hit"] for a in answers] == [False, False, True]


def test_a_group_shares_answers_among_its_deployments(server):
    """Whoever of a group answered, the group has answered; a changed group starts afresh."""
    with FaultyServer() as other:
        rows = [
            {"model_name": "g", "litellm_params": {"model": "openai/m", "api_base": one.base_url}}
            for one in (server, other)
        ]
        cache = make_cache()
        with scillm.Router(rows, cache=cache) as router:
            for _ in range(5):
                router.completion("g", MESSAGES)
        with scillm.Router(rows[:1], cache=cache) as router:
            router.completion("g", MESSAGES)

        assert len(server.requests) + len(other.requests) == 2


def test_streams_pass_the_cache_by(server, ask):
    """They are neither answered from it nor kept."""
    with scillm.Router(cache="memory") as router:
        for _ in range(2):
            with ask(router, stream=True) as stream:
                for _ in stream:
                    pass

    assert len(server.requests) == 2


def test_identical_requests_in_the_air_are_asked_once_if_wished(server):
    """With single_flight 20 simultaneous calls are one request; without it 20."""
    server.route(CHAT_PATH, lambda request: Stall(0.1, answer(request)))

    async def run(most_requests):
        cache = make_cache(single_flight=most_requests == 1)
        requests = [{"model": "openai/m", "messages": MESSAGES, "api_base": server.base_url}] * 20
        async with scillm.Router(cache=cache) as router:
            return await router.parallel_acompletions(requests, max_concurrency=20)

    together = anyio.run(run, 1)
    one = len(server.requests)
    anyio.run(run, 20)

    assert one == 1
    assert sum(result.response.scillm_meta["cache_hit"] for result in together) == 19
    assert len(server.requests) == 1 + 20


def test_a_cancelled_leader_leaves_the_question_to_the_next(server):
    """Those who wait for an answer get one."""
    server.route(CHAT_PATH, lambda request: Stall(0.2, answer(request)))

    async def run():
        texts = []
        async with scillm.Router(cache=make_cache(single_flight=True)) as router:
            await router.acompletion("openai/m2", MESSAGES, api_base=server.base_url)

            async def one(limit_s):
                with anyio.move_on_after(limit_s):
                    done = await router.acompletion("openai/m", MESSAGES, api_base=server.base_url)
                    texts.append(done.text)

            async with anyio.create_task_group() as group:
                group.start_soon(one, 0.1)
                await anyio.sleep(0.01)
                group.start_soon(one, 10.0)
                group.start_soon(one, 10.0)
        return texts

    assert anyio.run(run) == ["echo:hi", "echo:hi"]
    assert len(server.requests) == 3


@pytest.mark.usefixtures("process_cache")
def test_a_process_cache_serves_routers_without_their_own(server, ask):
    """`initialize_cache` once; Router(cache=False) stays out."""
    scillm.initialize_cache()
    with scillm.Router() as one, scillm.Router() as other, scillm.Router(cache=False) as out:
        ask(one)
        ask(other)
        ask(out)
        stats = scillm.cache_stats()

    assert len(server.requests) == 2
    assert (stats["backend"], stats["hits"], stats["misses"], stats["kept"]) == ("memory", 1, 1, 1)
    scillm.initialize_cache("off")
    assert scillm.cache_stats()["backend"] is None


@pytest.mark.usefixtures("process_cache")
def test_the_environment_can_switch_it_off(monkeypatch):
    """For a run that must ask; namespace and time to live come from there too."""
    monkeypatch.setenv("SCILLM_CACHE_DISABLE", "1")

    assert scillm.initialize_cache() is None
    monkeypatch.delenv("SCILLM_CACHE_DISABLE")
    monkeypatch.setenv("SCILLM_CACHE_TTL_SEC", "60")
    monkeypatch.setenv("RUN_ID", "run-7")
    stats = scillm.initialize_cache().stats()
    assert (stats["ttl"], stats["namespace"]) == (60.0, "run-7")


@pytest.mark.parametrize(
    "given",
    [{"type": "disk"}, "disk", 3, {"max_entries": 0}, {"type": "memory", "path": "x"},
     {"url": "redis://x", "type": "sqlite"}, {"size": 3}, {"ttl_s": -1}],
)  # fmt: skip
def test_a_cache_that_cannot_be_made_is_refused(given):
    """At construction, not at the first call."""
    with pytest.raises(errors.UsageError):
        scillm.Router(cache=given)


def test_a_word_that_a_cache_does_not_know_is_named():
    """With those that it knows, and without the name of a function inside."""
    with pytest.raises(errors.UsageError, match=r"^cache has no ttl; it knows type, .*ttl_s"):
        scillm.Router(cache={"ttl": 5})


def test_answers_expire():
    """On the cache's own clock: kept at 0 for 10 s, there at 9.9, gone at 10."""
    now = [0.0]
    cache = ResponseCache(MemoryStore(), ttl_s=10.0, clock=lambda: now[0])

    async def run():
        await cache.keep("k", whole(), ttl_s=None, source={}, fault=pytest.fail)
        found = []
        for at in (9.9, 10.0):
            now[0] = at
            found.append(await cache.find("k", max_age_s=None, fault=pytest.fail))
        return found

    found = anyio.run(run)

    assert [kept is not None for kept in found] == [True, False]


# -- in a file -----------------------------------------------------------------------------------


def faults_of(router):
    seen = []

    class Plugin:
        def scillm_event(self, event):
            if isinstance(event, CacheFaulted):
                seen.append(event)

    router.registry.register(HOOKS, "listener", Plugin())
    return seen


def test_a_file_outlives_the_process(server, ask, tmp_path):
    """Another Router on the same file has the answers."""
    path = tmp_path / "deep" / "answers.sqlite"
    for _ in range(3):
        with scillm.Router(cache={"path": path}) as router:
            ask(router)

    assert len(server.requests) == 1


def test_a_damaged_row_is_told_and_asked_again(server, ask, tmp_path):
    """An event and a miss; then the row is good again."""
    path = tmp_path / "answers.sqlite"
    with scillm.Router(cache={"path": path}) as router:
        seen = faults_of(router)
        ask(router)
        with sqlite3.connect(path) as db:
            db.execute("UPDATE scillm_answers SET row = replace(row, 'echo', 'evil')")
        db.close()
        texts = [ask(router).text for _ in range(2)]

    assert texts == ["echo:hi", "echo:hi"]
    assert len(seen) == 1
    assert "cannot be read" in seen[0].reason
    assert len(server.requests) == 2


def test_a_file_that_breaks_under_way_stops_nobody(server, ask, tmp_path):
    """Every call is answered by asking, and every fault is told."""
    path = tmp_path / "answers.sqlite"
    with scillm.Router(cache={"path": path}) as router:
        seen = faults_of(router)
        ask(router)
        router.close()
        for wal in path.parent.glob("answers.sqlite-*"):
            wal.unlink()
        path.write_bytes(b"this is no database, however long one looks at it" * 100)
        texts = [ask(router).text for _ in range(2)]

    assert texts == ["echo:hi", "echo:hi"]
    assert len(server.requests) == 3
    assert len(seen) == 4


def test_a_foreign_file_is_left_alone(tmp_path):
    """It is refused at once, and not a byte of it is changed."""
    path = tmp_path / "thesis.txt"
    path.write_text("years of work\n" * 500)
    with pytest.raises(errors.UsageError, match="cannot hold a response cache"):
        make_cache(path=path)

    assert path.read_text() == "years of work\n" * 500


def test_several_processes_write_one_file(tmp_path):
    """Nothing is lost, nobody is locked out."""
    path = tmp_path / "answers.sqlite"
    script = (
        "import sys; from scillm.runs.cache_sqlite import SqliteStore\n"
        "store = SqliteStore(sys.argv[1])\n"
        "for n in range(100): store.put(f'{sys.argv[2]}-{n}', b'x' * 100, None)\n"
        "store.close()\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(path), str(number)])
        for number in range(3)
    ]
    codes = [process.wait(60) for process in processes]

    store = SqliteStore(path)
    assert codes == [0, 0, 0]
    assert store.count() == 300
    store.close()


def test_threads_share_a_store(tmp_path):
    """Each row is read as it was written."""
    path = tmp_path / "answers.sqlite"
    store = SqliteStore(path)
    wrong = []

    def work(name):
        for n in range(50):
            store.put(f"{name}{n}", f"{name}{n}".encode(), None)
            if store.get(f"{name}{n}") != f"{name}{n}".encode():
                wrong.append((name, n))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert store.count() == 150
    store.drop("a0")
    assert store.get("a0") is None
    store.clear()
    assert store.count() == 0
    store.close()


def test_expired_rows_leave_the_file(tmp_path):
    """When it is opened again."""
    path = tmp_path / "answers.sqlite"
    store = SqliteStore(path)
    store.put("old", b"1", time.time() - 1)
    store.put("new", b"2", time.time() + 100)
    store.put("always", b"3", None)
    store.close()
    store = SqliteStore(path)

    assert store.count() == 2
    store.close()


# -- in Redis ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as served:
        yield f"{served}/0"


def test_redis_keeps_answers_for_everyone(server, ask, redis_url):
    """Two Routers with the same Redis ask once; clearing takes only our rows."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.set("somebody-elses", "1")
        for _ in range(2):
            with scillm.Router(cache={"url": redis_url, "ttl_s": 100.0}) as router:
                ask(router)
        cache = make_cache(url=redis_url)
        (key,) = client.scan_iter(match="scillm:cache:*")
        assert 0 < client.pttl(key) <= 100_000
        cache.clear()

        assert len(server.requests) == 1
        assert client.get("somebody-elses") == b"1"
        assert list(client.scan_iter(match="scillm:cache:*")) == []
        assert cache.stats()["entries"] is None
        cache.close()


def test_a_redis_that_is_not_there_is_said_at_once_and_its_password_never():
    """A wrong URL is no silent cache of nothing."""
    with pytest.raises(errors.UsageError, match="cannot be used") as caught:
        make_cache(url="redis://:sk-secret@127.0.0.1:9/0")

    assert "sk-secret" not in str(caught.value)


def test_a_store_that_fails_is_a_miss():
    """Whatever the store, the call goes on."""

    class Broken(MemoryStore):
        def get(self, key, /):
            raise StoreFaultError("gone")

        def put(self, key, row, expires_at, /):
            raise StoreFaultError("gone")

        def count(self):
            raise StoreFaultError("gone")

    said = []
    cache = ResponseCache(Broken())

    async def run():
        await cache.keep("k", whole(), ttl_s=None, source={}, fault=said.append)
        return await cache.find("k", max_age_s=None, fault=said.append)

    assert anyio.run(run) is None
    assert said == ["gone", "gone"]
    assert cache.stats()["faults"] == 2
    assert cache.stats()["kept"] == 0
    assert cache.stats()["entries"] is None
