"""`scillm runs`: list the stored runs, show one, do one again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from scillm.records import Job, JobResult
from scillm.runs.manifest import finding, manifest_of
from scillm.runs.replay import host_environment
from scillm.runs.store import RunStore
from support.scillm_process import Installation

if TYPE_CHECKING:
    from pathlib import Path

# Squares numbers. With the file `drifted` beside it, 3 gives 10, 2 is gone and 99 has appeared.
ENGINE = """
import pathlib
import time

from scillm.events import ItemFinished
from scillm.records import JobResult
from scillm.runs.manifest import finding

DRIFTED = pathlib.Path(__file__).with_name("drifted")


class Engine:
    def __init__(self, endpoint, host):
        self.host = host

    async def complete(self, request):
        raise NotImplementedError

    async def run(self, job):
        print("noise of an engine")
        findings, results = [], []
        for number, item in enumerate(job.items, start=1):
            n = item["n"]
            square = 10 if DRIFTED.exists() and n == 3 else n * n
            if not (DRIFTED.exists() and n == 2):
                findings.append(finding(f"square/{n}", {"square": square, "status": "ok"}))
            results.append({"n": n, "wall_s": time.perf_counter()})
            self.host.emit(ItemFinished(
                engine="squares", item_id=str(n), done=number, total=len(job.items)))
        if DRIFTED.exists():
            findings.append(finding("square/99", {"square": 9801, "status": "ok"}))
        level = "drifted" if DRIFTED.exists() else "still"
        return JobResult(
            summary={}, results=results, findings=findings, environment={"level": level})
"""

CHATS_ONLY = """
class Engine:
    def __init__(self, endpoint, host):
        pass

    async def complete(self, request):
        raise NotImplementedError
