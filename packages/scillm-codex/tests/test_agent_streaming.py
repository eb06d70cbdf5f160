"""The mini-agent's stream: what may be told early, what is held back, and what is a thought."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
from support.faulty import CHAT_PATH, FaultyServer, Gate, Json, Sse, completion_object, event
from support.mini_agent import mini_agent

if TYPE_CHECKING:
    from collections.abc import Callable

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


@pytest.fixture
def base(faulty_server: FaultyServer) -> Callable[..., Any]:
    """A function: the mini-agent's server with these tools, as a context manager."""

    def made(*tools: str, **limits: Any) -> Any:
        return mini_agent(faulty_server, tools=tools, limits=limits)

    return made


def piece(delta: dict[str, Any], reason: str | None = None) -> bytes:
    return event(
        {
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }
    )  # fmt: skip


def end(reason: str = "stop") -> list[bytes]:
    usage = {
        "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted",
        "choices": [], "usage": USAGE,
    }  # fmt: skip
    return [piece({}, reason), event(usage), event("[DONE]")]


def calls(text: str, code: str) -> Json:
    reply = completion_object(text, model="scripted", usage=USAGE)
    function = {"name": "exec_python", "arguments": json.dumps({"code": code})}
    message = {
        **reply["choices"][0]["message"],
        "tool_calls": [{"id": "call_0", "type": "function", "function": function}],
    }
    return Json({**reply, "choices": [{**reply["choices"][0], "message": message}]})


def asked(url: str, *, stream: bool) -> Any:
    client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30)
    return client.chat.completions.create(
        model="mini-agent",
        messages=[{"role": "user", "content": "Go."}],
        stream=stream,
        **({"stream_options": {"include_usage": True}} if stream else {}),
    )


def told(chunks: Any) -> tuple[str, str, list[str], Any]:
    """Answer, thoughts, finish reasons and usage of a stream."""
    text, thoughts, ends, usage = "", "", [], None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            thoughts += getattr(choice.delta, "reasoning_content", None) or ""
            ends += [choice.finish_reason] if choice.finish_reason else []
    return text, thoughts, ends, usage


def test_without_tools_the_answer_comes_as_the_model_makes_it(
    base: Any, faulty_server: FaultyServer
) -> None:
    """The first pieces are there while the model still speaks; blanks before them come along."""
    gate = Gate()
    pieces = [piece({"role": "assistant", "content": " "}), piece({"content": "It"}),
              piece({"content": " is"}), gate, piece({"content": " 42."}), *end()]  # fmt: skip
    faulty_server.queue(CHAT_PATH, Sse(pieces))
    with base() as url:
        chunks = iter(asked(url, stream=True))
        early = ""
        while not early.endswith("is"):
            early += next(chunks).choices[0].delta.content or ""
        gate.open()
        rest, _, ends, usage = told(chunks)

    assert (early, rest, ends) == (" It is", " 42.", ["stop"])
    assert usage.total_tokens == 15


def test_with_tools_what_is_said_on_the_way_is_a_thought(
    base: Any, faulty_server: FaultyServer
) -> None:
    """Whole and streamed say the same: the answer as content, what came before as thoughts."""
    script = (calls("Let me see.", "print(6)"), calls("", "print(7)"), calls("And.", "print(8)"))
    final = Json(completion_object("It is 42.", model="scripted", usage=USAGE))
    with base("python") as url:
        faulty_server.queue(CHAT_PATH, *script, final)
        whole = asked(url, stream=False)
        faulty_server.queue(CHAT_PATH, *script, final)
        text, thoughts, ends, usage = told(asked(url, stream=True))

    message = whole.choices[0].message
    assert (text, thoughts) == ("It is 42.", "Let me see.\n\nAnd.")
    assert (message.content, message.reasoning_content) == (text, thoughts)
    assert (ends, usage.total_tokens) == (["stop"], 60)


def test_a_thought_comes_before_its_tool_has_ended(base: Any, faulty_server: FaultyServer) -> None:
    """Who looks on sees at once what the agent is about to do."""
    faulty_server.queue(CHAT_PATH, calls("Wait a moment.", "import time; time.sleep(4)"))
    final = Json(completion_object("Done.", model="scripted", usage=USAGE))
    faulty_server.queue(CHAT_PATH, final)
    with base("python") as url:
        began = time.monotonic()
        chunks = iter(asked(url, stream=True))
        first = next(chunks)
        first_s = time.monotonic() - began
        rest = told(chunks)
        whole_s = time.monotonic() - began

    assert first.choices[0].delta.reasoning_content == "Wait a moment."
    assert rest[0] == "Done."
    assert first_s < whole_s - 3


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_was_cut_off_is_told_as_such(
    base: Any, faulty_server: FaultyServer, *, stream: bool
) -> None:
    """A model's own limit is `length`, and nothing of what it said is lost."""
    if stream:
        faulty_server.queue(CHAT_PATH, Sse([piece({"content": "It is"}), *end("length")]))
    else:
        reply = completion_object("It is", model="scripted", usage=USAGE)
        cut = {**reply["choices"][0], "finish_reason": "length"}
        faulty_server.queue(CHAT_PATH, Json({**reply, "choices": [cut]}))
    with base() as url:
        answer = asked(url, stream=stream)
        text, reason = (
            (lambda found: (found[0], found[2][0]))(told(answer))
            if stream
            else (answer.choices[0].message.content, answer.choices[0].finish_reason)
        )

    assert (text, reason) == ("It is", "length")


def test_time_that_is_up_in_the_middle_ends_the_stream(
    base: Any, faulty_server: FaultyServer
) -> None:
    """What was said stays said; the finish reason tells that it is not all."""
    faulty_server.queue(CHAT_PATH, Sse([piece({"content": "It"}), Gate()]))
    with base(max_seconds=1.0) as url:
        text, _, ends, _ = told(asked(url, stream=True))

    assert (text, ends) == ("It", ["length"])


def test_what_a_model_takes_back_is_an_error(base: Any, faulty_server: FaultyServer) -> None:
    """A model that calls a tool it was not offered, after it began to answer, breaks the stream."""
    call = {"index": 0, "id": "c", "function": {"name": "exec_python", "arguments": "{}"}}
    faulty_server.queue(
        CHAT_PATH,
        Sse([piece({"content": "It is 41"}), piece({"tool_calls": [call]}), *end("tool_calls")]),
        Sse([piece({"content": "It is 42"}), *end()]),
    )
    with base() as url, pytest.raises(openai.APIError, match="took back"):
        told(asked(url, stream=True))


def test_an_error_before_the_first_piece_has_its_status(
    base: Any, faulty_server: FaultyServer
) -> None:
    """A model that refuses keeps its status, also for a stream."""
    faulty_server.queue(CHAT_PATH, Json({"error": {"message": "slow down"}}, 429))
    with base() as url, pytest.raises(openai.RateLimitError):
        told(asked(url, stream=True))


def test_a_client_that_leaves_ends_the_run(base: Any, faulty_server: FaultyServer) -> None:
    """The model behind the agent sees its connection closed."""
    faulty_server.queue(CHAT_PATH, Sse([piece({"content": "It"}), Gate()]))
    body = {"model": "mini-agent", "messages": [{"role": "user", "content": "x"}], "stream": True}
    with base() as url:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=30) as reply:
            next(reply.iter_bytes())
        end_s = time.monotonic() + 10
        while not faulty_server.disconnects and time.monotonic() < end_s:
            time.sleep(0.02)

    assert faulty_server.disconnects
