"""Whatever a program writes where its answer belongs, the parent makes one honest status of it."""

from __future__ import annotations

import json

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.records import Limits
from scillm_codeworld.plain import plain_problem
from scillm_codeworld.records import EXCEPTION, OK, STATUSES, Program
from scillm_codeworld.sandbox.execution import execute
from scillm_codeworld.sandbox.reply import (
    ANSWERING,
    LOADING,
    REASON_CHARS,
    STARTING,
    failure,
    frames_of,
    parse_reply,
)
from scillm_codeworld.sandbox.runner import FRAMES, FUNCTION_CHARS

TEXT = st.text(st.characters(codec=None))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
WORDS = st.dictionaries(
    st.sampled_from(["status", "output", "reason", "frames", "isolation", "other"]),
    VALUES | st.sampled_from([*STATUSES, "loaded", "ready"]),
)
LINES = st.binary() | (VALUES | WORDS).map(json.dumps).map(str.encode)
STAGES = st.sampled_from([STARTING, LOADING, ANSWERING])


@given(LINES, STAGES)
def test_any_line_is_a_status_that_may_be_said_there(line, allowed):
    """Bytes, numbers, lists, forged words: never an error of ours, never a word out of turn."""
    reply = parse_reply(line, allowed)

    assert reply["status"] in {*allowed, EXCEPTION}
    assert reply["status"] != OK or plain_problem(reply.get("output")) is None


@given(LINES, STAGES)
def test_what_is_told_of_a_failure_can_be_stored(line, allowed):
    """Its reason is short and whole Unicode, its frames are of our shape and number."""
    reply = parse_reply(line, allowed)
    if reply["status"] not in STATUSES:
        return
    run = failure(reply)

    assert len(run.reason) <= REASON_CHARS + 1
    assert plain_problem([run.reason, list(run.frames)]) is None
    assert len(run.frames) <= FRAMES + 1


@given(VALUES)
def test_frames_of_another_shape_are_none(said):
    """What a program made up is not shown as a trace."""
    for frame in frames_of(said):
        assert set(frame) in ({"line", "function"}, {"left_out"})
        assert len(str(frame.get("function", ""))) <= FUNCTION_CHARS


@pytest.mark.parametrize("forged", ["[1]", "{}", "null", "7", '["ok"]'])
@pytest.mark.parametrize("at", ["load", "call"])
def test_a_status_that_is_no_word_fails_the_program_and_nothing_else(forged, at):
    """A forged line cannot end the run of everybody else's programs with an error of ours."""
    forge = f"""
import os
def forge():
    for number in range(3, 4096):
        try: os.write(number, b'{{"status": {forged}, "output": 1}}\\n')
        except OSError: pass
    os._exit(0)
"""
    code = forge + ("forge()" if at == "load" else "def solve(x): forge()")
    run = anyio.run(execute, Program(code=code), None, Limits(time_s=20.0))

    assert (run.status, run.output) == (EXCEPTION, None)
    assert "no answer" in run.reason


def test_an_answer_before_the_question_is_none():
    """A program that answers while it loads, when no clock runs for its call, has not answered."""
    code = """
import os, time
for number in range(3, 4096):
    try: os.write(number, b'{"status": "loaded"}\\n{"status": "ok", "output": 1}\\n')
    except OSError: pass
time.sleep(60)
"""
    run = anyio.run(execute, Program(code=code), None, Limits(time_s=20.0))

    assert (run.status, run.output) == (EXCEPTION, None)
    assert "no answer" in run.reason


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ([{"line": 3, "function": "solve"}], [{"line": 3, "function": "solve"}]),
        ([{"left_out": 2}, {"line": 3, "function": "f"}], None),
        ([{"line": 3, "function": "f" * 999}], [{"line": 3, "function": "f" * FUNCTION_CHARS}]),
        ([{"line": 3, "function": "f"}, {"left_out": 2}], []),
        ([{"line": True, "function": "f"}], []),
        ([{"line": 3}], []),
        ([3], []),
        ([{"line": 1, "function": "f"}] * (FRAMES + 2), []),
        ("line 3", []),
    ],
)
def test_frames_are_shown_as_our_own_would_be_or_not_at_all(said, shown):
    """What was left out comes first; a long name is cut."""
    assert list(frames_of(said)) == (said if shown is None else shown)


@pytest.mark.parametrize("answer", ["NaN", "1e999", '"\\ud800"', "[" * 200 + "]" * 200])
def test_an_answer_that_cannot_be_stored_is_unserialisable(answer):
    """Read as JSON it would be something else elsewhere."""
    reply = parse_reply(b'{"status": "ok", "output": %s}' % answer.encode(), ANSWERING)

    assert reply["status"] == "unserialisable"
