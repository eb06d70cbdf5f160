"""Calls that are out: which of them an upstream must have let in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scillm.resilience.outstanding import MOST_OUT, PATIENCE, Outstanding

MOMENTS = st.lists(st.floats(0, 100), max_size=60).map(sorted)


@given(MOMENTS, st.floats(0.01, 5), st.floats(0, 100), st.floats(0, 200))
def test_calls_that_are_out_for_longer_than_refusals_take_were_let_in(begun, took_s, since, now):
    """Those that began at `since` or later, and no others."""
    out = Outstanding()
    for at in begun:
        out.began(at)
    out.refused(took_s)

    assert out.count(since) == sum(1 for at in begun if since <= at)
    assert out.let_in(now, since) == sum(
        1 for at in begun if since <= at <= now - PATIENCE * took_s
    )


@given(MOMENTS, st.data())
def test_a_call_that_ended_is_not_out(begun, data):
    """Whatever the order in which they end, and however many began in one moment."""
    out = Outstanding()
    for at in begun:
        out.began(at)
    out.refused(0.01)
    for at in data.draw(st.permutations(begun)):
        out.ended(at)

    assert out.let_in(1000.0, 0.0) == 0
    assert out.count(0.0) == 0


def test_before_a_refusal_nobody_must_have_been_let_in():
    """Nothing says yet how long one takes."""
    out = Outstanding()
    out.began(1.0)

    assert out.let_in(100.0, 0.0) == 0


def test_a_call_that_began_later_than_was_noted_ends_the_oldest():
    """As with a limiter that is shared between processes, where it waits once more."""
    out = Outstanding()
    out.began(1.0)
    out.began(2.0)
    out.refused(0.1)
    out.ended(1.5)
    out.ended(0.5)

    assert out.let_in(100.0, 0.0) == 1
    assert out.let_in(100.0, 2.0) == 1


def test_a_turn_that_was_given_back_is_not_out():
    """The last one: it did not start."""
    out = Outstanding()
    out.gave_back()
    out.began(1.0)
    out.began(2.0)
    out.gave_back()
    out.refused(0.1)

    assert out.let_in(100.0, 2.0) == 0
    assert out.let_in(100.0, 0.0) == 1


def test_forgetting_keeps_what_counts_yet():
    """Calls that began later, or none."""
    some, none = Outstanding(), Outstanding()
    for out, before in ((some, 2.0), (none, None)):
        out.began(1.0)
        out.began(2.0)
        out.forget(before=before)
        out.refused(0.1)

    assert (some.let_in(100.0, 0.0), none.let_in(100.0, 0.0)) == (1, 0)


def test_calls_that_never_end_are_not_remembered_for_ever():
    """Those that failed in another way than by a refusal are never told."""
    out = Outstanding()
    for n in range(3 * MOST_OUT):
        out.began(float(n))
    out.refused(0.1)

    assert out.let_in(1e9, 0.0) <= MOST_OUT
