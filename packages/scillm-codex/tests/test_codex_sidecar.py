"""The sidecar on the real Codex CLI, asked by OpenAI's own Python SDK.

Codex talks to a local Responses service that checks every request as strictly as OpenAI's.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel, TypeAdapter
from support.codex_service import CodexService, call, message, outputs, sample, tools_of
from support.codex_sidecar import codex_sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

USER: Any = {"role": "user", "content": "hi there"}
PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhg"
    "GAWjR9awAAAABJRU5ErkJggg=="
)
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
        },
    }
    for name in ("my_a", "my_b")
]


class City(BaseModel):
    name: str
    people: int


@pytest.fixture(scope="module")
def service() -> Iterator[CodexService]:
    with CodexService().running_here() as running:
        yield running


@pytest.fixture(scope="module")
def url(service: CodexService) -> Iterator[str]:
    with codex_sidecar(service) as base:
        yield base


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_refused(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "service" in request.fixturenames or "client" in request.fixturenames:
        found: CodexService = request.getfixturevalue("service")
        assert found.refused == []


def ask(client: OpenAI, model: str = "fake-plain", **params: Any) -> Any:
    given = {"messages": [USER], **params}
    return client.chat.completions.create(model=model, **given)


def test_an_answer_has_the_text_the_usage_and_the_shape_of_openais(url: str) -> None:
    """The SDK's own models take the answer, strictly; usage is what the service counted."""
    answer = httpx.post(
        f"{url}/v1/chat/completions", json={"model": "fake-plain", "messages": [USER]}
    )

    completion = TypeAdapter(ChatCompletion).validate_python(answer.json())
    assert completion.choices[0].message.content == "echo: hi there"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 120
    assert answer.headers["x-request-id"]


def test_a_chat_carries_no_coding_prompt_and_no_tool_that_reads(
    client: OpenAI, service: CodexService
) -> None:
    """Beside 3 kB there is only the question, and no tool that reads a file or runs a command."""
    ask(client)

    sent = service.seen[-1]
    assert len(json.dumps(sent)) < 4000
    assert [tool["name"] for tool in sent["tools"]] == ["request_user_input"]


def test_a_stream_says_the_same_as_the_whole_answer(client: OpenAI) -> None:
    """One id, the role first, one end, the usage last, and the same text."""
    whole = ask(client).choices[0].message.content

    chunks: list[ChatCompletionChunk] = list(
        ask(client, stream=True, stream_options={"include_usage": True})
    )

    said = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(said) == whole
    assert len([text for text in said if text]) > 3
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    ends = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert ends == ["stop"]
    assert chunks[-1].usage is not None


def test_deltas_come_as_the_model_makes_them(client: OpenAI) -> None:
    """The first piece is there long before the last is made."""
    began = time.monotonic()
    moments = [time.monotonic() - began for _chunk in ask(client, "fake-slow", stream=True)]

    assert moments[0] < moments[-1] / 2


def test_tools_make_the_whole_round(client: OpenAI) -> None:
    """Both parallel calls come with their ids; the model reads both results; nothing is kept."""
    first = ask(client, "fake-tools", tools=TOOLS).choices[0]
    calls = first.message.tool_calls
    results = [{"role": "tool", "tool_call_id": c.id, "content": f"r-{c.function.name}"}
               for c in calls]  # fmt: skip

    second = ask(
        client,
        "fake-tools",
        tools=TOOLS,
        messages=[USER, first.message.model_dump(exclude_none=True), *results],
    )

    assert first.finish_reason == "tool_calls"
    assert [json.loads(call.function.arguments) for call in calls] == [{"a": 1}, {"a": 1}]
    assert second.choices[0].message.content == "tools said: r-my_a | r-my_b"


@pytest.mark.parametrize("model", ["gpt-6-sol", "gpt-5.5"])
def test_models_of_codexs_catalogue_get_the_clients_tools_and_no_others(
    client: OpenAI, service: CodexService, model: str
) -> None:
    """Codex would give the newest ones a JavaScript sandbox instead, and all of them a patcher."""
    service.script = lambda body: [call("my_a", {"a": 2})] if not outputs(body) else [message("x")]
    try:
        found = ask(client, model, tools=TOOLS).choices[0].message.tool_calls
    finally:
        service.script = None

    offered = {tool["name"] for tool in tools_of(service.seen[-1])}
    assert [each.function.arguments for each in found] == ['{"a": 2}']
    assert offered == {"request_user_input", "my_a", "my_b"}
    assert len(json.dumps(service.seen[-1])) < 6000


def test_a_client_that_wants_one_call_gets_one(client: OpenAI) -> None:
    """`parallel_tool_calls=False` holds although Codex knows no such thing."""
    calls = ask(client, "fake-tools", tools=TOOLS, parallel_tool_calls=False).choices[0].message

    assert len(calls.tool_calls) == 1


