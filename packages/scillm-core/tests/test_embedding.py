"""`embedding` against real servers on loopback: the same flight as a chat's, for vectors."""

from __future__ import annotations

import base64
import copy
import pickle
import struct

import openai
import pytest
import scillm
from hypothesis import given
from hypothesis import strategies as st
from scillm import Budget, Router, errors
from scillm.models import Embedding, EmbeddingResponse
from scillm.protocols import Embeds
from scillm.providers.vectors import in_order
from scillm.records import EmbeddingRequest, Endpoint
from scillm.routing.embedding import checked_input
from support.faulty import FaultyServer, Html, Json
from support.tinymodel import TinyModelUnavailableError, serve_tiny_model

KEY = "sk-loopback-0123456789"
PATH = "/v1/embeddings"
TEXTS = ["alpha", "beta wörld", "c"]


def vectors(request):
    """A server's answer: vector i of n texts is [i, n, 0.5]; a word is a token."""
    given = request.json["input"]
    pieces = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    rows = [[float(at), float(len(pieces)), 0.5] for at in range(len(pieces))]
    if request.json.get("encoding_format") == "base64":
        rows = [base64.b64encode(struct.pack("<3f", *row)).decode() for row in rows]
    words = sum(len(piece.split()) if isinstance(piece, str) else len(piece) for piece in pieces)
    return Json(
        {
            "object": "list",
            "model": "served-embed",
            "data": [
                {"object": "embedding", "index": at, "embedding": row}
                for at, row in enumerate(rows)
            ],
            "usage": {"prompt_tokens": words, "total_tokens": words},
        }
    )


@pytest.fixture
def server(faulty_server):
    faulty_server.route(PATH, vectors)
    return faulty_server


def ask(server, **more):
    return scillm.embedding(
        **{
            "model": "openai/embed-1",
            "input": TEXTS,
            "api_base": server.base_url,
            "api_key": KEY,
            **more,
        }
    )


def row(group, server, **params):
    return {
        "model_name": group,
        "litellm_params": {
            "model": "openai/embed-1",
            "api_base": server.base_url,
            "api_key": KEY,
            **params,
        },
        "model_info": {"id": f"{group}@{server.port}"},
    }


def test_vectors_come_in_the_order_of_the_texts(server):
    """One vector per text, by attribute and by key, with usage and what is known of the call."""
    answer = ask(server)

    assert [one.index for one in answer.data] == [0, 1, 2]
    assert answer.data[2].embedding == answer["data"][2]["embedding"] == [2.0, 3.0, 0.5]
    assert (answer.usage.prompt_tokens, answer["usage"]["total_tokens"]) == (4, 4)
    assert answer.model == answer.scillm_meta["served_model"] == "served-embed"
    assert answer.scillm_meta["resolved_model"] == "embed-1"
    assert [attempt["outcome"] for attempt in answer.scillm_meta["attempts"]] == ["ok"]
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_an_answer_can_be_kept(server):
    """It pickles, copies, and goes to the JSON that the server sent."""
    answer = ask(server)

    assert pickle.loads(pickle.dumps(answer)) == copy.deepcopy(answer) == answer
    assert answer.to_dict() == vectors(server.requests[0]).obj


@pytest.mark.parametrize(
    "given",
    [
        {"input": "one text"},
        {"input": TEXTS, "dimensions": 3},
        {"input": [1, 2, 3], "user": "u"},
        {"input": [[1, 2], [3]], "dimensions": 3, "user": "u"},
    ],
)
def test_the_body_is_the_openai_clients_to_the_byte(server, given):
    """For the same arguments both clients send the same bytes to the same path."""
    with openai.OpenAI(base_url=server.base_url, api_key=KEY) as client:
        theirs = client.embeddings.create(model="embed-1", encoding_format="float", **given)
    ours = ask(server, encoding_format="float", **given)

    first, second = server.requests
    assert (first.method, first.target, first.body) == (second.method, second.target, second.body)
    assert [one.embedding for one in ours.data] == [one.embedding for one in theirs.data]


def test_base64_comes_as_it_was_asked_for(server):
    """`encoding_format="base64"` gives the server's text: little-endian 32-bit floats."""
    answer = ask(server, encoding_format="base64")

    assert struct.unpack("<3f", base64.b64decode(answer.data[1].embedding)) == (1.0, 3.0, 0.5)


