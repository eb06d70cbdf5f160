"""Pauses of a key outlive the process, reach others, and hold for every host of the service."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import scillm
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import ScillmError
from scillm_chutes.desk import Desk
from scillm_chutes.errors import DisabledModelError, KeyPausedError, ModelFullError, QuotaError
from scillm_chutes.fake import FakeAccount, FakeChutes, FakeModel
from scillm_chutes.pacing import FORGET_S, PROOF, KeyPace, PaceRules
from scillm_chutes.pausefile import Pause, PauseFile
from scillm_chutes.routers import RankedRouter, aauto_router_from_env, auto_router_from_env
from scillm_chutes.sites import site_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HELLO = [{"role": "user", "content": "Hello"}]


class Clock:
    """Virtual time, seconds. A machine that was started anew has another monotonic clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.wrong_s = 0.0

    def wall(self) -> float:
        return 1_795_000_000.0 + self.now + self.wrong_s

    def desk(self, *, booted_at: float = 0.0) -> Desk:
        return Desk(clock=lambda: self.now - booted_at, wall=self.wall)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeChutes]:
    """A fake in virtual time."""
    with FakeChutes(clock=lambda: 1_795_000_000.0 + clock.now) as server:
        monkeypatch.setenv("CHUTES_API_BASE", server.api_base)
        monkeypatch.setenv("CHUTES_API_KEY", server.key)
        monkeypatch.setenv("SCILLM_CHUTES_QPS", "1000")
        yield server


def failure(router: RankedRouter) -> ScillmError:
    """The error of a call that must fail."""
    with pytest.raises(ScillmError) as caught:
        router.completion(router.group, HELLO)
    return caught.value


def pause_files(folder: Path) -> list[Path]:
    return list((folder / "chutes").glob("pause-*.json"))


def test_a_restart_respects_a_ban(world: FakeChutes, clock: Clock) -> None:
    """A new process, with another monotonic clock, sends nothing before the pause ends."""
    world.account.ban(clock.wall())
    failure(auto_router_from_env(desk=clock.desk()))
    clock.now += 30.0
    restarted = auto_router_from_env(desk=clock.desk(booted_at=29.0))
    still = failure(restarted)
    clock.now += 37.0
    answer = restarted.completion(restarted.group, HELLO)

    assert isinstance(still, KeyPausedError)
    assert still.retry_after == pytest.approx(36.0, abs=0.1)
    assert not still.sent
    assert answer.text
    assert world.account.calls_in_ban == 1


def test_a_restart_knows_how_many_bans_there_were(world: FakeChutes, clock: Clock) -> None:
    """The second ban doubles the pause, although another process met the first."""
    world.account.ban(clock.wall())
    failure(auto_router_from_env(desk=clock.desk()))
    clock.now += 70.0
    restarted = auto_router_from_env(desk=clock.desk(booted_at=69.0))
    world.account.ban(clock.wall())
    second = failure(restarted)

    assert isinstance(second, KeyPausedError)
    assert second.retry_after == pytest.approx(132.0)


def test_a_process_beside_this_one_hears_of_a_ban(world: FakeChutes, clock: Clock) -> None:
    """Of two that run with one key, only one probes a ban."""
    one = auto_router_from_env(desk=clock.desk())
    other = auto_router_from_env(desk=clock.desk(booted_at=-5000.0))
    other.completion(other.group, HELLO)
    world.account.ban(clock.wall())
    errors = [failure(router) for router in (one, other, one, other)]

    assert all(isinstance(error, KeyPausedError) for error in errors)
    assert world.account.calls_in_ban == 1


def test_a_program_that_ran_before_is_believed(fake: FakeChutes) -> None:
    """A real process meets the ban and ends; this one, started before, sends nothing."""
    script = (
        "import scillm\n"
        "from scillm_chutes.errors import KeyPausedError\n"
        "try:\n"
        "    scillm.completion('chutes/elm/Elm-8B', [{'role': 'user', 'content': 'Hello'}])\n"
        "except KeyPausedError as error:\n"
        "    assert error.sent\n"
        "else:\n"
        "    raise SystemExit('it was answered')\n"
    )
    router = auto_router_from_env()
    fake.account.ban(time.time())
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    error = failure(router)

    assert done.returncode == 0
    assert isinstance(error, KeyPausedError)
    assert not error.sent
    assert len(fake.chats) == 1