def test_tool_calls_stream(client: OpenAI) -> None:
    """The SDK's helper puts the streamed calls together."""
    with client.chat.completions.stream(
        model="fake-tools",
        messages=[USER],
        tools=TOOLS,
    ) as stream:
        final = stream.get_final_completion().choices[0]

    assert [call.function.name for call in final.message.tool_calls or ()] == ["my_a", "my_b"]
    assert final.finish_reason == "tool_calls"


def test_a_schema_holds(client: OpenAI) -> None:
    """`parse` gives the object of the class."""
    parsed = client.chat.completions.parse(
        model="fake-plain",
        messages=[USER],
        response_format=City,
    )

    assert parsed.choices[0].message.parsed == City(name="text", people=1)


def test_an_answer_that_does_not_fit_is_repaired_once(
    client: OpenAI, service: CodexService
) -> None:
    """The model sees what is wrong; the usage of both turns is told."""

    def script(body: Mapping[str, Any]) -> Any:
        second = "does not fit" in json.dumps(body["input"])
        return [message('{"name": "Bern", "people": 3}' if second else '{"name": "Bern"}')]

    service.script = script
    try:
        answer = client.chat.completions.parse(
            model="fake-plain",
            messages=[USER],
            response_format=City,
        )
    finally:
        service.script = None

    assert answer.choices[0].message.parsed == City(name="Bern", people=3)
    assert answer.usage is not None
    assert answer.usage.total_tokens == 240


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_never_fits_is_an_error(
    client: OpenAI, service: CodexService, *, stream: bool
) -> None:
    """After one repair turn it is 502 invalid_json_from_model, never a wrong value."""
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer"}}}
    service.script = lambda _body: [message("certainly not")]
    try:
        with pytest.raises(openai.InternalServerError) as caught:
            list(ask(client, response_format=wanted, stream=stream))
    finally:
        service.script = None

    assert caught.value.status_code == 502
    assert caught.value.code == "invalid_json_from_model"


def test_a_json_object_is_only_json(client: OpenAI, service: CodexService) -> None:
    """Words and fences around the object are taken off."""
    service.script = lambda _body: [message('Here it is:\n```json\n{"a": 1}\n```')]
    try:
        content = ask(client, response_format={"type": "json_object"}).choices[0].message.content
    finally:
        service.script = None

    assert json.loads(content) == {"a": 1}


def test_an_image_reaches_the_model(client: OpenAI, service: CodexService) -> None:
    """A data URL goes on as it is."""
    parts = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": PNG}}]

    ask(client, messages=[{"role": "user", "content": parts}])

    content = service.seen[-1]["input"][-1]["content"]
    assert {part["type"] for part in content} == {"input_text", "input_image"}
    assert next(p["image_url"] for p in content if p["type"] == "input_image") == PNG


def test_the_effort_reaches_the_model(client: OpenAI, service: CodexService) -> None:
    """`reasoning_effort` is passed on."""
    ask(client, "gpt-6-sol", reasoning_effort="high")

    assert service.seen[-1]["reasoning"]["effort"] == "high"


def test_thoughts_stay_beside_the_answer(client: OpenAI) -> None:
    """Reasoning and commentary are `reasoning_content`, not content."""
    reasoned = ask(client, "fake-reason").choices[0].message
    commented = ask(client, "fake-phases").choices[0].message

    assert reasoned.content == "echo: hi there"
    assert reasoned.reasoning_content == "**Thinking** about it"
    assert (commented.content, commented.reasoning_content) == ("echo: hi there", "Let me look.")


def test_n_and_stop_are_ours(client: OpenAI) -> None:
    """Several answers, each cut before the stop text, and usage of all."""
    answer = ask(client, n=3, stop=" there")

    assert [choice.message.content for choice in answer.choices] == ["echo: hi"] * 3


def test_a_stream_of_several_answers_numbers_them(client: OpenAI) -> None:
    """Each choice has its own text and its own end."""
    texts = {0: "", 1: ""}
    for chunk in ask(client, n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""

    assert texts == {0: "echo: hi there", 1: "echo: hi there"}


def test_ignored_parameters_are_named_in_the_head(client: OpenAI) -> None:
    """What Codex cannot take does not vanish silently."""
    raw = client.chat.completions.with_raw_response.create(
        model="fake-plain",
        messages=[USER],
        temperature=0,
        max_tokens=5,
    )

    assert raw.headers["x-scillm-ignored-params"] == "max_tokens, temperature"


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("fake-400", 400, None),
        ("fake-401", 401, "invalid_api_key"),
        ("fake-403", 404, "model_not_found"),
        ("fake-404", 404, "model_not_found"),
        ("fake-429", 429, None),
        ("fake-ratelimitsse", 429, None),
        ("fake-ctx", 400, "context_length_exceeded"),
        ("fake-500", 502, None),
        ("fake-503", 503, None),
        ("fake-drop", 502, "upstream_unreachable"),
    ],
)
def test_every_failure_has_openais_status(
    client: OpenAI, model: str, status: int, code: str | None
) -> None:
    """An upstream's failure keeps its meaning on its way through Codex."""
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, model)

    assert (caught.value.status_code, caught.value.code) == (status, code)


