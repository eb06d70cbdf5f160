"""Records: resumed at any byte, verified without running, compared when run again, exported."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scillm.errors import ScillmError, StoredRunError
from scillm.records import Job, JobResult, evolve
from scillm.runs import recorded
from scillm.runs.blobs import Blobs
from scillm.runs.canonical import digest
from scillm.runs.export import export, unpack
from scillm.runs.manifest import finding
from scillm.runs.record import (
    BLOBS,
    MEASURED,
    OUTSIDE,
    ROWS,
    FolderRecord,
    MemoryRecord,
    RecordDiffersError,
)
from scillm.runs.store import RunStore

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
ROW = st.dictionaries(st.text(max_size=4), JSON, max_size=3)


class Stop(Exception):
    """Stands for a kill: the engine is gone in the middle of its work."""


class Squares:
    """An engine that squares numbers, and keeps a record. `stop_after` answers it is gone."""

    def __init__(self, *, stop_after=None, drift=0):
        self.executed = 0
        self.stop_after = stop_after
        self.drift = drift

    async def run(self, job, /):
        return await self.run_recorded(job, MemoryRecord())

    async def run_recorded(self, job, record, /):
        record.commit({"kind": "run", "seed": job.seed})
        found = []
        for number, item in enumerate(job.items):
            answer = record.known(f"{number}")
            if answer is None:
                if record.sealed:
                    raise RecordDiffersError(f"no answer to {number}")
                if self.executed == self.stop_after:
                    raise Stop
                self.executed += 1
                answer = {"value": record.put(item["n"] ** 2 + self.drift), "wall_s": 0.25}
                record.keep(f"{number}", answer)
            record.commit({"kind": "square", "number": number, "value": answer["value"]})
            found.append((record.get(answer["value"]), answer["wall_s"]))
        return JobResult(
            summary={"items": len(found)},
            results=[{"value": value, "wall_s": wall_s} for value, wall_s in found],
            findings=[finding(f"square-{n}", value) for n, (value, _) in enumerate(found)],
        )


class Plain:
    """An engine without a record."""

    async def run(self, job, /):
        return JobResult(summary={}, results=[], findings=[finding("a", 1)])


JOB = Job(engine="squares", items=[{"n": n} for n in range(5)], seed=3)


def kept(tmp_path, engine=None, job=JOB):
    """A store with one recorded run, and that run's manifest and folder."""
    store = RunStore(tmp_path / "runs")
    manifest = anyio.run(recorded.keep_job, engine or Squares(), job, store)
    return store, manifest, store.folder(manifest.run_id)


@given(st.lists(ROW, max_size=5))
def test_a_record_in_memory_and_one_in_a_folder_have_the_same_head(tmp_path_factory, rows):
    """The hash is of the rows alone: not of the place, the time, or what was measured."""
    folder = tmp_path_factory.mktemp("record")
    memory = MemoryRecord()
    with FolderRecord(folder) as written:
        written.keep("some", {"wall_s": 0.5})
        for row in rows:
            memory.commit(row)
            written.commit(row)

    assert memory.head == written.head
    with FolderRecord(folder, sealed=True) as read:
        for row in rows:
            read.commit(row)
        assert (read.head, read.count, read.stored) == (memory.head, len(rows), len(rows))


@given(JSON)
def test_a_value_kept_by_content_comes_back_equal(tmp_path_factory, value):
    """Whatever the value: under its digest, in a folder and in memory."""
    blobs = Blobs(tmp_path_factory.mktemp("blobs"))
    name = blobs.put(value)

    assert name == digest(value) == blobs.put(value)
    assert blobs.get(name) == value


def test_a_value_that_was_changed_or_lost_is_not_read(tmp_path):
    """A stored answer is proved by its digest each time."""
    blobs = Blobs(tmp_path)
    name = blobs.put([1, 2])
    path = blobs.path(name)

    for text, said in (("[1, 3]", "digest is wrong"), ("[1", "was changed")):
        path.write_text(text)
        with pytest.raises(StoredRunError, match=said):
            blobs.get(name)
    path.unlink()
    with pytest.raises(StoredRunError, match="is missing"):
        blobs.get(name)
    with pytest.raises(StoredRunError, match="is not the digest"):
        blobs.get("../../etc/passwd")


def test_a_recorded_run_is_in_the_manifest_with_its_head(tmp_path):
    """The manifest says how many rows there are and how the last one hashes."""
    store, manifest, folder = kept(tmp_path)

    assert manifest.record["rows"] == 6
    assert store.load(manifest.run_id).record == manifest.record
    assert (
        json.loads((folder / ROWS).read_text().splitlines()[-1])["hash"]
        == (manifest.record["head"])
    )
    assert store.unfinished() == []