def test_a_used_up_quota_is_remembered_with_its_reset(world: FakeChutes, clock: Clock) -> None:
    """After a restart the error is still about the quota, and says when it is reset."""
    world.account.trouble = "daily quota"
    first = failure(auto_router_from_env(desk=clock.desk()))
    again = failure(auto_router_from_env(desk=clock.desk(booted_at=0.5)))

    assert isinstance(first, QuotaError)
    assert isinstance(again, QuotaError)
    assert again.resets_at == first.resets_at
    assert len(world.chats) == 1


def test_a_wall_clock_that_was_wrong_cannot_silence_a_key_for_years(
    world: FakeChutes, clock: Clock
) -> None:
    """However far the clock is set back, a pause is no longer than the longest ban."""
    world.account.ban(clock.wall())
    failure(auto_router_from_env(desk=clock.desk()))
    clock.wrong_s = -10 * 365 * 86_400.0
    error = failure(auto_router_from_env(desk=clock.desk(booted_at=-1.0)))

    assert isinstance(error, KeyPausedError)
    assert (error.retry_after or 0.0) <= 1.1 * 86_400.0


@pytest.mark.parametrize("text", ["", "[]", "{", '{"until": "soon"}', '{"until": NaN, "bans": 1}'])
def test_a_damaged_file_is_as_none(
    world: FakeChutes, clock: Clock, tmp_path: Path, text: str
) -> None:
    """What cannot be read silences nothing, and the next ban writes it anew."""
    world.account.ban(clock.wall())
    failure(auto_router_from_env(desk=clock.desk()))
    (file,) = pause_files(tmp_path)
    file.write_text(text)
    clock.now += 100.0
    router = auto_router_from_env(desk=clock.desk(booted_at=-1.0))
    answer = router.completion(router.group, HELLO)
    world.account.ban(clock.wall())
    failure(router)

    assert answer.text
    assert json.loads(file.read_text("utf-8"))["until"] > clock.wall()


def test_no_key_is_written(world: FakeChutes, clock: Clock, tmp_path: Path) -> None:
    """Names and contents of the files hold a hash of the key, never the key."""
    world.account.ban(clock.wall())
    failure(auto_router_from_env(desk=clock.desk()))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]

    assert pause_files(tmp_path)
    assert not [f for f in files if world.key in f.name or world.key in f.read_text("utf-8")]


def test_a_shorter_pause_does_not_replace_a_longer_one(tmp_path: Path) -> None:
    """Of two processes that write, the one that waits longer is kept."""
    long, short = (PauseFile(tmp_path, "key-x") for _ in range(2))
    long.write(Pause(until=200.0, bans=2))
    short.write(Pause(until=100.0, bans=1))

    assert PauseFile(tmp_path, "key-x").news() == Pause(until=200.0, bans=2)


def test_hosts_of_one_service_share_the_gate_of_a_key() -> None:
    """A ban met at one host silences the key at the others; another service is not concerned."""
    desk, rules = Desk(), PaceRules()
    bases = ("https://llm.chutes.ai/v1", "https://embed.chutes.ai/v1", "https://gateway.test/v1")
    llm, embed, other = (desk.gate(site_of(base), "cpk_x", rules) for base in bases)

    assert llm is embed
    assert llm is not other


@given(
    until=st.floats(-2e5, 2e5), bans=st.integers(0, 12), own=st.floats(0, 1e5), at=st.floats(0, 1e5)
)
def test_what_others_say_never_shortens_a_pause(
    until: float, bans: int, own: float, at: float
) -> None:
    """The pause is the longer of the own and the heard one; bans and pace follow the worse."""
    pace = KeyPace(PaceRules())
    pace.stop(at, own)
    before = pace.paused_until
    pace.heard(at, until=until, bans=bans)
    heard = at - until <= FORGET_S

    assert pace.paused_until == (max(before, until) if heard else before)
    assert pace.bans == (bans if heard else 0)
    assert pace.per_s <= PaceRules().per_s
    assert pace.pause_s(at) <= max(own, until - at, 0.0) + 1e-6


def test_failovers_hurry_again_once_the_pace_has_recovered() -> None:
    """After a ban they wait with the others until enough answers have shown that there is room."""
    pace, now = KeyPace(PaceRules(burst=1.0)), 0.0
    now += pace.limited(now, started_at=0.0)
    pace.hurry()
    pace.reserve(now)
    pace.hurry()
    slow = pace.reserve(now)
    while pace.per_s < PaceRules().per_s:
        for _ in range(PROOF):
            pace.answered()
    now += 1000.0
    pace.reserve(now)
    pace.hurry()
    quick = pace.reserve(now)

    assert slow > 1.0
    assert quick == 0.0


