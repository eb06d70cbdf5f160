"""What a worker at level wasm told of a run, read as an execution. Pure."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.records import Limits
from scillm_codeworld.plain import plain_problem
from scillm_codeworld.records import OK, STATUSES
from scillm_codeworld.sandbox.wasm.told import STOPPED, read

LIMITS = Limits(time_s=2.0, memory_mb=64, output_bytes=100)


def told(stage="call", **words):
    """A worker's reply around what the program said."""
    said = words.pop("said", None)
    return {
        "stage": stage,
        "load_s": 0.25,
        "took_s": 0.5,
        "fuel": 7,
        **({} if said is None else {"said": said if isinstance(said, str) else json.dumps(said)}),
        **words,
    }


def test_an_answer_comes_with_its_cost_and_what_was_printed():
    """Fuel, times and both streams."""
    said = {"status": "ok", "output": [1], "stdout": "a", "stderr": "b"}

    run = read(told(said=said), LIMITS)

    assert (run.status, run.output, run.fuel) == (OK, [1], 7)
    assert (run.load_s, run.wall_s, run.stdout, run.stderr) == (0.25, 0.5, "a", "b")


@pytest.mark.parametrize(
    ("reply", "status", "reason"),
    [
        (None, "timeout", "did not end it in 10 times 2 s"),
        (told("load", trap="fuel"), "timeout", "did not load within 2 s"),
        (told(trap="fuel"), "timeout", "did not answer within 2 s, which are 2e+10 of fuel"),
        (told(trap="output"), "output_limit", "far longer than 100 bytes"),
        (told(trap="wasm trap: unreachable"), "exception", STOPPED),
        (told(trap="out of bounds"), "exception", "its instance was stopped: out of bounds"),
        (
            told("load", said={"status": "syntax_error", "reason": "line 1", "stdout": ""}),
            "syntax_error",
            "line 1",
        ),
        (told(said={"status": "exception", "reason": "no"}), "exception", "no"),
        (told(said={"status": "ok", "output": "x" * 99}), "output_limit", "answer has more than"),
        (told(said={"status": "ok", "stdout": "x" * 101}), "output_limit", "bytes to stdout"),
        (told(said={"status": "ok", "stderr": "ä" * 51}), "output_limit", "bytes to stderr"),
        (told(said={"status": "loaded"}), "exception", "no answer"),
        (told("load", said={"status": "ok"}), "exception", "no answer"),
    ],
)
def test_every_other_end_has_its_status_and_reason(reply, status, reason):
    """None of them has an answer or a cost."""
    run = read(reply, LIMITS)

    assert (run.status, run.output, run.fuel) == (status, None, None)
    assert reason in run.reason


def test_time_is_told_of_calls_only():
    """A program that did not load has no time of a call, nor one of loading."""
    loading = read(told("load", said={"status": "exception", "reason": "no"}), LIMITS)
    calling = read(told(trap="fuel"), LIMITS)

    assert (loading.load_s, loading.wall_s) == (None, None)
    assert (calling.load_s, calling.wall_s) == (0.25, None)


WORDS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.sampled_from(["load", "call"]),
    st.dictionaries(st.sampled_from(["status", "output", "stdout", "stderr", "reason"]), WORDS)
    | st.text(st.characters(codec=None)),
)
def test_whatever_a_program_says_can_be_stored(stage, said):
    """It made the text itself: its status may be a list, its streams numbers."""
    run = read(told(stage, said=said), LIMITS)

    assert run.status in STATUSES
    assert plain_problem([run.reason, run.output, run.stdout, run.stderr]) is None