def test_a_rate_limit_says_when_to_come_back(client: OpenAI) -> None:
    """The wait named in the service's words becomes Retry-After."""
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, "fake-ratelimitsse")

    assert caught.value.response.headers["retry-after"] == "2"


def test_a_question_too_long_is_an_error_and_never_a_summary(
    client: OpenAI, service: CodexService
) -> None:
    """Codex would answer a summary of it; the sidecar interrupts that, and the turn ends."""
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, messages=[{"role": "user", "content": "x " * 600_000}])

    assert caught.value.code == "context_length_exceeded"
    _until(lambda: service.running == 0)


def test_a_bad_request_is_refused_before_codex(client: OpenAI) -> None:
    """An orphaned tool message names its place."""
    orphan = {"role": "tool", "tool_call_id": "nope", "content": "x"}

    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, messages=[USER, orphan])

    assert caught.value.param == "messages[1].tool_call_id"


def test_models_are_listed_and_an_unknown_one_is_not_shown(client: OpenAI) -> None:
    """The configured model comes first, then Codex's catalogue."""
    listed = [model.id for model in client.models.list()]

    assert listed[0] == "fake-plain"
    assert len(listed) > 3
    assert client.models.retrieve(listed[1]).id == listed[1]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("never-heard-of")


def test_a_client_that_leaves_stops_the_turn(client: OpenAI, service: CodexService) -> None:
    """The service sees its connection closed; nothing runs on for nobody."""
    stream = ask(
        client, "fake-slow", stream=True, messages=[{"role": "user", "content": "x" * 400}]
    )
    next(iter(stream))
    running = service.running

    stream.close()
    _until(lambda: service.running == 0)

    assert running == 1


def test_a_model_that_hangs_is_stopped(service: CodexService) -> None:
    """Silence longer than the limit is 504, and the turn behind it ends."""
    with (
        codex_sidecar(service, idle_s=1.0) as base,
        OpenAI(base_url=f"{base}/v1", api_key="x", max_retries=0) as client,
    ):
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client, "fake-stall")
        _until(lambda: service.running == 0)

    assert caught.value.status_code == 504


def test_ready_tells_what_was_tried(url: str) -> None:
    """`/ready` has asked Codex itself; `/metrics` counts its processes."""
    found = httpx.get(f"{url}/ready").json()
    numbers = httpx.get(f"{url}/metrics").text

    assert found["ready"] is True
    assert found["codex"] == "0.169.0"
    assert "scillm_codex_starts 1" in numbers


def test_a_sidecar_without_a_login_says_so(service: CodexService) -> None:
    """Without an upstream of its own and without auth.json it is alive, but not ready."""
    with codex_sidecar(service, upstream=None, auth=None) as base:
        answer = httpx.get(f"{base}/ready")

    assert answer.status_code == 503
    assert "codex login" in answer.json()["reason"]


def test_many_at_once_get_their_own_answers(url: str) -> None:
    """Forty questions side by side are never mixed up."""
    answers: dict[int, str] = {}

    async def one(client: openai.AsyncOpenAI, number: int) -> None:
        answer = await client.chat.completions.create(
            model="fake-plain", messages=[{"role": "user", "content": f"number {number}"}]
        )
        answers[number] = answer.choices[0].message.content or ""

    async def main() -> None:
        async with (
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client,
            anyio.create_task_group() as group,
        ):
            for number in range(40):
                group.start_soon(one, client, number)

    anyio.run(main)

    assert answers == {number: f"echo: number {number}" for number in range(40)}


def test_the_upstreams_key_never_comes_out(client: OpenAI, service: CodexService) -> None:
    """The service saw the key; no error shows it."""
    with pytest.raises(openai.AuthenticationError) as caught:
        ask(client, "fake-401")

    assert service.heads[-1]["authorization"].startswith("Bearer sk-upstream")
    assert "sk-upstream" not in str(caught.value)


def _until(true: Any, limit_s: float = 5.0) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_the_service_would_refuse_what_is_wrong() -> None:
    """The strict service is no yes-man: an output without its call is refused."""
    from support.codex_service import RefusedError, check

    with pytest.raises(RefusedError):
        check(
            {
                "model": "m",
                "stream": True,
                "input": [{"type": "function_call_output", "call_id": "c", "output": "x"}],
            }
        )
    assert sample({"type": "array", "items": {"type": "integer"}}) == [1]