@pytest.mark.parametrize("done", range(5))
def test_an_interrupted_run_is_resumed_without_repeating_anything(tmp_path, done):
    """Wherever it stopped: the rest is done, and the record is that of a run without a stop."""
    store, whole, _ = kept(tmp_path / "whole")
    store = RunStore(tmp_path / "runs")
    with pytest.raises(Stop):
        anyio.run(recorded.keep_job, Squares(stop_after=done), JOB, store)
    (run_id,) = store.unfinished()
    engine = Squares()

    manifest = anyio.run(recorded.resume, engine, store.begun(run_id), store)

    assert engine.executed == len(JOB.items) - done
    assert manifest.record == whole.record
    assert (store.ids(), store.unfinished()) == ([run_id], [])


def test_a_record_cut_off_at_any_byte_is_resumed(tmp_path):
    """A torn line of either file is cut off, and the work goes on from there."""
    _, whole, folder = kept(tmp_path)
    job = (folder / "job.json").read_text()
    for name in (ROWS, MEASURED):
        text = (folder / name).read_bytes()
        for size in range(0, len(text), 97):
            store = RunStore(tmp_path / f"{name}-{size}")
            again = store.root / whole.run_id
            again.mkdir(parents=True)
            (again / "job.json").write_text(job)
            shutil.copytree(folder / "blobs", again / "blobs")
            (again / name).write_bytes(text[:size])

            manifest = anyio.run(recorded.resume, Squares(), store.begun(whole.run_id), store)

            assert manifest.record == whole.record


def test_a_run_refused_at_the_start_leaves_nothing(tmp_path):
    """What never began is not listed as unfinished."""

    class Refusing(Squares):
        async def run_recorded(self, job, record, /):
            raise StoredRunError("no")

    store = RunStore(tmp_path / "runs")
    with pytest.raises(StoredRunError, match="no"):
        anyio.run(recorded.keep_job, Refusing(), JOB, store)

    assert (store.ids(), store.unfinished(), list(store.root.iterdir())) == ([], [], [])


def test_verifying_executes_nothing_and_finds_a_sound_run_sound(tmp_path):
    """The walk is done from stored answers alone."""
    _, manifest, folder = kept(tmp_path)
    engine = Squares(stop_after=0)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    found = anyio.run(recorded.verify, engine, manifest, folder)

    assert (found.problems, found.rows, engine.executed) == ([], 6, 0)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_verifying_finds_results_that_do_not_follow(tmp_path):
    """A manifest whose results or findings were improved by hand is found out."""
    _, manifest, folder = kept(tmp_path)
    better = evolve(manifest, results=[{"value": 99, "wall_s": 0.1}, *manifest.results[1:]])
    other = evolve(manifest, findings=[finding("square-0", 7), *manifest.findings[1:]])
    longer = evolve(manifest, record={"rows": 7, "head": manifest.record["head"]})

    for changed, said in (
        (better, "results of the manifest do not follow"),
        (other, "square-0 is different"),
        (longer, "the manifest says row 7"),
    ):
        found = anyio.run(recorded.verify, Squares(), changed, folder)
        assert [said in problem for problem in found.problems] == [True]


def test_verifying_finds_a_record_with_rows_missing(tmp_path):
    """Rows cut off at the end cannot be seen in the file; the manifest's head shows them."""
    _, manifest, folder = kept(tmp_path)
    rows = (folder / ROWS).read_bytes().splitlines(keepends=True)
    (folder / ROWS).write_bytes(b"".join(rows[:-1]))

    found = anyio.run(recorded.verify, Squares(), manifest, folder)

    assert len(found.problems) == 1
    assert "ends after 5 rows" in found.problems[0]


@settings(max_examples=60)
@given(data=st.data())
def test_verifying_sees_any_changed_byte_of_any_file(tmp_path_factory, data):
    """Journals, values, manifest and job: whichever byte is changed, or wherever a file is cut."""
    _, manifest, folder = kept(tmp_path_factory.mktemp("run"))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    raw = path.read_bytes()
    # The newline that ends a JSON document carries nothing; that of a journal's row does.
    most = len(raw) - (2 if path.suffix == ".json" else 1)
    place = data.draw(st.integers(0, most))
    changed = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[place]))
    path.write_bytes(
        data.draw(st.sampled_from([raw[:place] + bytes([changed]) + raw[place + 1 :], raw[:place]]))
    )
    store = RunStore(folder.parent)
    try:
        problems = anyio.run(
            lambda: recorded.verify(Squares(), store.load(manifest.run_id), folder)
        ).problems
    except ScillmError as error:
        problems = [str(error)]

    assert problems


