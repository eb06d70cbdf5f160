"""Codex's notifications as pieces of an answer, its errors as ours."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    CapacityError,
    ContentPolicyViolationError,
    ContextWindowExceededError,
    InternalServerError,
    NotFoundError,
    ProviderError,
    RateLimitError,
)
from scillm_codex.sidecar.execing import told
from scillm_codex.sidecar.failures import error_of
from scillm_codex.sidecar.keeper import Renewal, wait_s
from scillm_codex.sidecar.turn import Ended, Piece, Turn

USED = {
    "totalTokens": 120,
    "inputTokens": 100,
    "cachedInputTokens": 40,
    "outputTokens": 20,
    "reasoningOutputTokens": 5,
}


def note(method: str, **params: Any) -> dict[str, Any]:
    return {"method": method, "params": {"threadId": "th", "turnId": "tu", **params}}


def message_item(text: str, phase: str | None = None) -> dict[str, Any]:
    return {"type": "agentMessage", "id": "msg", "text": text, "phase": phase}


def ended(status: str = "completed", error: Any = None) -> dict[str, Any]:
    turn = {"id": "tu", "status": status, "error": error}
    return {"method": "turn/completed", "params": {"threadId": "th", "turn": turn}}


def read(*notes: dict[str, Any], tools: tuple[str, ...] = ()) -> list[Piece | Ended]:
    turn = Turn("tu", tools=frozenset(tools))
    return [event for each in notes for event in turn.read(each)]


@given(st.lists(st.text(min_size=1), max_size=8))
def test_the_deltas_and_the_rest_make_the_whole_message(deltas: list[str]) -> None:
    """The text is complete and said once, also where the last deltas never came."""
    whole = "".join(deltas) + "end"

    events = read(
        note("item/started", item=message_item("")),
        *(note("item/agentMessage/delta", itemId="msg", delta=delta) for delta in deltas),
        note("item/completed", item=message_item(whole)),
        ended(),
    )

    assert "".join(event.text for event in events if isinstance(event, Piece)) == whole
    assert isinstance(events[-1], Ended)
    assert events[-1].reason == "stop"


def test_what_is_said_on_the_way_is_not_the_answer() -> None:
    """Commentary and reasoning come as thoughts, so a strict JSON answer stays JSON."""
    events = read(
        note("item/started", item=message_item("", "commentary")),
        note("item/agentMessage/delta", itemId="msg", delta="Let me look."),
        note("item/reasoning/summaryTextDelta", itemId="rs", delta="Hm."),
    )

    assert events == [Piece(thought="Let me look."), Piece(thought="Hm.")]


def test_calls_of_the_clients_tools_end_the_turn_together() -> None:
    """Parallel calls come as one answer with its usage; Codex's own tools are not shown."""
    calls = [
        {"type": "function_call", "name": name, "arguments": "{}", "call_id": f"c_{name}"}
        for name in ("mine", "exec_command", "other")
    ]

    events = read(
        *(note("rawResponseItem/completed", item=item) for item in calls),
        note("rawResponse/completed", usage=USED),
        tools=("mine", "other"),
    )

    assert len(events) == 1
    assert isinstance(events[0], Ended)
    assert [(call.id, call.index) for call in events[0].calls] == [("c_mine", 0), ("c_other", 1)]
    assert events[0].running
    assert events[0].usage is not None
    assert events[0].usage.total_tokens == 120


def test_a_summary_of_the_history_is_an_error() -> None:
    """The question asked is the question answered, or there is an error."""
    events = read(note("item/started", item={"type": "contextCompaction", "id": "c"}))

    assert isinstance(events[0], Ended)
    assert isinstance(events[0].error, ContextWindowExceededError)


def test_another_turns_notes_are_not_read() -> None:
    """Late notes of an interrupted turn cannot get into the next one."""
    assert read({"method": "item/agentMessage/delta", "params": {"turnId": "old"}}) == []


BODY = '{"error": {"message": "Bad effort.", "code": "unsupported_value"}, "status": 400}'


