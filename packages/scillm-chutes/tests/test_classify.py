"""Refusals: what each means, and what a key and a model do after it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import ProviderError
from scillm_chutes.classify import NEXT, PAUSE_KEY, RAISE, RETRY, STOP_KEY, TABLE, WARM_UP, classify
from scillm_chutes.errors import KeyPausedError, ModelFullError, QuotaError
from scillm_chutes.fake.answers import page
from scillm_chutes.memory import LONGEST_REST_S, Memory
from scillm_chutes.pacing import KeyPace, PaceRules, announced_limit

NOON = 1_795_089_600.0
"""Noon UTC: 12 hours before midnight."""


def detail(text: object) -> bytes:
    return json.dumps({"detail": text}).encode()


CASES = [
    (429, page("429 Too Many Requests"), "caller limited", PAUSE_KEY),
    (429, detail("Infrastructure is at maximum capacity, try again later"), "model full", NEXT),
    (429, detail("Instance is at maximum capacity, try again later"), "model full", NEXT),
    (429, detail("Free models limit reached for today - maintain >= $10"), "free quota", STOP_KEY),
    (429, detail("Rate limit exceeded. Try again later."), "minute limit", PAUSE_KEY),
    (429, detail("model is under maintenance"), "maintenance", NEXT),
    (429, detail("Stop spamming this prompt"), "repeated prompt", RAISE),
    (402, detail({"message": "Quota exceeded and account balance is $0"}), "daily quota", STOP_KEY),
    (402, detail("Subscription usage cap exceeded."), "subscription window", STOP_KEY),
    (402, detail("not in your tier"), "not payable", RAISE),
    (503, detail("No instances available (yet) for chute_id='x'"), "cold", WARM_UP),
    (503, detail("This chute is currently disabled."), "disabled", NEXT),
    (503, b"", "unavailable", RETRY),
    (500, detail("exhausted all available targets to no avail"), "model full (500)", NEXT),
    (500, detail("No infrastructure available to serve request"), "model full (500)", NEXT),
    (500, b"oops", "upstream", RETRY),
    (504, page("504 Gateway Time-out"), "edge timeout", RETRY),
    (404, detail("model not found: x"), "unknown model", "resolve again"),
    (404, detail("No matching cord found!"), "no such route", RAISE),
    (401, detail("Invalid token."), "wrong key", RAISE),
    (403, page("403 Forbidden"), "refused at the edge", RAISE),
    (403, detail("no scope"), "not allowed", RAISE),
    (426, detail("not TEE"), "not confidential", NEXT),
    (400, detail("file parts"), "refused", RAISE),
    (422, b"[]", "refused", RAISE),
]


@pytest.mark.parametrize(("status", "body", "kind", "reaction"), CASES)
def test_every_known_refusal_has_its_meaning(
    status: int, body: bytes, kind: str, reaction: str
) -> None:
    """Status, form and text together decide; a capacity 429 is not a limit 429."""
    found = classify(status, body, now=NOON)

    assert (found.kind, found.reaction) == (kind, reaction)


def test_every_line_of_the_table_is_reached() -> None:
    """No line of the table is hidden behind an earlier one."""
    assert {row.kind for row in TABLE} - {kind for _, _, kind, _ in CASES} == {"other 429"}


def test_quotas_name_their_reset() -> None:
    """A stamp in the body counts; without one the quota of a day ends at midnight UTC."""
    stamped = detail({"message": "Quota exceeded", "quota_reset_timestamp": NOON + 5})
    silent = detail({"message": "Quota exceeded"})

    assert classify(402, stamped, now=NOON).wait_s == 5.0
    assert classify(402, silent, now=NOON).wait_s == 43_200.0
    assert classify(429, detail("Rate limit exceeded."), now=NOON + 59).wait_s == 1.0


@given(status=st.integers(300, 599), body=st.binary(max_size=200))
def test_any_reply_can_be_classified(status: int, body: bytes) -> None:
    """Whatever comes, a class, a reaction and a text come out."""
    found = classify(status, body, now=NOON)

    assert issubclass(found.error, ProviderError)
    assert found.text
    assert found.wait_s is None or found.wait_s >= 0


def test_only_a_pause_or_room_is_worth_waiting_for() -> None:
    """Full models and paused keys are worth another try; a used-up quota is not."""
    assert ModelFullError.retryable
    assert KeyPausedError.retryable
    assert not QuotaError.retryable


@given(
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=80),
    per_s=st.floats(0.1, 5),
    burst=st.floats(1, 5),
)
def test_the_pace_is_kept(gaps: list[float], per_s: float, burst: float) -> None:
    """N calls at rate r with burst b start within no less than (N - b) / r seconds."""
    pace = KeyPace(PaceRules(per_s=per_s, burst=burst))
    now, starts = 0.0, []
    for gap in gaps:
        now += gap
        starts.append(now + pace.reserve(now))
    for first in range(len(starts)):
        least = (len(starts) - first - burst) / per_s
        assert starts[-1] - starts[first] >= least - 1e-6

    assert starts == sorted(starts)


@given(times=st.lists(st.floats(0.1, 5000), min_size=1, max_size=12))
def test_a_pause_outlasts_the_ban(times: list[float]) -> None:
    """Whenever the limiter strikes, the pause is longer than the ban that doubles each time."""
    pace, now, ban = KeyPace(PaceRules()), 0.0, 60.0
    for gap in times:
        now += gap
        pause = pace.limited(now, started_at=now)
        assert pause > min(ban, 86_400.0)
        now, ban = now + pause, ban * 2

    assert pace.pause_s(now) == 0.0


def test_one_herd_is_one_ban() -> None:
    """Refusals of calls that were on their way already do not lengthen the pause."""
    pace = KeyPace(PaceRules())
    first = pace.limited(10.0, started_at=9.0)
    late = [pace.limited(10.0 + n / 10, started_at=9.5) for n in range(20)]

    assert max(late) <= first
    assert pace.bans == 1


def test_a_pace_rises_only_on_evidence() -> None:
    """After a ban it is halved; answers raise it again, above the start only if announced."""
    pace = KeyPace(PaceRules())
    pace.limited(0.0, started_at=0.0)
    halved = pace.per_s
    for _ in range(1000):
        pace.answered(limit_per_min=60.0)
    back = pace.per_s
    for _ in range(1000):
        pace.answered(limit_per_min=announced_limit("inf"))

    assert (halved, back) == (0.4, 0.8)
    assert pace.per_s == 20.0
    assert announced_limit("soon") is None


@given(
    events=st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=60),
)
def test_a_resting_model_wakes(events: list[tuple[bool, float]]) -> None:
    """A rest is never longer than a minute for capacity, an answer ends it, shares stay shares."""
    memory, now = Memory(), 0.0
    for answered, gap in events:
        now += gap
        if answered:
            memory.answered("m", now)
            assert memory.rest_s("m", now) == 0.0
        else:
            assert 0 < memory.refused("m", now, rest_s=2.0, reason="full") <= LONGEST_REST_S
        assert all(0.0 <= seen.refused <= 1.0 for seen in memory.seen(now).values())


def test_answers_make_a_refusal_forgotten() -> None:
    """After some twenty answers in a row nothing is left of it, so the memory does not grow."""
    memory = Memory()
    memory.refused("m", 0.0, rest_s=2.0, reason="full")
    for _ in range(20):
        memory.answered("m", 3.0)

    assert memory.seen(3.0) == {}
    assert memory.reason("m") == ""


def test_a_model_that_was_warmed_up_may_be_asked_at_once() -> None:
    """Waking ends the rest, of no other model, and is nothing for one that does not rest."""
    memory = Memory()
    memory.refused("cold", 0.0, rest_s=60.0, reason="cold")
    memory.refused("other", 0.0, rest_s=60.0, reason="full")
    memory.wake("cold")
    memory.wake("unknown")

    assert [memory.rest_s(name, 1.0) for name in ("cold", "other", "unknown")] == [0.0, 59.0, 0.0]


def test_an_announced_pause_is_no_ban() -> None:
    """A pause whose end the service names is kept to the second, and leaves the pace as it was."""
    pace = KeyPace(PaceRules())

    assert pace.limited(10.0, started_at=9.0, announced_s=7.0) == 7.0
    assert (pace.bans, pace.per_s) == (0, PaceRules().per_s)