def test_verifying_reads_values_that_the_walk_does_not(tmp_path):
    """What a run keeps beside its answers (code, say) is checked as well."""
    _, manifest, folder = kept(tmp_path)
    blobs = Blobs(folder / BLOBS)
    path = blobs.path(blobs.put("def solve(x): return x"))
    path.write_text('"def solve(x): return y"')

    found = anyio.run(recorded.verify, Squares(), manifest, folder)

    assert len(found.problems) == 1
    assert f"{path} was changed" in found.problems[0]


def test_verifying_sees_a_fact_that_was_changed(tmp_path):
    """Also what no walk can show, such as the machine a run was made on."""
    store, manifest, folder = kept(tmp_path)
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    document["environment"]["python"] = "3.4.0"
    path.write_text(json.dumps(document))

    found = anyio.run(recorded.verify, Squares(), store.load(manifest.run_id), folder)

    assert [f"{path} was changed after" in problem for problem in found.problems] == [True]


def test_verifying_wants_the_digest_of_the_manifest(tmp_path):
    """A manifest from which the digest was taken away is not called whole."""
    store, manifest, folder = kept(tmp_path)
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    del document["digest"]
    path.write_text(json.dumps(document))

    found = anyio.run(recorded.verify, Squares(), store.load(manifest.run_id), folder)

    assert [f"{path} has no digest" in problem for problem in found.problems] == [True]


def test_verifying_misses_a_file(tmp_path):
    """A run without the job it began with is not whole."""
    _, manifest, folder = kept(tmp_path)
    (folder / "job.json").unlink()

    with pytest.raises(StoredRunError, match=r"job\.json is missing"):
        anyio.run(recorded.verify, Squares(), manifest, folder)


def test_verifying_needs_a_record(tmp_path):
    """A run kept without one is not called sound."""
    store = RunStore(tmp_path / "runs")
    manifest = anyio.run(recorded.keep_job, Plain(), evolve(JOB, engine="plain"), store)

    with pytest.raises(StoredRunError, match="keeps no record"):
        anyio.run(recorded.verify, Plain(), manifest, store.folder(manifest.run_id))
    with pytest.raises(StoredRunError, match=r"has no record\.jsonl"):
        anyio.run(recorded.verify, Squares(), manifest, store.folder(manifest.run_id))


def test_a_rerun_compares_every_row_and_says_which_differ(tmp_path):
    """The same engine gives the same record; another one is shown then and now, row by row."""
    _, manifest, folder = kept(tmp_path)

    same = anyio.run(recorded.rerun, Squares(), manifest, folder)
    other = anyio.run(recorded.rerun, Squares(drift=1), manifest, folder)

    assert (same.same, same.record_same, same.differing, same.packages) == (True, True, [], {})
    assert (other.same, other.record_same) == (False, False)
    assert [row["row"] for row in other.differing] == [2, 3, 4, 5, 6]
    assert other.differing[0]["then"]["value"] == digest(0)
    assert other.differing[0]["now"]["value"] == digest(1)


def test_a_rerun_lists_packages_that_changed(tmp_path):
    """What was installed then and is not now, or in another version, is named."""
    _, manifest, folder = kept(tmp_path)
    path = folder / MEASURED
    path.unlink()
    (folder / ROWS).replace(folder / "rows")
    with FolderRecord(folder) as record:
        record.keep(recorded.PACKAGES, {**recorded.installed(), "attrs": "1.0", "gone": "2.0"})
    (folder / "rows").replace(folder / ROWS)

    found = anyio.run(recorded.rerun, Squares(), manifest, folder)

    assert set(found.packages) == {"attrs", "gone"}
    assert found.packages["gone"] == ["2.0", None]


def test_an_exported_run_is_one_file_and_verifies_elsewhere(tmp_path):
    """Made twice it is the same to the byte; unpacked it is the same run."""
    _, manifest, folder = kept(tmp_path)
    files = [tmp_path / "a.zip", tmp_path / "b.zip"]
    for path in files:
        export(folder, path)
    elsewhere = RunStore(tmp_path / "elsewhere")

    run_id = unpack(files[0], elsewhere.root)
    found = anyio.run(recorded.verify, Squares(), elsewhere.load(run_id), elsewhere.folder(run_id))

    assert files[0].read_bytes() == files[1].read_bytes()
    assert (run_id, found.problems) == (manifest.run_id, [])
    with pytest.raises(StoredRunError, match="exists already"):
        export(folder, files[0])
    with pytest.raises(StoredRunError, match="is already in"):
        unpack(files[0], elsewhere.root)