"""


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def add_engine(here: Installation, source: str = ENGINE) -> None:
    here.add(
        "scillm-squares",
        points={"scillm.providers": {"squares": "squares_module:Engine"}},
        modules={"squares_module": source},
    )


def keep(here: Installation, run_id: str, *, numbers: tuple[int, ...] = (1, 2, 3)) -> None:
    job = Job(engine="squares", items=[{"n": n} for n in numbers], options={"width": 2}, seed=7)
    result = JobResult(
        summary={"squared": len(numbers)},
        results=[{"n": n, "wall_s": 0.5} for n in numbers],
        findings=[finding(f"square/{n}", {"square": n * n, "status": "ok"}) for n in numbers],
        environment={"level": "still"},
    )
    manifest = manifest_of(
        job,
        result,
        run_id=run_id,
        created="2026-01-02T03:04:05+00:00",
        environment=host_environment(),
    )
    RunStore(here.runs).save(manifest)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_an_empty_store_lists_nothing(here: Installation) -> None:
    """No runs is no failure: JSON is an empty list, text says where it looked."""
    as_json, plain = here.run("runs", "list", "--json"), here.run("runs", "list")

    assert (as_json.code, json.loads(as_json.out)) == (0, [])
    assert (plain.code, plain.out) == (0, "")
    assert str(here.runs) in plain.err


def test_list_shows_every_run_oldest_first(here: Installation) -> None:
    """Each run has its id, time, engine, number of items and summary."""
    keep(here, "20260102-b", numbers=(1, 2))
    keep(here, "20260101-a")

    rows = json.loads(here.run("runs", "list", "--json").out)
    lines = here.run("runs", "list").out.splitlines()

    assert [(row["id"], row["items"], row["summary"]) for row in rows] == [
        ("20260101-a", 3, {"squared": 3}),
        ("20260102-b", 2, {"squared": 2}),
    ]
    assert cells(lines[0]) == ["id", "created", "engine", "items", "summary"]
    assert cells(lines[1]) == [
        *("20260101-a", "2026-01-02T03:04:05+00:00", "squares", "3", "squared=3")
    ]


def test_a_damaged_run_does_not_hide_the_others(here: Installation) -> None:
    """A run that cannot be read is listed with the reason, and the exit code is 1."""
    keep(here, "good")
    keep(here, "bad")
    path = here.runs / "bad" / "manifest.json"
    path.write_text(path.read_text().replace('"square": 4', '"square": 5'))

    listed = here.run("runs", "list", "--json")
    shown = here.run("runs", "show", "bad")

    rows = {row["id"]: row for row in json.loads(listed.out)}
    assert listed.code == 1
    assert "square/2" in rows["bad"]["error"]
    assert rows["good"]["engine"] == "squares"
    assert shown.code == 2
    assert "changed after it was written" in shown.err


def test_a_run_whose_manifest_is_no_text_does_not_hide_the_others(here: Installation) -> None:
    """A byte that is no UTF-8 is damage like any other."""
    keep(here, "good")
    keep(here, "bad")
    path = here.runs / "bad" / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"squares", b"squ\xe1res"))

    listed = here.run("runs", "list", "--json")

    rows = {row["id"]: row for row in json.loads(listed.out)}
    assert listed.code == 1
    assert "was changed after it was written" in rows["bad"]["error"]
    assert rows["good"]["engine"] == "squares"


def test_show_tells_job_environment_and_findings(here: Installation) -> None:
    """`show` gives what was run, on what, and every finding; JSON is the whole manifest."""
    keep(here, "one")

    plain, as_json = here.run("runs", "show", "o"), here.run("runs", "show", "one", "--json")

    lines = [cells(line) for line in plain.out.splitlines()]
    assert ["engine", "squares"] in lines
    assert ["seed", "7"] in lines
    assert ["options", "width=2"] in lines
    assert ["on squares", "level=still"] in lines
    assert ["square/3", '{"square": 9, "status": "ok"}'] in lines
    assert json.loads(as_json.out) == RunStore(here.runs).load("one").to_dict()


@pytest.mark.parametrize("verb", ["show", "replay"])
def test_an_unknown_run_is_wrong_usage(here: Installation, verb: str) -> None:
    """An id that fits no run, or several, ends with 2 and says where to look."""
    keep(here, "one-a")
    keep(here, "one-b")

    none, several = here.run("runs", verb, "two"), here.run("runs", verb, "one")

    assert (none.code, several.code) == (2, 2)
    assert "scillm runs list" in none.err
    assert "2 runs start with 'one'" in several.err


def test_a_store_elsewhere_is_named_by_option(here: Installation) -> None:
    """--runs-dir reads another store."""
    keep(here, "one")
    elsewhere = here.folder / "elsewhere"
    here.runs.rename(elsewhere)

    done = here.run("runs", "list", "--json", "--runs-dir", str(elsewhere))

    assert [row["id"] for row in json.loads(done.out)] == ["one"]


def test_a_replay_that_comes_out_the_same_succeeds(here: Installation) -> None:
    """Every finding is listed as same, timings are said not to be compared, and the code is 0."""
    add_engine(here)
    keep(here, "one")

    done = here.run("runs", "replay", "one")

    lines = [cells(line) for line in done.out.splitlines()]
    assert done.code == 0
    assert [line for line in lines if line and line[0].startswith("square/")] == [
        ["square/1", "same"],
        ["square/2", "same"],
        ["square/3", "same"],
    ]
    assert "3 of 3 findings are the same." in done.out
    assert "Timings are not compared" in done.out
    assert done.err == "noise of an engine\n"


def test_a_replay_says_what_differs_missing_and_new(here: Installation) -> None:
    """Each finding that did not come out the same says how: then → now; the exit code is 1."""
    add_engine(here)
    keep(here, "one")
    (here.folder / "scillm-squares" / "drifted").touch()

    done = here.run("runs", "replay", "one")

    lines = [cells(line) for line in done.out.splitlines()]
    assert done.code == 1
    assert ["square/1", "same"] in lines
    assert ["square/2", "missing", '{"square": 4, "status": "ok"} → (absent)'] in lines
    assert ["square/3", "different", "square: 9 → 10"] in lines
    assert ["square/99", "new", '(absent) → {"square": 9801, "status": "ok"}'] in lines
    assert "1 of 4 findings are the same." in done.out


def test_a_replay_names_what_changed_about_the_machine(here: Installation) -> None:
    """Drift is told as fact, then → now, beside the findings and not as one of them."""
    add_engine(here)
    keep(here, "one")
    path = here.runs / "one" / "manifest.json"
    stored = json.loads(path.read_text())
    stored["environment"]["python"] = "3.4.0"
    stored["environment"]["squares"]["level"] = "deep"
    path.write_text(json.dumps(stored))

    plain, as_json = here.run("runs", "replay", "one"), here.run("runs", "replay", "one", "--json")

    assert "3.4.0 → " in plain.out
    assert ["squares.level", "deep → still"] in [cells(line) for line in plain.out.splitlines()]
    document = json.loads(as_json.out)
    assert document["drift"]["squares"] == [{"level": "deep"}, {"level": "still"}]
    assert (document["same"], as_json.code, plain.code) == (True, 0, 0)


def test_a_replay_as_json_has_every_finding(here: Installation) -> None:
    """JSON holds the verdict, and per finding the status and both values."""
    add_engine(here)
    keep(here, "one")
    (here.folder / "scillm-squares" / "drifted").touch()

    document = json.loads(here.run("runs", "replay", "one", "--json").out)

    statuses = {row["id"]: row["status"] for row in document["findings"]}
    assert document["same"] is False
    assert statuses == {
        "square/1": "same",
        "square/2": "missing",
        "square/3": "different",
        "square/99": "new",
    }
    assert document["findings"][2]["now"] == {"square": 10, "status": "ok"}
    assert "not compared" in document["note"]


def test_a_run_without_findings_is_not_called_the_same(here: Installation) -> None:
    """Where there is nothing to compare, a replay does not succeed."""
    add_engine(here)
    keep(here, "one", numbers=())

    done = here.run("runs", "replay", "one")

    assert done.code == 1
    assert "nothing to compare" in done.out


def test_a_replay_stores_nothing(here: Installation) -> None:
    """The store is the same after a replay."""
    add_engine(here)
    keep(here, "one")
    before = sorted(here.runs.rglob("*"))

    done = here.run("runs", "replay", "one")

    assert done.code == 0
    assert sorted(here.runs.rglob("*")) == before


def test_a_missing_engine_is_wrong_usage(here: Installation) -> None:
    """A run of an engine that is not installed cannot be replayed, and says so."""
    keep(here, "one")

    done = here.run("runs", "replay", "one")

    assert done.code == 2
    assert "No installed provider is called 'squares'" in done.err


def test_a_provider_that_is_no_engine_is_refused(here: Installation) -> None:
    """A provider of the engine's name that cannot run jobs is named as what it is."""
    add_engine(here, CHATS_ONLY)
    keep(here, "one")

    done = here.run("runs", "replay", "one")

    assert done.code == 1
    assert "has no method run" in done.err
    assert "Traceback" not in done.err