@pytest.mark.parametrize("route", ["", "/", "/chat/completions", "/embeddings"])
def test_an_api_base_with_a_route_serves_too(server, route):
    """Who gave a full URL as api_base, of chats or of vectors, reaches the embeddings."""
    ask(server, api_base=f"{server.base_url}{route}")

    assert server.requests[0].path == PATH


@pytest.mark.anyio
async def test_the_async_form_goes_through_a_router_of_ones_own(server):
    """`Router.aembedding` asks a group; parameters of the row go along."""
    async with Router([row("vectors", server, dimensions=3)]) as router:
        answer = await router.aembedding("vectors", "hello")

    assert server.requests[0].json == {"input": "hello", "model": "embed-1", "dimensions": 3}
    assert answer.additional_kwargs["router"]["model_group"] == "vectors"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (None, "is missing"),
        ([], "empty list"),
        (b"x", "a bytes"),
        ({"text": "x"}, "a dict"),
        (7, "a int"),
        (["a", 1], r"input\[1\] is a int"),
        ([1, "a"], r"input\[1\] is a str"),
        ([True], r"input\[0\] is a bool"),
        ([[1], []], r"input\[1\] is a list"),
        ([[1], [-1]], r"input\[1\] is a list"),
    ],
)
def test_what_is_no_input_is_refused_before_anything_is_sent(server, wrong, says):
    """The error names the place and the type."""
    with pytest.raises(errors.UsageError, match=says):
        ask(server, input=wrong)

    assert server.requests == []


@pytest.mark.parametrize(
    "more", [{"messages": []}, {"stream": True}, {"cache": True}, {"response_format": {}}]
)
def test_what_only_a_chat_has_is_refused(server, more):
    """An argument without effect is never taken silently."""
    with pytest.raises(errors.UnsupportedParamError) as caught:
        ask(server, **more)

    assert caught.value.param in more
    assert server.requests == []


def test_the_default_model_of_chats_is_not_asked_for_vectors(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
):
    """A call without a model is refused, whatever SCILLM_DEFAULT_MODEL says."""
    monkeypatch.setenv("SCILLM_DEFAULT_MODEL", "openai/chat")
    with pytest.raises(errors.UsageError, match="embedding needs model"):
        ask(server, model=None)

    assert server.requests == []


def test_a_provider_that_makes_no_vectors_says_so():
    """A chat-only provider is named, and what would do instead."""

    class Chatty:
        def __init__(self, endpoint, host):
            pass

        async def complete(self, request):
            raise NotImplementedError

    registry = scillm.Registry()
    registry.register("scillm.providers", "chatty", Chatty)
    with Router(registry=registry) as router, pytest.raises(errors.UsageError) as caught:
        router.embedding("chatty/x", "hello")

    assert "'chatty' makes no vectors" in caught.value.message


# -- the flight ---------------------------------------------------------------------------------


def test_a_refused_call_is_tried_again(server):
    """429 and 503, then vectors: retries as of a chat, every attempt told."""
    busy = {"error": {"message": "slow down"}}
    server.queue(PATH, Json(busy, 429, {"retry-after-ms": "1"}), Json(busy, 503))
    answer = ask(server, num_retries=3, retry_base_s=0.001)

    outcomes = [attempt["outcome"] for attempt in answer.scillm_meta["attempts"]]
    assert outcomes == ["RateLimitError", "CapacityError", "ok"]


def test_a_failing_group_falls_back(server):
    """The fallback answers after the group's own deployment has failed once."""
    with FaultyServer() as broken:
        broken.route(PATH, Html())
        with Router(
            [row("first", broken), row("second", server)], fallbacks=[{"first": ["second"]}]
        ) as router:
            answer = router.embedding("first", TEXTS)
        asked = [request.path for request in broken.requests]

    assert answer.additional_kwargs["router"]["fallbacks"] == 1
    assert answer.additional_kwargs["router"]["model_group"] == "second"
    assert asked == [PATH]


def test_the_upstreams_error_is_the_callers(server):
    """401 is an AuthenticationError with provider and model, without the key."""
    server.queue(PATH, Json({"error": {"message": f"wrong key {KEY}"}}, 401))
    with pytest.raises(errors.AuthenticationError) as caught:
        ask(server)

    assert (caught.value.provider, caught.value.model) == ("openai", "embed-1")
    assert KEY not in str(caught.value)


