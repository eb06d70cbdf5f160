"""The agent machine: whatever a model says, calls are answered once and the run ends."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import StoredRunError, UsageError
from scillm_codex.agent.machine import LAST, NUDGE, Agent, after, begin, what_next
from scillm_codex.agent.records import (
    REASONS,
    AgentLimits,
    Answered,
    Call,
    Expired,
    Heard,
    Question,
    Stop,
    ToolSpec,
)
from scillm_codex.agent.rows import (
    closing_row,
    event_row,
    failed_row,
    opening_row,
    replayed,
)

TASK = [{"role": "user", "content": "Do it."}]
TOOLS = ("exec_python", "read_file")


def call(id: Any, name: Any = "read_file", arguments: Any = "{}") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def says(*calls: Any, content: Any = None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    return {**message, "tool_calls": list(calls)} if calls else message


ARGUMENTS = st.sampled_from(["{}", "", "[1]", "{", '{"path": "a"}', None, {"path": "a"}, 7])
CALLS = st.builds(
    call,
    st.sampled_from(["a", "b", "call_1_1", "", None, 3]),
    st.sampled_from([*TOOLS, "unknown", "", None]),
    ARGUMENTS,
)
ODD_CALLS = st.one_of(CALLS, st.sampled_from([{}, None, {"function": None}, "text"]))
CONTENT = st.sampled_from(["", None, "  ", "Done.", "```python\n1\n```", [{"text": "parts"}], 5])
MESSAGES = st.fixed_dictionaries(
    {"content": CONTENT},
    optional={
        "tool_calls": st.one_of(st.lists(ODD_CALLS, max_size=5), st.none()),
        "function_call": st.just({"name": "read_file", "arguments": "{}"}),
        "refusal": st.sampled_from([None, "No."]),
        "role": st.just("system"),
    },
)
REPLIES = st.builds(
    Heard,
    message=MESSAGES,
    finish_reason=st.sampled_from(["stop", "tool_calls", "length", "content_filter", None]),
    tokens=st.integers(0, 100),
    cost_usd=st.one_of(st.none(), st.floats(0, 1)),
)
LIMITS = st.builds(
    AgentLimits,
    max_iterations=st.integers(1, 5),
    max_seconds=st.one_of(st.none(), st.floats(0, 30)),
    max_tokens=st.one_of(st.none(), st.integers(1, 200)),
    max_cost_usd=st.one_of(st.none(), st.floats(0, 3)),
    max_format_errors=st.integers(1, 3),
    max_calls=st.integers(1, 3),
    repair=st.booleans(),
    run_code_blocks=st.booleans(),
    escalate=st.booleans(),
)


def driven(data: Any, limits: AgentLimits) -> tuple[Agent, list[Any], list[Call]]:
    """A whole run with a model and tools that do anything; and what happened in it."""
    agent, happened, carried_out, now = begin(TASK, tools=TOOLS, limits=limits), [], [], 0.0
    for _ in range(200):
        todo = what_next(agent)
        if isinstance(todo, Stop):
            return agent, happened, carried_out
        now += data.draw(st.floats(0, 5))
        event: Any
        if data.draw(st.integers(0, 30)) == 0:
            event = Expired(elapsed_s=now)
        elif isinstance(todo, Question):
            event = evolve(data.draw(REPLIES), elapsed_s=now)
        else:
            carried_out.append(todo)
            event = Answered(id=todo.id, text="x", ok=data.draw(st.booleans()), elapsed_s=now)
        agent = after(agent, event)
        happened.append(event)
    raise AssertionError("the agent did not stop")


def ids_of(messages: Any) -> tuple[list[str], list[str]]:
    asked = [c["id"] for m in messages for c in m.get("tool_calls") or ()]
    return asked, [m["tool_call_id"] for m in messages if m["role"] == "tool"]


@given(data=st.data(), limits=LIMITS)
def test_every_call_gets_exactly_one_answer(data: st.DataObject, limits: AgentLimits) -> None:
    """No tool call of a finished run is unanswered, answered twice, or carried out twice."""
    agent, _happened, carried_out = driven(data, limits)
    asked, answered = ids_of(agent.messages)

    assert Counter(asked) == Counter(answered)
    assert set(Counter(asked).values()) <= {1}
    assert set(Counter(one.id for one in carried_out).values()) <= {1}
    assert {one.id for one in carried_out} <= set(asked)


@given(data=st.data(), limits=LIMITS)
def test_answers_stand_right_after_their_calls(data: st.DataObject, limits: AgentLimits) -> None:
    """A history can be sent to any server: calls, then all their answers, then anything else."""
    agent, _happened, _ = driven(data, limits)
    open_calls: set[str] = set()
    for message in agent.messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in open_calls
            open_calls.remove(message["tool_call_id"])
        else:
            assert not open_calls
            open_calls = {one["id"] for one in message.get("tool_calls") or ()}

    assert not open_calls


@given(data=st.data(), limits=LIMITS)
def test_a_run_always_stops(data: st.DataObject, limits: AgentLimits) -> None:
    """Whatever the model says, a run ends within its questions, for one of the known reasons."""
    agent, _happened, _ = driven(data, limits)

    assert agent.stopped is not None
    assert agent.stopped.reason in REASONS
    assert agent.steps <= limits.max_iterations + int(limits.escalate)


@given(data=st.data(), limits=LIMITS)
def test_what_happened_again_gives_the_same_messages(
    data: st.DataObject, limits: AgentLimits
) -> None:
    """The happenings of a run are the run: fed in again they give the same history and end."""
    agent, happened, _ = driven(data, limits)
    again = begin(TASK, tools=TOOLS, limits=limits)
    for event in happened:
        again = after(again, event)

    assert again == agent
    assert json.dumps(again.messages) == json.dumps(agent.messages)


def run_of(*events: Any, limits: AgentLimits | None = None, tools: Any = TOOLS) -> Agent:
    agent = begin(TASK, tools=tools, limits=limits or AgentLimits())
    for event in events:
        agent = after(agent, event)
    return agent


def test_the_model_sees_what_its_tool_gave() -> None:
    """A tool's result goes back to the model, whose next text is the answer."""
    agent = run_of(Heard(message=says(call("a"))), Answered(id="a", text="41"))
    asked = what_next(agent)
    done = what_next(after(agent, Heard(message=says(content="42"))))

    assert isinstance(asked, Question)
    assert asked.messages[-1] == {"role": "tool", "tool_call_id": "a", "content": "41"}
    assert done == Stop(reason="success", answer="42")


