"""Runs: kept whole, found again, replayed, and a changed record is noticed."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import StoredRunError
from scillm.records import Job, JobResult, evolve
from scillm.runs.canonical import canonical_json, digest
from scillm.runs.manifest import finding, manifest_of
from scillm.runs.replay import compare, record_job, replay
from scillm.runs.store import RunStore

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)  # fmt: skip


class Doubling:
    """An engine that doubles numbers, and adds `drift` to every result."""

    def __init__(self, drift=0):
        self.drift = drift

    async def run(self, job, /):
        values = [item["n"] * 2 + self.drift for item in job.items]
        return JobResult(
            summary={"items": len(values)},
            results=[{"value": value, "seconds": 0.1} for value in values],
            findings=[finding(f"item-{n}", value) for n, value in enumerate(values)],
            environment={"level": "none"},
        )


JOB = Job(engine="doubling", items=[{"n": 1}, {"n": 2}], seed=7)


def recorded(tmp_path, engine=None, job=JOB):
    store = RunStore(tmp_path / "runs")
    return store, anyio.run(record_job, engine or Doubling(), job, store)


def test_a_recorded_run_is_read_back_equal(tmp_path):
    """What is stored is what happened."""
    store, manifest = recorded(tmp_path)

    again = store.load(manifest.run_id)

    assert again.to_dict() == manifest.to_dict()
    assert store.ids() == [manifest.run_id]
    assert manifest.environment["doubling"] == {"level": "none"}
    assert not list(tmp_path.rglob("*.partial"))


def test_a_replay_says_finding_by_finding_whether_it_is_the_same(tmp_path):
    """Same engine, same findings; another result is shown then and now."""
    _, manifest = recorded(tmp_path)

    same = anyio.run(replay, Doubling(), manifest)
    drifted = anyio.run(replay, Doubling(drift=1), manifest)

    assert same.same
    assert not drifted.same
    assert [(row.status, row.then, row.now) for row in drifted.rows] == [
        ("different", 2, 3),
        ("different", 4, 5),
    ]
    assert same.drift == {}


def test_a_replay_with_nothing_to_compare_is_not_the_same():
    """An empty comparison proves nothing."""
    assert compare([], []) == []
    rows = compare([finding("a", 1)], [finding("b", 1)])
    assert [(row.id, row.status) for row in rows] == [("a", "missing"), ("b", "new")]


def test_an_id_can_be_shortened_while_it_is_unambiguous(tmp_path):
    """`scillm runs show 2026` works when one run starts so; otherwise the count is told."""
    store, first = recorded(tmp_path)
    store.save(evolve(first, run_id="20260101T000000-0000"))
    store.save(evolve(first, run_id="20260101T000000-00ff"))

    assert store.load(first.run_id[:-1]).run_id == first.run_id
    with pytest.raises(StoredRunError, match="2 runs start with"):
        store.load("20260101")
    with pytest.raises(StoredRunError, match="No run is called 'zzz'"):
        store.load("zzz")


@pytest.mark.parametrize("value", [math.nan, {1, 2}])
def test_a_run_that_is_no_json_leaves_nothing_behind(tmp_path, value):
    """A failed save is an error and not an empty folder."""
    _, manifest = recorded(tmp_path)
    store = RunStore(tmp_path / "other")

    with pytest.raises((ValueError, TypeError)):
        store.save(evolve(manifest, results=[{"value": value}]))

    assert store.ids() == []
    assert not store.root.exists()


def test_any_text_can_be_kept(tmp_path):
    """A lone surrogate in a program's output does not lose the run."""
    store, manifest = recorded(tmp_path)
    odd = evolve(manifest, run_id="odd", results=[{"text": "\udc80 ü"}])

    store.save(odd)

    assert store.load("odd").results == [{"text": "\udc80 ü"}]


def test_a_taken_id_is_never_overwritten(tmp_path):
    """A run that is kept stays as it is."""
    store, manifest = recorded(tmp_path)

    with pytest.raises(StoredRunError, match="already"):
        store.save(manifest)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["findings"][0].update(value=99), "wrong digest of item-0"),
        (lambda d: d.update(schema="other/9"), "has schema 'other/9'"),
        (lambda d: d.pop("job"), "is not a run manifest"),
        (lambda d: d["job"].update(surprise=1), "is not a run manifest"),
    ],
)
def test_a_changed_record_is_refused(tmp_path, change, said):
    """A manifest that was edited or is of another kind is not replayed."""
    store, manifest = recorded(tmp_path)
    path = store.root / manifest.run_id / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))

    with pytest.raises(StoredRunError, match=said):
        store.load(manifest.run_id)


def test_half_a_file_is_refused(tmp_path):
    """A torn manifest is named with its path."""
    store, manifest = recorded(tmp_path)
    path = store.root / manifest.run_id / "manifest.json"
    path.write_text(path.read_text()[:50])

    with pytest.raises(StoredRunError, match=r"manifest\.json is not a run manifest"):
        store.load(manifest.run_id)


def test_the_head_leaves_items_out_but_pins_them():
    """What is shown beside the results names the items by digest."""
    result = anyio.run(Doubling().run, JOB)
    manifest = manifest_of(JOB, result, run_id="r", created="now", environment={})

    head = manifest.head()

    assert head["job"]["digest"] == digest(list(JOB.items))
    assert "results" not in head


@given(JSON)
def test_canonical_text_is_stable_and_reads_back(value):
    """Equal values have equal texts, whatever the order of keys."""
    text = canonical_json(value)

    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


def test_values_that_are_no_json_have_no_digest():
    """NaN is refused instead of hashed as something."""
    with pytest.raises(ValueError, match="JSON"):
        digest([math.nan])


def test_new_ids_start_with_the_time(tmp_path):
    """Runs sort by time."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)

    assert RunStore(tmp_path).new_id(moment).startswith("20260102T030405-")