def test_an_error_behind_status_200_is_an_error(server):
    """`{"error": …}` with status 200 is no answer."""
    server.queue(PATH, Json({"error": {"message": "no", "code": 429}}))
    with pytest.raises(errors.RateLimitError):
        ask(server)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "3 vectors were asked for, but 0 came"),
        ([{"index": at, "embedding": [1.0]} for at in (0, 1, 1)], "indices of 3 vectors"),
        ([{"index": at, "embedding": []} for at in range(3)], "is empty"),
        ([{"index": at, "embedding": "AAAA"} for at in range(3)], "JSON str"),
        ([{"index": at, "embedding": [None]} for at in range(3)], "JSON list"),
    ],
)
def test_a_reply_that_does_not_answer_is_malformed(server, data, says):
    """Vectors are never given to the wrong text."""
    server.queue(PATH, Json({"object": "list", "data": data}))
    with pytest.raises(errors.MalformedReplyError, match=says):
        ask(server)


def test_no_data_at_all_is_malformed(server):
    """A document of another shape is named."""
    server.queue(PATH, Json({"object": "list"}))
    with pytest.raises(errors.MalformedReplyError, match="`data`"):
        ask(server)


def test_a_budget_is_kept_and_the_cost_noted(server):
    """Tokens count in; a call that could pass the bound is refused before it is sent."""
    prices = {"embed-1": {"input_cost_per_token": 1e-6, "output_cost_per_token": 0}}
    with Router(budget=Budget(tokens=60), prices=prices) as router:
        given = {"model": "openai/embed-1", "api_base": server.base_url, "api_key": KEY}
        answer = router.embedding(input=TEXTS, **given)
        spent = router.spend()
        with pytest.raises(errors.BudgetExceededError):
            router.embedding(input="x" * 60, **given)

    assert answer.scillm_meta["response_cost"] == pytest.approx(4e-6)
    assert (spent.tokens, spent.requests) == (4, 1)
    assert len(server.requests) == 1


def test_token_numbers_count_one_each_for_a_budget(server):
    """Twenty numbers and the marks around them fit into 28 tokens, not into 27."""
    given = {"model": "openai/embed-1", "api_base": server.base_url, "input": [7] * 20}

    assert scillm.embedding(budget_tokens=28, **given).usage.total_tokens == 20
    with pytest.raises(errors.BudgetExceededError):
        scillm.embedding(budget_tokens=27, **given)


def test_chat_settings_do_not_touch_vectors(server):
    """Deterministic mode fixes sampling, which vectors have none of."""
    with Router(deterministic=True) as router:
        router.embedding("openai/embed-1", "x", api_base=server.base_url, api_key=KEY)

    assert server.requests[0].json == {"input": "x", "model": "embed-1"}


def test_a_cassette_gives_the_vectors_back(server, tmp_path):
    """`record` keeps the exchange, `replay` answers without the server."""
    given = {"model": "openai/embed-1", "input": TEXTS, "api_base": server.base_url}
    with scillm.record(tmp_path / "run.cassette"):
        first = scillm.embedding(**given)
    with scillm.replay(tmp_path / "run.cassette"):
        again = scillm.embedding(**given)

    assert again.data == first.data
    assert len(server.requests) == 1


# -- without a server ---------------------------------------------------------------------------


def test_an_echo_makes_the_same_vector_of_the_same_text():
    """Equal texts get equal vectors of the length asked for, and are marked as an echo's."""
    answer = scillm.embedding("echo/x", ["a", "b", "a"], dimensions=5)

    first, second, third = (one.embedding for one in answer.data)
    assert first == third != second
    assert len(first) == 5
    assert all(-1.0 <= number < 1.0 for number in first)
    assert answer.additional_kwargs["echo"] == {"echo": True}
    assert answer.usage is None


def test_an_echo_in_base64_is_the_same_vector():
    """The two encodings hold the same numbers."""
    as_list = scillm.embedding("echo/x", "a").data[0].embedding
    as_text = scillm.embedding("echo/x", "a", encoding_format="base64").data[0].embedding

    assert list(struct.unpack(f"<{len(as_list)}f", base64.b64decode(as_text))) == as_list