@pytest.mark.parametrize(
    ("given_call", "said"),
    [
        (call("a", "rm"), "there is no tool 'rm'"),
        (call("a", arguments="{"), "are not JSON"),
        (call("a", arguments="[1]"), "must be a JSON object"),
    ],
)
def test_a_call_that_cannot_be_made_is_answered_with_why(given_call: Any, said: str) -> None:
    """A wrong call costs no tool and no run: the model is told what was wrong."""
    agent = run_of(Heard(message=says(given_call)))

    assert isinstance(what_next(agent), Question)
    assert said in agent.messages[-1]["content"]


def test_more_calls_than_allowed_come_again_later() -> None:
    """Of too many calls in one answer the first are made, and the others told so."""
    agent = run_of(Heard(message=says(call("a"), call("b"))), limits=AgentLimits(max_calls=1))

    assert [one.id for one in agent.waiting] == ["a"]
    assert "make it again" in agent.messages[-1]["content"]


def test_silence_is_nudged_and_then_ends_the_run() -> None:
    """An answer with nothing in it is asked for again, at most so many times in a row."""
    silent = Heard(message=says(content=""))
    agent = run_of(silent, silent)
    end = what_next(after(agent, silent))

    assert agent.messages[-1]["content"] == NUDGE
    assert end == Stop(reason="format_errors", answer="")


def test_time_that_runs_out_answers_what_waits() -> None:
    """When time is up in the middle of a call, its answer says that it was not run."""
    agent = run_of(Heard(message=says(call("a"))), Expired(elapsed_s=9.0))

    assert agent.stopped == Stop(reason="max_seconds", answer="")
    assert agent.messages[-1]["content"] == "Error: not run, the agent has stopped (max_seconds)."


def test_a_last_question_follows_when_it_was_wanted() -> None:
    """With `escalate` the model answers once more without tools, and calls then do nothing."""
    agent = run_of(
        Heard(message=says(call("a"))),
        Answered(id="a", text="x"),
        limits=AgentLimits(max_iterations=1, escalate=True),
    )
    asked = what_next(agent)
    done = after(agent, Heard(message=says(call("b"), content="Half.")))

    assert asked == Question(messages=agent.messages, last=True)
    assert agent.messages[-1]["content"] == LAST
    assert done.stopped == Stop(reason="max_iterations", answer="Half.")
    assert "tool_calls" not in done.messages[-1]


def test_money_without_a_price_stops_the_run() -> None:
    """A run bounded in money does not go on when nobody knows what an answer cost."""
    agent = run_of(Heard(message=says(call("a"))), limits=AgentLimits(max_cost_usd=1.0))

    assert agent.stopped == Stop(reason="unknown_cost", answer="")