@pytest.mark.parametrize(
    ("failed", "kind", "status"),
    [
        ({"message": "x", "codexErrorInfo": "modelNotFound"}, NotFoundError, 404),
        ({"message": "x", "codexErrorInfo": "usageLimitExceeded"}, RateLimitError, 429),
        ({"message": "x", "codexErrorInfo": "serverOverloaded"}, CapacityError, 503),
        ({"message": "x", "codexErrorInfo": "cyberPolicy"}, ContentPolicyViolationError, 400),
        ({"message": "x", "codexErrorInfo": "unauthorized"}, AuthenticationError, 401),
        ({"message": BODY, "codexErrorInfo": "other"}, BadRequestError, 400),
        ({"message": "x", "codexErrorInfo": "other"}, APIConnectionError, None),
        ({"message": "x", "codexErrorInfo": "neverHeardOf"}, APIConnectionError, None),
        (
            {"message": "x", "codexErrorInfo": {"httpConnectionFailed": {"httpStatusCode": 503}}},
            CapacityError,
            503,
        ),
        (
            {"message": "x", "codexErrorInfo": {"responseStreamDisconnected": {}}},
            APIConnectionError,
            None,
        ),
        (
            {
                "message": "exceeded retry limit, last status: 429 Too Many Requests",
                "codexErrorInfo": {"responseTooManyFailedAttempts": {"httpStatusCode": None}},
            },
            RateLimitError,
            429,
        ),
        ({"message": "x", "codexErrorInfo": {"somethingNew": {}}}, InternalServerError, 500),
        ({}, APIConnectionError, None),
        (
            {"message": BODY.replace("unsupported_value", "context_length_exceeded")},
            ContextWindowExceededError,
            400,
        ),
        ({"message": BODY.replace("unsupported_value", "model_not_found")}, NotFoundError, 404),
        ({"message": BODY.replace("400", "418")}, BadRequestError, 418),
        ({"message": BODY.replace("400", "507")}, InternalServerError, 507),
        ({"message": '{"error": "text"}'}, APIConnectionError, None),
        ({"message": "[1]"}, APIConnectionError, None),
    ],
)
def test_every_failure_has_its_error(
    failed: dict[str, Any], kind: type[ProviderError], status: int | None
) -> None:
    """What Codex says went wrong decides the class, and with it whether another try can help."""
    error = error_of(failed)

    assert type(error) is kind
    assert error.status_code == status


def test_details_are_told_once() -> None:
    """What stands beside the message is added, unless the message has it."""
    assert str(error_of({"message": "a", "additionalDetails": "b"})) == "Codex: a (b)"
    assert str(error_of({"message": "a b", "additionalDetails": "b"})) == "Codex: a b"


def test_a_call_out_of_codexs_own_javascript_ends_the_turn() -> None:
    """A tool call that no response of the model showed reaches the client all the same, once."""
    raw = {"type": "function_call", "name": "mine", "arguments": "{}", "call_id": "c_1"}
    asked = note("item/tool/call", tool="mine", callId="c_2", arguments={"a": "ä"})

    (found,) = read(asked, tools=("mine",))
    known = read(
        note("rawResponseItem/completed", item=raw),
        note("item/tool/call", tool="mine", callId="c_1"),
        note("item/tool/call", tool="other", callId="c_3"),
        tools=("mine",),
    )

    assert isinstance(found, Ended)
    assert found.running
    assert [call.function.arguments for call in found.calls if call.function] == ['{"a": "ä"}']
    assert known == []


def test_usage_is_what_the_responses_counted_or_the_threads_total() -> None:
    """Counts of every response are added; the running total is only for want of them."""
    total = {"tokenUsage": {"total": USED}}
    (counted,) = read(
        note("rawResponse/completed", usage=USED),
        note("rawResponse/completed", usage=None),
        note("rawResponse/completed", usage=USED),
        note("thread/tokenUsage/updated", **total),
        ended(),
    )
    (totalled,) = read(note("thread/tokenUsage/updated", **total), ended())

    assert isinstance(counted, Ended)
    assert isinstance(totalled, Ended)
    assert counted.usage is not None
    assert totalled.usage is not None
    assert (counted.usage.total_tokens, totalled.usage.total_tokens) == (240, 120)


def test_the_end_of_another_turn_is_not_ours() -> None:
    """A late end does not end this turn."""
    late = {"method": "turn/completed",
            "params": {"turn": {"id": "old", "status": "completed"}}}  # fmt: skip

    assert read(late) == []


def test_a_wait_that_is_named_in_words_is_kept() -> None:
    """Codex loses the header Retry-After; the words survive."""
    assert error_of({"message": "Please try again in 1.2s."}).retry_after == 1.2
    assert error_of({"message": "Please try again in 250ms."}).retry_after == 0.25


def test_the_last_message_of_an_exec_run_is_its_answer() -> None:
    """In the fallback reasoning never gets into the answer."""
    result = told(
        [
            b'{"type":"item.completed","item":{"type":"reasoning","text":"hm"}}',
            b'{"type":"item.completed","item":{"type":"agent_message","text":"first"}}',
            b"not JSON",
            b'{"type":"item.completed","item":{"type":"agent_message","text":"{}"}}',
            b'{"type":"turn.completed","usage":{"input_tokens":3,"output_tokens":2}}',
        ]
    )

    assert (result.text, result.thoughts, result.completed) == ("{}", "hm", True)
    assert result.usage is not None
    assert result.usage.total_tokens == 5


@given(st.integers(min_value=0, max_value=1000), st.floats(min_value=0, max_value=1000))
def test_a_dying_codex_is_not_started_without_end_in_a_second(deaths: int, since: float) -> None:
    """The wait between two starts grows with the deaths and has a bound."""
    rules = Renewal()

    waited = wait_s(deaths, since, rules)

    assert 0 <= waited <= rules.most_s
    assert waited == 0 or waited + since >= rules.backoff_s
