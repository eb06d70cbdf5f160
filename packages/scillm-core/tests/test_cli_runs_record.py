"""`scillm runs verify`, `rerun`, `resume`, `export`: from a shell, with a recording engine."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from scillm.records import Job
from scillm.runs.record import FolderRecord
from scillm.runs.store import RunStore
from support.scillm_process import Installation

if TYPE_CHECKING:
    from pathlib import Path

# Doubles numbers, one answer each. With the file `drifted` beside it, 2 gives 5.
ENGINE = """
import pathlib

from scillm.records import JobResult
from scillm.runs.manifest import finding

DRIFTED = pathlib.Path(__file__).with_name("drifted")
EXECUTED = pathlib.Path(__file__).with_name("executed")


class Engine:
    def __init__(self, endpoint, host):
        pass

    async def complete(self, request):
        raise NotImplementedError

    async def run(self, job):
        raise NotImplementedError

    async def run_recorded(self, job, record):
        record.commit({"kind": "run", "seed": job.seed})
        values = []
        for item in job.items:
            key = str(item["n"])
            value = record.known(key)
            if value is None:
                with EXECUTED.open("a") as file:
                    file.write(key)
                value = 5 if DRIFTED.exists() and item["n"] == 2 else 2 * item["n"]
                record.keep(key, value)
            record.commit({"kind": "double", "n": item["n"], "value": value})
            values.append(value)
        return JobResult(
            summary={"doubled": len(values)},
            results=[{"value": value} for value in values],
            findings=[finding(f"double/{n}", value) for n, value in enumerate(values)],
        )
"""


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    installed = Installation(tmp_path)
    installed.add(
        "scillm-doubles",
        points={"scillm.providers": {"doubles": "doubles_module:Engine"}},
        modules={"doubles_module": ENGINE},
    )
    return installed


def begin(here: Installation, run_id: str = "one") -> None:
    job = Job(engine="doubles", items=[{"n": 1}, {"n": 2}], seed=7)
    RunStore(here.runs).begin(run_id, job, created="2026-01-02T03:04:05+00:00")


def executed(here: Installation) -> str:
    path = here.folder / "scillm-doubles" / "executed"
    return path.read_text() if path.exists() else ""


def kept(here: Installation) -> None:
    begin(here)
    assert here.run("runs", "resume", "one").code == 0


def test_an_interrupted_run_is_listed_with_the_line_that_goes_on(here: Installation) -> None:
    """It is marked as unfinished, in text and in JSON, and that is no failure."""
    begin(here)

    plain, as_json = here.run("runs", "list"), here.run("runs", "list", "--json")

    assert "unfinished: scillm runs resume one" in plain.out
    assert json.loads(as_json.out)[0]["unfinished"] is True
    assert (plain.code, as_json.code) == (0, 0)


def test_a_run_under_way_is_listed_as_running(here: Installation) -> None:
    """While a process writes it there is nothing to resume, and trying says who has it."""
    begin(here)
    with FolderRecord(here.runs / "one"):
        listed, plain = here.run("runs", "list", "--json"), here.run("runs", "list")
        tried = here.run("runs", "resume", "one")

    assert json.loads(listed.out)[0]["running_pid"] == os.getpid()
    assert f"running in process {os.getpid()}" in plain.out
    assert tried.code != 0
    assert f"is being written by process {os.getpid()}" in tried.err


def test_resume_finishes_the_run(here: Installation) -> None:
    """Afterwards it is a run like any other; a second time there is nothing to resume."""
    begin(here)

    done, again = here.run("runs", "resume", "on", "--json"), here.run("runs", "resume", "one")
    listed = json.loads(here.run("runs", "list", "--json").out)

    assert json.loads(done.out)["summary"] == {"doubled": 2}
    assert ([row["id"] for row in listed], "unfinished" in listed[0]) == (["one"], False)
    assert again.code == 2
    assert "No unfinished run is called 'one'" in again.err


def test_verify_says_sound_and_executes_nothing(here: Installation) -> None:
    """Exit code 0, the head of the record, and the engine's work was not done again."""
    kept(here)
    before = executed(here)

    plain, as_json = here.run("runs", "verify", "o"), here.run("runs", "verify", "one", "--json")

    head = RunStore(here.runs).load("one").record["head"]
    assert (plain.code, as_json.code) == (0, 0), plain.err
    assert "one is sound: 3 rows" in plain.out
    assert head in plain.out
    assert json.loads(as_json.out)["sound"] is True
    assert executed(here) == before == "12"


def test_verify_says_what_does_not_follow(here: Installation) -> None:
    """A manifest that was improved by hand: exit code 1, and the reason."""
    kept(here)
    path = here.runs / "one" / "manifest.json"
    document = json.loads(path.read_text())
    document["results"][0]["value"] = 99
    path.write_text(json.dumps(document))

    done = here.run("runs", "verify", "one")

    assert done.code == 1
    assert "The results of the manifest do not follow from the record." in done.out


def test_a_changed_journal_is_named_with_its_line(here: Installation) -> None:
    """A row that was edited is damage, told as such and without a traceback."""
    kept(here)
    path = here.runs / "one" / "record.jsonl"
    path.write_text(path.read_text().replace('"value":4', '"value":5'))

    done = here.run("runs", "verify", "one")

    assert done.code != 0
    assert "Line 3 of" in done.err
    assert "Traceback" not in done.err


def test_rerun_compares_rows_and_findings(here: Installation) -> None:
    """The same: 0. Another answer: 1, with the finding and the row, then → now."""
    kept(here)

    same = here.run("runs", "rerun", "one")
    (here.folder / "scillm-doubles" / "drifted").touch()
    other, as_json = here.run("runs", "rerun", "one"), here.run("runs", "rerun", "one", "--json")

    assert (same.code, other.code, as_json.code) == (0, 1, 1), same.err
    assert "2 of 2 findings are the same, so is every row of the record." in same.out
    assert "value: 4 → 5" in other.out
    assert "1 of 2 findings are the same, but not every row of the record." in other.out
    assert [row["row"] for row in json.loads(as_json.out)["differing"]] == [3]


def test_an_exported_run_is_verified_from_its_file(here: Installation) -> None:
    """One file holds all that is needed, wherever it is taken."""
    kept(here)
    target = here.folder / "run.zip"

    done = here.run("runs", "export", "one", "-o", str(target))
    twice = here.run("runs", "export", "one", "-o", str(target))
    (here.runs / "one").rename(here.folder / "away")
    found = here.run("runs", "verify", str(target))

    assert (done.code, found.code) == (0, 0), done.err + found.err
    assert "is sound" in found.out
    assert twice.code != 0
    assert "exists already" in twice.err


def test_a_run_without_a_record_is_not_verified(here: Installation) -> None:
    """Nothing is called sound for want of anything to check."""
    kept(here)
    (here.runs / "one" / "record.jsonl").unlink()

    done = here.run("runs", "verify", "one")

    assert done.code != 0
    assert "has no record.jsonl" in done.err