def test_a_call_in_line_is_not_sent_to_a_model_that_was_switched_off_meanwhile(
    fake: FakeChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is learned while a call waits for its turn still keeps it from leaving."""
    monkeypatch.setenv("SCILLM_CHUTES_QPS", "2")
    fake.models["elm/Elm-8B"].state = "disabled"

    async def herd() -> list[str]:
        router = scillm.Router()
        found: list[str] = []

        async def call() -> None:
            try:
                await router.acompletion("chutes/elm/Elm-8B", HELLO)
            except ScillmError as error:
                found.append(type(error).__name__)

        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(call)
        await router.aclose()
        return found

    found = anyio.run(herd)

    # Three leave at once, as the pace allows; the other three stay at home.
    assert sorted(found) == [DisabledModelError.__name__] * 3 + [ModelFullError.__name__] * 3
    assert len(fake.chats) == 3


def test_streams_teach_the_pace_what_the_service_announces(
    fake: FakeChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream's head carries the limit as an answer's does, and allows a faster pace."""
    monkeypatch.setenv("SCILLM_CHUTES_QPS", "15")
    fake.account.limit_per_min = fake.account.burst = 6000.0
    desk = Desk()
    router = auto_router_from_env(desk=desk)
    for _ in range(PROOF):
        list(router.completion(router.group, HELLO, stream=True))
    gate = desk.gate(site_of(fake.api_base), fake.key, PaceRules())

    assert gate.per_s == pytest.approx(16.5)


def test_a_banned_account_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one key pauses for a minute and the other's models are full for a moment, a call that
    may retry waits for the moment, not for the minute."""
    accounts = [FakeAccount(), FakeAccount()]
    with FakeChutes([FakeModel(id="a/A-1B")], accounts=accounts) as fake:
        monkeypatch.setenv("SCILLM_CHUTES_QPS", "1000")
        for number, account in enumerate(accounts, 1):
            monkeypatch.setenv(f"CHUTES_API_BASE_{number}", fake.api_base)
            monkeypatch.setenv(f"CHUTES_API_KEY_{number}", account.key)
        accounts[0].ban(time.time())
        fake.models["a/A-1B"].concurrency = 0

        async def call() -> Any:
            router = await aauto_router_from_env(
                retry_enabled=True, retry_time_budget_s=30, retry_base_s=0.5
            )
            async with anyio.create_task_group() as group:
                group.start_soon(heal)
                answer = await router.acompletion(router.group, HELLO)
            await router.aclose()
            return answer

        async def heal() -> None:
            while len(fake.chats) < 2:  # noqa: ASYNC110 - it happens in a thread of the fake
                await anyio.sleep(0.01)
            fake.models["a/A-1B"].concurrency = 8

        answer = anyio.run(call)

    assert answer.text
    assert accounts[0].calls_in_ban == 1


def test_calls_take_the_shorter_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two keys each call takes the one with fewer calls in the air, so none waits in vain."""
    accounts = [FakeAccount(), FakeAccount()]
    with FakeChutes([FakeModel(id="a/A-1B", latency_s=0.5)], accounts=accounts) as fake:
        monkeypatch.setenv("SCILLM_CHUTES_QPS", "20")
        for number, account in enumerate(accounts, 1):
            monkeypatch.setenv(f"CHUTES_API_BASE_{number}", fake.api_base)
            monkeypatch.setenv(f"CHUTES_API_KEY_{number}", account.key)

        async def herd() -> None:
            router = await aauto_router_from_env()
            async with anyio.create_task_group() as group:
                for _ in range(8):
                    group.start_soon(router.acompletion, router.group, HELLO)
            await router.aclose()

        anyio.run(herd)

    assert [account.calls for account in accounts] == [4, 4]


def test_a_paused_key_refuses_at_once_however_patient_the_call_is(clock: Clock) -> None:
    """A call that would wait for hours is told of the pause instead, also when it begins later."""
    gate = clock.desk().gate(site_of("https://llm.chutes.ai/v1"), "cpk_x", PaceRules(burst=1.0))

    async def ask() -> list[str]:
        found = []
        await gate.turn(max_wait_s=0.0)
        with anyio.fail_after(10.0):
            async with anyio.create_task_group() as group:

                async def waiting() -> None:
                    try:
                        await gate.turn(max_wait_s=86_400.0)
                    except KeyPausedError as error:
                        found.append(error.message)

                group.start_soon(waiting)
                await anyio.sleep(0.01)
                gate.limited(started_at=0.5, why="the edge limits the key")
                group.start_soon(waiting)
        return found

    clock.now = 1.0
    told = anyio.run(ask)

    assert (
        told
        == ["This Chutes key pauses for another 66 s: the edge limits the key. Nothing was sent."]
        * 2
    )
