"""The chat server, asked by the real `openai` client: answers, streams, errors, limits, leaving."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import openai
import pytest
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter
from scillm import Router
from scillm.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ContextWindowExceededError,
    InternalServerError,
    RateLimitError,
    StreamInterruptedError,
    UsageError,
)
from scillm.models import (
    ChatMessage,
    Choice,
    ChunkChoice,
    Completion,
    CompletionChunk,
    Delta,
    Function,
    ToolCall,
    Usage,
)
from scillm.serve.chat_app import ChatLimits, chat_app
from support.served import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scillm.records import ChatRequest
    from support.faulty import FaultyServer

ASK: Any = [{"role": "user", "content": "Grüße 🙂"}]
USAGE = Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7)
TOKEN = "sk-a-long-random-token"


def said(text: Any, **choice: Any) -> Completion:
    finish = choice.pop("finish_reason", "stop")
    message = ChatMessage(content=text, **choice)
    return Completion(
        model="m", choices=[Choice(message=message, finish_reason=finish)], usage=USAGE
    )


async def repeat(request: ChatRequest) -> Completion:
    """Says back the last message, `n` times."""
    answer = said(request.messages[-1]["content"])
    choices = [
        Choice(index=place, message=answer.choices[0].message, finish_reason="stop")
        for place in range(request.params.get("n", 1))
    ]
    return Completion(model="m", choices=choices, usage=USAGE)


class Speaker:
    """A provider that streams its words. Remembers what it was asked, and who left."""

    def __init__(
        self, *, pause_s: float = 0, fails: Exception | None = None, after: int = 2
    ) -> None:
        self.pause_s = pause_s
        self.fails = fails
        self.after = after
        self.requests: list[ChatRequest] = []
        self.begun = threading.Event()
        self.left = threading.Event()

    async def complete(self, request: ChatRequest, /) -> Completion:
        self.requests.append(request)
        self.begun.set()
        try:
            await anyio.sleep(self.pause_s)
        except anyio.get_cancelled_exc_class():
            self.left.set()
            raise
        if self.fails is not None:
            raise self.fails
        return said("one two three")

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, /
    ) -> AsyncIterator[AsyncIterator[CompletionChunk]]:
        self.requests.append(request)
        chunks = self.chunks()
        try:
            yield chunks
        except BaseException:
            self.left.set()
            raise
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]

    async def chunks(self) -> AsyncIterator[CompletionChunk]:
        for place, word in enumerate(("one", " two", " three", "")):
            if self.fails is not None and place == self.after:
                raise self.fails
            finish = None if word else "stop"
            choice = ChunkChoice(delta=Delta(content=word), finish_reason=finish)
            yield CompletionChunk(id="upstream", model="m-served", choices=[choice])
            self.begun.set()
            await anyio.sleep(self.pause_s)
        yield CompletionChunk(id="upstream", model="m-served", usage=USAGE)


@contextmanager
def chat(answer: Any = repeat, **options: Any) -> Iterator[openai.OpenAI]:
    settings = {"models": ["m", "org/m-2"], **options}
    with (
        served(chat_app(answer, **settings)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key=TOKEN, max_retries=0, timeout=20) as client,
    ):
        yield client


def raw(client: openai.OpenAI, path: str, **options: Any) -> httpx.Response:
    url = str(client.base_url).removesuffix("/v1/") + path
    return httpx.request(options.pop("method", "GET"), url, timeout=20, trust_env=False, **options)


def until(done: Any, *, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


@pytest.mark.parametrize("answer", [repeat, Speaker()], ids=["function", "provider"])
def test_an_answer_has_exactly_openais_shape(answer: Any) -> None:
    """The document validates against the models of the `openai` client, nothing missing."""
    with chat(answer) as client:
        body = {"model": "m", "messages": ASK}
        document = raw(client, "/v1/chat/completions", method="POST", json=body).json()

    read = TypeAdapter(ChatCompletion).validate_python(document, strict=True)
    assert read.choices[0].message.content in ("Grüße 🙂", "one two three")
    assert document["choices"][0]["logprobs"] is None
    assert document["choices"][0]["message"]["refusal"] is None
    assert read.usage is not None
    assert read.usage.total_tokens == 7
    assert abs(read.created - time.time()) < 60


def test_the_sync_client_gets_its_answer() -> None:
    """n answers, and a request id on the raw answer."""
    with chat() as client:
        got = client.chat.completions.with_raw_response.create(model="m", messages=ASK, n=2)

    assert [choice.message.content for choice in got.parse().choices] == ["Grüße 🙂"] * 2
    assert got.request_id


@pytest.mark.parametrize("answer", [repeat, Speaker()], ids=["function", "provider"])
@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_is_what_openai_would_send(answer: Any, usage: bool) -> None:
    """Same text, one id, one model, role first, one finish; usage in the last chunk, if asked."""
    options: Any = {"stream_options": {"include_usage": True}} if usage else {}
    with chat(answer) as client:
        body = {"model": "m", "messages": ASK, "stream": True, **options}
        reply = raw(client, "/v1/chat/completions", method="POST", json=body)

    lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    rows = [json.loads(line) for line in lines[:-1]]
    for row in rows:
        # The published chunk has a null finish reason; pydantic knows it as optional.
        TypeAdapter(ChatCompletionChunk).validate_python(row, strict=True)
    told = [row for row in rows if row["choices"]]
    text = "".join(row["choices"][0]["delta"].get("content") or "" for row in told)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "[DONE]"
    assert text in ("Grüße 🙂", "one two three")
    assert len({(row["id"], row["model"], row["created"]) for row in rows}) == 1
    assert told[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [row["choices"][0]["finish_reason"] for row in told].count("stop") == 1
    assert [row["usage"]["total_tokens"] for row in rows if row.get("usage")] == [7] * usage
    assert all(("usage" in row) == usage for row in rows)


def test_the_sync_client_streams() -> None:
    """Chunks arrive as the client's own objects."""
    with chat(Speaker()) as client:
        stream = client.chat.completions.create(model="m", messages=ASK, stream=True)
        words = [chunk.choices[0].delta.content for chunk in stream]

    assert [word for word in words if word] == ["one", " two", " three"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_async_client_asks_and_streams_at_once(anyio_backend: str) -> None:
    """Twenty at a time, half of them streams; each gets its own answer."""
    answers: dict[int, str] = {}
    with served(chat_app(repeat, models=["m"])) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:

            async def ask(number: int) -> None:
                messages: Any = [{"role": "user", "content": f"say {number}"}]
                if number % 2:
                    got = await client.chat.completions.create(model="m", messages=messages)
                    answers[number] = got.choices[0].message.content or ""
                    return
                stream = await client.chat.completions.create(
                    model="m", messages=messages, stream=True
                )
                answers[number] = "".join(
                    [chunk.choices[0].delta.content or "" async for chunk in stream]
                )

            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(ask, number)

    assert answers == {number: f"say {number}" for number in range(20)}


def test_a_stream_comes_word_by_word() -> None:
    """The first chunk is here long before the answer has ended."""
    with chat(Speaker(pause_s=30)) as client:
        stream = client.chat.completions.create(model="m", messages=ASK, stream=True)
        first = next(iter(stream))
        stream.close()

    assert first.choices[0].delta.content == "one"


def test_tool_calls_go_both_ways() -> None:
    """Tools reach the provider untouched; its calls reach the client in OpenAI's form."""
    call = ToolCall(
        id="call_1", type="function", index=0, function=Function(name="add", arguments="{}")
    )
    asked: list[ChatRequest] = []

    async def answer(request: ChatRequest) -> Completion:
        asked.append(request)
        return said(None, tool_calls=[call], finish_reason="tool_calls")

    tools: Any = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    with chat(answer) as client:
        whole = client.chat.completions.create(model="m", messages=ASK, tools=tools)
        with client.chat.completions.stream(model="m", messages=ASK, tools=tools) as stream:
            streamed = stream.get_final_completion()

    for got in (whole, streamed):
        assert got.choices[0].finish_reason == "tool_calls"
        assert got.choices[0].message.tool_calls
        assert got.choices[0].message.tool_calls[0].id == "call_1"
    assert asked[0].params["tools"] == tools


def test_unknown_parameters_reach_the_provider() -> None:
    """Nothing a client sends is dropped on the way."""
    speaker = Speaker()
    with chat(speaker) as client:
        client.chat.completions.create(
            model="m", messages=ASK, temperature=0.5, extra_body={"top_k": 3, "api_base": "x"}
        )

    assert dict(speaker.requests[0].params) == {"temperature": 0.5, "top_k": 3, "api_base": "x"}


def test_a_finish_reason_nobody_knows_is_kept_beside_a_known_one() -> None:
    """Clients that check the word are not broken by an engine's own."""

    async def answer(_request: ChatRequest) -> Completion:
        return said("x", finish_reason="max_iterations")

    with chat(answer) as client:
        got = client.chat.completions.create(model="m", messages=ASK)

    assert got.choices[0].finish_reason == "stop"
    assert got.choices[0].to_dict()["native_finish_reason"] == "max_iterations"


def test_models_are_listed_and_found() -> None:
    """Also one with a slash in its name; an unknown one is 404 model_not_found."""
    with chat() as client:
        listed = [model.id for model in client.models.list()]
        one = raw(client, "/v1/models/org/m-2").json()
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("m-3")
        with pytest.raises(openai.NotFoundError) as asked:
            client.chat.completions.create(model="m-3", messages=ASK)

    assert listed == ["m", "org/m-2"]
    assert TypeAdapter(Model).validate_python(one, strict=True).id == "org/m-2"
    assert caught.value.code == asked.value.code == "model_not_found"
    assert "what is: m, org/m-2" in str(asked.value)


def test_models_may_change_while_the_server_runs() -> None:
    """`models` may be a question; `accepts` decides about names that are not listed."""
    names = ["a"]

    async def models() -> list[str]:
        return names

    with chat(models=models, accepts=lambda name: name.startswith("b")) as client:
        names.append("c")
        listed = [model.id for model in client.models.list()]
        answered = client.chat.completions.create(model="b-1", messages=ASK)

    assert listed == ["a", "c"]
    assert answered.model == "m"


def test_a_model_may_be_answered_without_being_shown() -> None:
    """`shows` keeps `/v1/models/ID` honest where `accepts` takes any name."""
    with chat(models=["a"], accepts=lambda _: True, shows=lambda _: False) as client:
        answered = client.chat.completions.create(model="b", messages=ASK)
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("b")

    assert answered.model == "m"
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (UsageError("no such thing"), openai.BadRequestError, None),
        (ContextWindowExceededError("too long"), openai.BadRequestError, "context_length_exceeded"),
        (RateLimitError("slow", status_code=429, retry_after=7.0), openai.RateLimitError, None),
        (
            AuthenticationError("who", status_code=401),
            openai.AuthenticationError,
            "invalid_api_key",
        ),
        (InternalServerError("oh", status_code=500), openai.InternalServerError, None),
        (APIConnectionError("cut"), openai.InternalServerError, "upstream_unreachable"),
        (APITimeoutError("slow"), openai.InternalServerError, "upstream_timeout"),
        (RuntimeError("bug"), openai.InternalServerError, "internal_error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_the_clients_own_classes(
    error: Exception, kind: type[openai.APIStatusError], code: str | None, stream: bool
) -> None:
    """Before the first chunk a stream's error has a status, like any other."""
    with chat(Speaker(fails=error, after=0)) as client, pytest.raises(kind) as caught:
        client.chat.completions.create(model="m", messages=ASK, stream=stream)

    assert caught.value.code == code
    body: Any = caught.value.body
    assert set(body) == {"message", "type", "param", "code"}
    if isinstance(error, RateLimitError):
        assert caught.value.response.headers["retry-after"] == "7"
    assert ("bug" in str(caught.value)) is False


@pytest.mark.parametrize(
    "error", [StreamInterruptedError("cut in the middle"), RuntimeError("bug")]
)
def test_an_error_in_the_middle_of_a_stream_reaches_the_client(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The client raises, after the words that came; it never takes the rest for the whole."""
    words: list[str | None] = []
    with chat(Speaker(fails=error)) as client:
        stream = client.chat.completions.create(model="m", messages=ASK, stream=True)
        with pytest.raises(openai.APIError) as caught:
            words += [chunk.choices[0].delta.content for chunk in stream]
        body = {"model": "m", "messages": ASK, "stream": True}
        text = raw(client, "/v1/chat/completions", method="POST", json=body).text

    assert isinstance(error, RuntimeError) == (
        "bug" not in str(caught.value) and bool(caplog.records)
    )
    assert "[DONE]" not in text
    assert '"content":" two"' in text


@pytest.mark.parametrize("words", [0, 2])
def test_a_stream_that_just_ends_is_not_taken_for_a_whole_answer(words: int) -> None:
    """Without a finish reason the client gets an error, not half an answer or none."""

    class Quitter(Speaker):
        async def chunks(self) -> AsyncIterator[CompletionChunk]:
            for _ in range(words):
                yield CompletionChunk(model="m", choices=[ChunkChoice(delta=Delta(content="x"))])

    with (
        chat(Quitter()) as client,
        pytest.raises(openai.APIError, match="ended before it was finished"),
    ):
        list(client.chat.completions.create(model="m", messages=ASK, stream=True))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": ASK}, "model"),
        ({"model": "", "messages": ASK}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": ["x"]}, "messages[0].role"),
        ({"model": "m", "messages": [{"role": "boss"}]}, "messages[0].role"),
        ({"model": "m", "messages": ASK, "stream": "yes"}, "stream"),
        ({"model": "m", "messages": ASK, "stream_options": {}}, "stream_options"),
        (
            {"model": "m", "messages": ASK, "stream": True, "stream_options": {"include_usage": 1}},
            "stream_options",
        ),
        ([], None),
    ],
)
def test_a_wrong_request_names_the_field(body: Any, param: str | None) -> None:
    """400 with OpenAI's error body, `param` set."""
    with chat() as client:
        answer = raw(client, "/v1/chat/completions", method="POST", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_twenty_megabyte_body_is_taken_and_a_larger_one_refused() -> None:
    """Images inside a request fit; the limit is stated where it is reached."""
    long: Any = [{"role": "user", "content": "x" * 20_000_000}]
    longer: Any = [{"role": "user", "content": "x" * 40_000_000}]
    with chat(Speaker()) as client:
        taken = client.chat.completions.create(model="m", messages=long)
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="m", messages=longer)

    assert taken.choices[0].message.content == "one two three"
    assert caught.value.status_code == 413


@pytest.mark.parametrize("stream", [False, True])
def test_the_work_stops_when_the_client_leaves(stream: bool) -> None:
    """A closed socket cancels the provider's work, with and without a stream."""
    speaker = Speaker(pause_s=60)
    body = json.dumps({"model": "m", "messages": ASK, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}"
    with chat(speaker) as client:
        address = client.base_url.host, client.base_url.port or 0
        with socket.create_connection(address) as sock:
            sock.sendall(head.encode() + b"\r\n\r\n" + body)
            begun = speaker.begun.wait(10)
        left = speaker.left.wait(10)
        free = until(lambda: "scillm_chat_running 0" in raw(client, "/metrics").text)

    assert begun
    assert left
    assert free


def test_silence_has_an_end() -> None:
    """A provider that says nothing is given up after the stated time, and told to stop."""
    speaker = Speaker(pause_s=60)
    with (
        chat(speaker, limits=ChatLimits(max_seconds=0.05)) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.chat.completions.create(model="m", messages=ASK)

    assert caught.value.status_code == 504
    assert speaker.left.is_set()


def test_a_busy_server_says_when_to_come_back() -> None:
    """429 with Retry-After, which the client honours by itself."""
    speaker = Speaker(pause_s=60)
    with chat(speaker, limits=ChatLimits(max_concurrency=1, queue=0)) as client:
        stream = client.chat.completions.create(model="m", messages=ASK, stream=True)
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="m", messages=ASK)
        stream.close()

    assert caught.value.code == "queue_full"
    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_the_key_is_checked() -> None:
    """A wrong key is the client's AuthenticationError; the right one is never repeated."""
    with chat(token=TOKEN) as client:
        answer = client.chat.completions.create(model="m", messages=ASK)
        with pytest.raises(openai.AuthenticationError) as caught:
            client.with_options(api_key="sk-wrong").models.list()

    assert answer.choices
    assert caught.value.code == "invalid_api_key"


def test_further_headers_can_be_given() -> None:
    """A server may name what it ignored, per request, with and without a stream."""

    def ignored(request: ChatRequest) -> dict[str, str]:
        return {"x-scillm-ignored-params": ",".join(sorted(request.params))}

    with chat(headers=ignored) as client:
        for stream in (False, True):
            got = client.chat.completions.with_raw_response.create(
                model="m", messages=ASK, temperature=1, stream=stream
            )
            assert got.headers["x-scillm-ignored-params"] == "temperature"


def test_a_router_answers_through_its_deployments(faulty_server: FaultyServer) -> None:
    """Whole and streamed; usage is asked of the upstream only where the client wants it."""
    with chat(router_to(faulty_server), models=["bench"]) as client:
        whole = client.chat.completions.create(model="bench", messages=ASK)
        stream = client.chat.completions.create(
            model="bench", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)

    assert whole.choices[0].message.content == "echo:Grüße 🙂"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == (
        "echo:Grüße 🙂"
    )
    assert chunks[-1].usage is not None
    assert "stream_options" not in (faulty_server.requests[0].json or {})


def test_a_client_cannot_send_the_servers_key_elsewhere(faulty_server: FaultyServer) -> None:
    """`api_base` and other arguments of SciLLM inside a request are the model's business only."""
    extra = {"api_base": "http://127.0.0.1:9/v1", "extra_headers": {"a": "b"}}
    with (
        chat(router_to(faulty_server), models=["bench"]) as client,
        pytest.raises(openai.BadRequestError, match="argument supplied: api_base"),
    ):
        client.chat.completions.create(model="bench", messages=ASK, extra_body=extra)

    sent = faulty_server.requests[-1]
    assert sent.json is not None
    assert sent.json["api_base"] == extra["api_base"]
    assert "a" not in sent.headers


def router_to(server: FaultyServer) -> Router:
    deployment = {"model": "openai/bench", "api_base": server.base_url, "api_key": "sk-inside"}
    return Router(model_list=[{"model_name": "bench", "litellm_params": deployment}])


@pytest.mark.parametrize("wrong", [42, Speaker, "m"])
def test_what_cannot_answer_is_refused_when_the_app_is_made(wrong: Any) -> None:
    """A class instead of an object is the usual slip."""
    with pytest.raises(UsageError, match="A chat server"):
        chat_app(wrong, models=["m"])
