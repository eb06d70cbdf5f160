"""Sessions: what each run was worth, and whether there is still progress."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm import Router
from scillm.errors import StoredRunError, UsageError
from scillm_codeworld.record.kept import sessions_at
from scillm_codeworld.record.plateau import BEFORE, GAIN, signals, value_of
from scillm_codeworld.record.sessions import NAME, Sessions, session_id
from scillm_codeworld.record.sessions_redis import RedisSessions
from support.redis_server import redis_server

RIGHT = "def solve(x): return x * x"


@given(st.lists(st.floats(0, 1), max_size=12))
def test_a_plateau_is_no_gain_over_the_mean_of_the_last_five(values):
    """Nothing is called a plateau while there is nothing to compare with."""
    found = signals(values)
    before = values[:-1][-BEFORE:]

    assert found["runs"] == len(values)
    if not before:
        assert found["plateau"] is None
    else:
        assert found["plateau"] == (values[-1] - sum(before) / len(before) < GAIN)


def test_a_run_is_worth_the_mean_of_its_items_best():
    """By hand: (0.9 + 0) / 2, whatever the losers have."""
    results = [
        {"variants": [{"aggregate": 0.9}, {"aggregate": 0.2}, {"aggregate": None}]},
        {"variants": []},
    ]

    assert value_of(results) == 0.45
    assert value_of([]) is None


def test_sessions_and_tracks_are_kept_apart(tmp_path):
    """Each track has its own history, which outlives the object."""
    path = tmp_path / "deep" / "sessions.sqlite"
    for value in (0.5, 0.7):
        Sessions(path).note("a", "x", run_id="r", value=value, at="now")
    other = Sessions(path).note("a", "y", run_id="r", value=0.1, at="now")
    again = Sessions(path).note("a", "x", run_id="r", value=0.6, at="now")

    assert (other["runs"], other["plateau"]) == (1, None)
    assert (again["runs"], again["current"]) == (3, 0.6)
    assert again["previous_mean"] == pytest.approx(0.6)
    assert again["plateau"] is True


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    """A Redis of its own, with nothing in it."""
    with redis_server(tmp_path_factory.mktemp("redis")) as served:
        yield f"{served}/0"


def test_sessions_in_redis_say_the_same_as_in_a_file(redis_url, tmp_path):
    """Several machines see one history; tracks and look-alike names are kept apart."""
    values = (0.5, 0.7, 0.6, 0.9)
    kept, file = RedisSessions(redis_url), Sessions(tmp_path / "s.sqlite")
    of_redis, of_file = {}, {}
    for value in values:
        of_redis = RedisSessions(redis_url).note("a", "x", run_id="r", value=value, at="now")
        of_file = file.note("a", "x", run_id="r", value=value, at="now")
    other = kept.note('a", "x', "", run_id="r", value=0.1, at="now")

    assert of_redis == of_file
    assert (of_redis["runs"], other["runs"]) == (4, 1)


def test_a_redis_that_is_away_is_named_without_its_password(tmp_path):
    """The message says what to check, and shows no secret."""
    place = "redis://:s3cret@127.0.0.1:1/0"

    with pytest.raises(StoredRunError, match="SCILLM_CODEWORLD_SESSIONS") as caught:
        sessions_at(place, tmp_path).note("a", "", run_id="r", value=1.0, at="now")

    assert "s3cret" not in str(caught.value)


def test_sessions_are_kept_where_it_is_said(tmp_path):
    """A file by its path; without a word in the folder of the runs."""
    named, usual = sessions_at(str(tmp_path / "mine"), tmp_path), sessions_at(None, tmp_path)

    assert isinstance(named, Sessions)
    assert isinstance(usual, Sessions)
    assert (named.path, usual.path) == (tmp_path / "mine", tmp_path / NAME)


def test_processes_may_write_at_once(tmp_path):
    """No run is lost when several end together."""
    path = tmp_path / "s.sqlite"
    code = (
        "import sys\nfrom scillm_codeworld.record.sessions import Sessions\n"
        "for n in range(10):\n"
        "    Sessions(sys.argv[1]).note('a', '', run_id=str(n), value=0.5, at='now')\n"
    )
    working = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(3)]

    assert [process.wait(timeout=60) for process in working] == [0, 0, 0]
    assert Sessions(path).note("a", "", run_id="last", value=0.5, at="now")["runs"] == 31


def test_a_file_that_is_no_database_is_named(tmp_path):
    """The message says which file and what is wrong with it."""
    path = tmp_path / "s.sqlite"
    path.write_text("not a database, but long enough to be looked at as one " * 20)

    with pytest.raises(StoredRunError, match=r"s\.sqlite cannot be kept"):
        Sessions(path).note("a", "", run_id="r", value=0.5, at="now")


@pytest.mark.parametrize("given_id", ["", " ", 7, "x" * 201])
def test_a_session_needs_a_name(given_id):
    """Nothing else is taken for one."""
    with pytest.raises(UsageError, match="session_id must be"):
        session_id(given_id, name="session_id")


def test_completion_tells_how_its_session_stands(tmp_path, monkeypatch):
    """Two runs of one session: the second hears of the first; the manifest names both ids."""
    monkeypatch.setenv("SCILLM_RUNS_DIR", str(tmp_path))
    item = {"task": "t", "context": {"code_variants": {"a": RIGHT}, "input": 2, "expected": 4}}
    with Router() as router:
        answers = [
            router.completion(
                model="codeworld/ucb", items=[item], repeats=0, session_id="s", track_id="t"
            )
            for _ in range(2)
        ]

    told = [answer.additional_kwargs["codeworld"] for answer in answers]
    assert [row["signals"]["runs"] for row in told] == [1, 2]
    assert told[1]["signals"]["plateau"] is True
    manifest = told[1]["run_manifest"]
    assert manifest["schema"] == "canonical+codeworld@v1"
    assert (manifest["options"]["session_id"], manifest["options"]["track_id"]) == ("s", "t")
    assert manifest["strategy_name"] == "ucb"
    assert set(manifest["strategy_params"]) == {"rollouts", "depth", "uct_c"}
    stats = manifest["mcts_stats"]
    assert stats["best_variant"] == "a"
    assert (stats["visits"], stats["rollouts"], stats["explored"]) == (1, 1, 1)
    assert {"ts", "run_id", "task_ids", "item_ids", "tools"} <= set(manifest)