@pytest.mark.parametrize(
    ("limits", "heard", "reason"),
    [
        (AgentLimits(max_tokens=10), Heard(message=says(call("a", "no")), tokens=10), "max_tokens"),
        (
            AgentLimits(max_cost_usd=1.0),
            Heard(message=says(call("a", "no")), cost_usd=1.0),
            "max_cost",
        ),
        (AgentLimits(max_seconds=5), Heard(message=says(call("a")), elapsed_s=5.0), "max_seconds"),
        (AgentLimits(max_iterations=1), Heard(message=says(call("a", "no"))), "max_iterations"),
        (AgentLimits(), Heard(message=says(content="x"), finish_reason="length"), "truncated"),
        (
            AgentLimits(),
            Heard(message=says(content=""), finish_reason="content_filter"),
            "refused",
        ),
    ],
    ids=["tokens", "cost", "seconds", "iterations", "length", "filter"],
)
def test_each_limit_ends_a_run_by_its_name(limits: AgentLimits, heard: Heard, reason: str) -> None:
    """The reason of a stop says which bound was met."""
    agent = run_of(heard, limits=limits)

    assert agent.stopped is not None
    assert agent.stopped.reason == reason


def test_a_failing_tool_ends_a_run_without_repair() -> None:
    """With `repair` off the first failure is the end."""
    agent = run_of(
        Heard(message=says(call("a"))),
        Answered(id="a", text="Error", ok=False),
        limits=AgentLimits(repair=False),
    )

    assert agent.stopped == Stop(reason="tool_failed", answer="")


def test_a_code_block_is_run_when_that_was_asked_for() -> None:
    """A fenced block becomes a call of its language's tool; a language without one stays text."""
    limits = AgentLimits(run_code_blocks=True)
    block = run_of(Heard(message=says(content="So:\n```python\nprint(1)\n```\n")), limits=limits)
    other = run_of(Heard(message=says(content="```rust\nfn\n```")), limits=limits)

    assert what_next(block) == Call(
        id="block_1", name="exec_python", arguments={"code": "print(1)\n"}
    )
    assert other.stopped == Stop(reason="success", answer="```rust\nfn\n```")


def test_what_was_not_asked_for_cannot_happen() -> None:
    """A driver that mixes up calls is told so at once."""
    waiting = run_of(Heard(message=says(call("a"))))

    with pytest.raises(UsageError, match="No answer to a tool call 'b'"):
        after(waiting, Answered(id="b", text=""))
    with pytest.raises(UsageError, match="has no answer yet"):
        after(waiting, Heard(message=says(content="x")))
    with pytest.raises(UsageError, match="has stopped"):
        after(run_of(Heard(message=says(content="x"))), Expired(elapsed_s=1.0))
    with pytest.raises(UsageError, match="max_iterations must be at least 1"):
        begin(TASK, tools=(), limits=AgentLimits(max_iterations=0))


def test_an_id_that_was_used_before_is_replaced() -> None:
    """A model that repeats an id, also one of the messages it was given, gets another for it."""
    before = [*TASK, says(call("call_1_1")), {"role": "tool", "tool_call_id": "call_1_1"}]
    agent = begin(before, tools=TOOLS, limits=AgentLimits())
    agent = after(agent, Heard(message=says(call("call_1_1"), call(None))))

    assert [one.id for one in agent.waiting] == ["call_1_1_2", "call_1_2"]


def rows_of(agent: Agent, *events: Any) -> list[dict[str, Any]]:
    head = opening_row(
        "r", model="m", messages=TASK, tools=[ToolSpec(name=name) for name in TOOLS],
        limits=AgentLimits(), created=0.0,
    )  # fmt: skip
    return [head, *(event_row(event) for event in events), closing_row(agent)]


def test_rows_that_are_no_run_are_refused() -> None:
    """A trace that begins otherwise, ends otherwise, or holds something else is not walked."""
    event = Heard(message=says(content="x"))
    rows = rows_of(run_of(event), event)
    changed = {**rows[-1], "final_answer": "y"}

    assert replayed(rows).finished
    assert not replayed([*rows[:-1], failed_row(ValueError())]).finished
    for wrong, said in (
        ([], "first row"),
        (rows[1:], "first row"),
        ([*rows[:-1], changed], "does not come out"),
        ([*rows[:-1], {"kind": "poem"}], "'poem'"),
    ):
        with pytest.raises(StoredRunError, match=said):
            replayed(wrong)