@pytest.mark.parametrize("dimensions", [0, -1, 1.5, True, 10**9])
def test_an_echo_refuses_lengths_it_cannot_have(dimensions):
    """As an upstream would: 400."""
    with pytest.raises(errors.BadRequestError, match="dimensions must be"):
        scillm.embedding("echo/x", "a", dimensions=dimensions)


def test_mocked_vectors_are_marked():
    """A list of numbers is the vector of every piece; JSON is the whole answer; errors raise."""
    plain = scillm.embedding("openai/x", ["a", "b"], mock_response=[0.5, 1])
    whole = scillm.embedding("openai/x", "a", mock_response={"data": [{"embedding": [2]}]})

    assert [one.embedding for one in plain.data] == [[0.5, 1], [0.5, 1]]
    assert whole.data[0].embedding == [2]
    assert plain.scillm_meta["mock"] is whole.scillm_meta["mock"] is True
    with pytest.raises(errors.RateLimitError):
        scillm.embedding("openai/x", "a", mock_response=errors.RateLimitError("no"))
    with pytest.raises(errors.APITimeoutError):
        scillm.embedding("openai/x", "a", mock_timeout=True, timeout=0.01)
    with pytest.raises(errors.UsageError, match="is the text 'hi'"):
        scillm.embedding("openai/x", "a", mock_response="hi")
    with pytest.raises(errors.UsageError, match="answers embedding"):
        scillm.completion("openai/x", [{"role": "user", "content": "a"}], mock_response=[0.5])


def test_providers_say_by_isinstance_whether_they_embed():
    """The power is a protocol of its own."""
    with Router() as router:
        provider = router.provider(Endpoint(provider="echo"))

    assert isinstance(provider, Embeds)


# -- decisions ----------------------------------------------------------------------------------

NUMBERS = st.lists(st.integers(0, 2**17), min_size=1)
INPUTS = st.one_of(
    st.text(), st.lists(st.text(), min_size=1), NUMBERS, st.lists(NUMBERS, min_size=1)
)


@given(INPUTS)
def test_every_form_of_input_stays_as_it_is(value):
    """Checked input is equal to what was given, and has a piece for each vector."""
    checked = checked_input(value)
    pieces = EmbeddingRequest(model="m", input=checked).pieces

    assert checked == value
    assert list(pieces) == (
        [value] if isinstance(value, str) or isinstance(value[0], int) else value
    )


@given(st.permutations(range(6)))
def test_vectors_are_put_in_the_order_of_the_texts(order):
    """Whatever order a server sends, `data[i]` belongs to text i."""
    request = EmbeddingRequest(model="m", input=[str(at) for at in range(6)])
    sent = EmbeddingResponse(data=[Embedding(index=at, embedding=[at]) for at in order])
    answer = in_order(sent, request)

    assert [(one.index, one.embedding) for one in answer.data] == [(at, [at]) for at in range(6)]


def test_vectors_without_an_index_are_taken_in_their_order():
    """A server that leaves `index` out has sent them in order."""
    request = EmbeddingRequest(model="m", input=["a", "b"])
    sent = EmbeddingResponse(data=[Embedding(embedding=[1]), Embedding(embedding=[2])])

    assert [one.index for one in in_order(sent, request).data] == [0, 1]


# -- a real model -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_embedding_url(tmp_path_factory):
    try:
        with serve_tiny_model(tmp_path_factory.mktemp("tiny"), embeds=True) as base_url:
            yield base_url
    except TinyModelUnavailableError as error:
        pytest.skip(str(error))


def test_a_real_server_embeds(tiny_embedding_url):
    """llama.cpp's vectors are those that the openai client gets, text by text."""
    texts = ["hi there", "ok", "Hello"]
    given = {"model": "tiny", "input": texts}
    with openai.OpenAI(base_url=tiny_embedding_url, api_key="x") as client:
        theirs = client.embeddings.create(encoding_format="float", **given)
    ours = scillm.embedding(api_base=tiny_embedding_url, api_key="x", timeout=30.0, **given)

    assert [one.embedding for one in ours.data] == [one.embedding for one in theirs.data]
    assert len({str(one.embedding) for one in ours.data}) == 3
    assert ours.usage.total_tokens == theirs.usage.total_tokens > 0