@pytest.mark.parametrize("name", ["../out/manifest.json", "/etc/x", "a/../../b"])
def test_a_file_that_wants_to_write_elsewhere_is_not_unpacked(tmp_path, name):
    """An export from a stranger cannot leave its folder."""
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")

    with pytest.raises(StoredRunError, match="exactly one run"):
        unpack(path, tmp_path / "runs")

    assert not (tmp_path / "runs").exists()


def test_a_file_that_is_no_export_is_refused(tmp_path):
    """Not a zip, or not there."""
    (tmp_path / "a.zip").write_text("text")

    for name in ("a.zip", "absent.zip"):
        with pytest.raises(StoredRunError, match="not an exported run"):
            unpack(tmp_path / name, tmp_path / "runs")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file that cannot be read")
def test_an_export_that_fails_leaves_no_file(tmp_path):
    """A folder that is not there, or a file that cannot be read, is told; nothing is left."""
    _, _, folder = kept(tmp_path)
    (folder / "unreadable").symlink_to("/proc/self/mem")

    for target in (tmp_path / "none" / "a.zip", tmp_path / "a.zip"):
        with pytest.raises(StoredRunError, match=r"a\.zip cannot be written"):
            export(folder, target)

        assert not target.exists()


def test_a_damaged_export_is_refused(tmp_path):
    """Whichever byte was changed: refused, or unpacked to a run that verifying then finds wrong."""
    _, manifest, folder = kept(tmp_path)
    whole = tmp_path / "whole.zip"
    export(folder, whole)
    raw = whole.read_bytes()
    for place in range(0, len(raw), 41):
        path = tmp_path / f"{place}.zip"
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x55]) + raw[place + 1 :])
        store = RunStore(tmp_path / f"at-{place}")
        try:
            run_id = unpack(path, store.root)
            found = anyio.run(recorded.verify, Squares(), store.load(run_id), store.folder(run_id))
        except ScillmError:
            continue

        # Dates and attributes of the zip are not the run's.
        assert found.problems or (found.head == manifest.record["head"] and run_id == folder.name)


def test_an_answer_that_was_paid_for_is_kept_before_the_first_row(tmp_path):
    """A run killed after a model's first answer, but before its first row, can be resumed."""

    class Asks(Squares):
        async def run_recorded(self, job, record, /):
            if record.known(f"{OUTSIDE}model") is None:
                record.keep(f"{OUTSIDE}model", "an answer")
                raise Stop
            return await super().run_recorded(job, record)

    store = RunStore(tmp_path / "runs")
    with pytest.raises(Stop):
        anyio.run(recorded.keep_job, Asks(), JOB, store)
    (run_id,) = store.unfinished()

    manifest = anyio.run(recorded.resume, Asks(), store.begun(run_id), store)

    assert manifest.summary == {"items": 5}


def test_an_unfinished_run_is_found_by_the_start_of_its_id(tmp_path):
    """As with finished ones; a finished run cannot be resumed."""
    store, manifest, _ = kept(tmp_path)
    begun = store.begin("20990101-x", JOB, created="2099-01-01T00:00:00+00:00")

    assert store.begun("2099") == begun
    assert (begun.job, store.unfinished()) == (JOB, ["20990101-x"])
    with pytest.raises(StoredRunError, match="No unfinished run is called"):
        store.begun(manifest.run_id)
    with pytest.raises(StoredRunError, match="already"):
        store.begin("20990101-x", JOB, created="")


class Asking(Squares):
    """Squares what somebody outside says, and asks only where the record does not know."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    async def run_recorded(self, job, record, /):
        if record.known(f"{OUTSIDE}number") is None:
            self.calls += 1
            record.keep(f"{OUTSIDE}number", record.put("seven"))
        said = record.get(record.known(f"{OUTSIDE}number"))
        record.commit({"kind": "told", "said": said})
        return await super().run_recorded(job, record)


def test_a_rerun_takes_answers_from_outside_out_of_the_record(tmp_path):
    """A model is not asked again; everything else is done anew."""
    engine, again = Asking(), Asking()
    _, manifest, folder = kept(tmp_path, engine)

    found = anyio.run(recorded.rerun, again, manifest, folder)

    assert (engine.calls, again.calls) == (1, 0)
    assert found.same
