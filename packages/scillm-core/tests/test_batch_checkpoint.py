"""`JsonlCheckpoint`: one answer per id in a plain file, whatever happened in between."""

from __future__ import annotations

import gc
import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.batch.checkpoint import JsonlCheckpoint
from scillm.batch.entries import (
    Failure,
    Index,
    failure_entry,
    failure_of,
    start_entry,
    text_id,
)
from scillm.batch.ledger import Ledger
from scillm.batch.view import View
from scillm.errors import RateLimitError, UsageError
from scillm.runs.chain import JournalError
from scillm.runs.journal import Journal


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def test_answers_are_kept_and_remembered(tmp_path: Path) -> None:
    """The call form of old: append rows, ask which ids are done, find the rows in the file."""
    path = tmp_path / "deep" / "results.jsonl"
    checkpoint = JsonlCheckpoint(path, id_key="id")
    checkpoint.append({"id": "a", "out": 1})
    checkpoint.append({"id": 7, "out": "ü"}, flush=False)

    assert checkpoint.processed_ids() == {"a", "7"}
    assert lines_of(path) == [{"id": "a", "out": 1}, {"id": 7, "out": "ü"}]
    assert checkpoint.summary_path == tmp_path / "deep" / "summary.json"
    assert not checkpoint.summary_path.exists()


def test_another_process_may_ask_what_is_done(tmp_path: Path) -> None:
    """Reading needs no lock: a second object sees what the first has written."""
    path = tmp_path / "results.jsonl"
    with JsonlCheckpoint(path) as first:
        first.append({"id": "a"})
        first.append_failure("b", RateLimitError("slow down", status_code=429))
        second = JsonlCheckpoint(path, summary_path=tmp_path / "s.json")

        assert second.processed_ids() == {"a"}
        assert [failure.id for failure in second.failures()] == ["b"]
        assert second.summary_path == tmp_path / "s.json"


def test_a_forgotten_checkpoint_is_free_again(tmp_path: Path) -> None:
    """The old call form has no close: an object nobody holds any more blocks nobody."""
    JsonlCheckpoint(tmp_path / "r").append({"id": "a"})
    gc.collect()

    JsonlCheckpoint(tmp_path / "r").append({"id": "b"})
    assert JsonlCheckpoint(tmp_path / "r").processed_ids() == {"a", "b"}


def test_an_id_has_one_answer(tmp_path: Path) -> None:
    """A second answer, or a failure after the answer, is refused, also after reopening."""
    path = tmp_path / "r.jsonl"
    for _ in range(2):
        with JsonlCheckpoint(path) as checkpoint:
            if not checkpoint.processed_ids():
                checkpoint.append({"id": 1, "out": "first"})
            with pytest.raises(UsageError, match="'1' is answered already"):
                checkpoint.append({"id": "1", "out": "second"})
            with pytest.raises(UsageError, match="answered already"):
                checkpoint.append_failure(1, ValueError("late"))

    assert lines_of(path) == [{"id": 1, "out": "first"}]


@pytest.mark.parametrize("row", [{}, {"id": None}, {"id": ""}, {"id": 1.5}, {"id": True}])
def test_a_row_without_an_id_is_refused(tmp_path: Path, row: dict[str, Any]) -> None:
    """What could not be found again is not taken."""
    with pytest.raises(UsageError, match="needs its id"):
        JsonlCheckpoint(tmp_path / "r").append(row)


def test_a_failure_gives_its_reason_until_there_is_an_answer(tmp_path: Path) -> None:
    """The last reason stands; an answer replaces it."""
    path = tmp_path / "r"
    with JsonlCheckpoint(path) as checkpoint:
        checkpoint.append_failure("a", ValueError("first"))
        checkpoint.append_failure("a", RateLimitError("then", status_code=429, body="{}"))
        checkpoint.append_failure("b", ValueError("no"))
        checkpoint.append({"id": "b"})
        open_now = checkpoint.failures()

    wanted = Failure(
        id="a", type="RateLimitError", message="then", retryable=True, status_code=429, body="{}"
    )
    assert open_now == [wanted] == JsonlCheckpoint(path).failures()
    assert lines_of(path) == [{"id": "b"}]
    assert JsonlCheckpoint(tmp_path / "none").failures() == []


@given(
    texts=st.lists(st.text(max_size=8), min_size=1, max_size=5),
    surrogate=st.booleans(),
    data=st.data(),
)
def test_a_results_file_cut_anywhere_is_completed(
    texts: list[str], surrogate: bool, data: st.DataObject
) -> None:
    """Whatever a crash took off the results file comes back from its journal, once."""
    rows = [{"id": n, "out": text + "\ud800" * surrogate} for n, text in enumerate(texts)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "r.jsonl"
        with JsonlCheckpoint(path) as checkpoint:
            for row in rows:
                checkpoint.append(row, flush=False)
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
        with JsonlCheckpoint(path) as checkpoint:
            checkpoint.append({"id": "more"})

        assert lines_of(path) == [*rows, {"id": "more"}]
        assert path.read_bytes().startswith(whole)


@pytest.mark.parametrize("changed", [b'{"id": "x"}\n', b'{"id": "a"}\n{"id": "b"}\n'])
def test_a_results_file_changed_by_hand_is_not_overwritten(tmp_path: Path, changed: bytes) -> None:
    """A line the journal does not know is somebody's work: it is refused by number, and stays."""
    path = tmp_path / "r"
    with JsonlCheckpoint(path) as checkpoint:
        checkpoint.append({"id": "a"})
    path.write_bytes(changed)

    with pytest.raises(UsageError, match="is not what was recorded"):
        JsonlCheckpoint(path).append({"id": "c"})
    assert path.read_bytes() == changed
    path.unlink()
    JsonlCheckpoint(path).append({"id": "c"})
    assert lines_of(path) == [{"id": "a"}, {"id": "c"}]


def test_a_file_of_the_earlier_scillm_is_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A results file without a journal counts; malformed lines are skipped, told and kept aside."""
    path = tmp_path / "r.jsonl"
    old = b'{"id":"a","out":1}\nnot json\n[1]\n{"id":2,"out":2}\n{"id":"a"}\n{"no":"id"}\n{"id":"c'
    path.write_bytes(old)
    before = JsonlCheckpoint(path).processed_ids()
    with caplog.at_level(logging.WARNING), JsonlCheckpoint(path) as checkpoint:
        checkpoint.append({"id": "d"})

    assert before == {"a", "2"}
    assert lines_of(path) == [{"id": "a", "out": 1}, {"id": 2, "out": 2}, {"id": "d"}]
    assert (tmp_path / "r.jsonl.before").read_bytes() == old
    assert "has 5 lines that are not JSON with an id" in caplog.text
    assert JsonlCheckpoint(path).processed_ids() == {"a", "2", "d"}


@pytest.mark.parametrize("text", ["my notes\n", '{"key": "a"}\n'])
def test_a_file_without_one_id_is_refused_untouched(tmp_path: Path, text: str) -> None:
    """Somebody's notes, or a wrong `id_key`, do not make a checkpoint that forgets everything."""
    path = tmp_path / "notes"
    path.write_text(text)

    with pytest.raises(UsageError, match="Name another file, or the right id_key"):
        JsonlCheckpoint(path).append({"id": "a"})
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_sound_earlier_file_is_taken_over_silently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without malformed lines there is nothing to tell and nothing to keep aside."""
    path = tmp_path / "r.jsonl"
    path.write_text('{"id":"a"}\n')
    with JsonlCheckpoint(path) as checkpoint:
        checkpoint.append({"id": "b"})

    assert lines_of(path) == [{"id": "a"}, {"id": "b"}]
    assert caplog.text == ""
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["r.jsonl", "r.jsonl.journal"]


def test_a_results_file_that_could_not_be_written_is_caught_up(tmp_path: Path) -> None:
    """An answer that reached the journal but not the results file follows with the next one."""
    path = tmp_path / "r"
    view = View(path, 0)
    with Ledger(tmp_path / "j", written=view.add) as ledger:
        path.rename(tmp_path / "away")
        with pytest.raises(JournalError, match="safe in its journal"):
            ledger.record([{"kind": "answer", "id": "a", "row": {"id": "a"}}])
        (tmp_path / "away").rename(path)
        ledger.record([{"kind": "answer", "id": "b", "row": {"id": "b"}}])

    assert lines_of(path) == [{"id": "a"}, {"id": "b"}]


def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    """A sound journal that is no batch's is not written to."""
    with Journal(tmp_path / "r.journal") as journal:
        journal.append({"kind": "trace"})
    before = (tmp_path / "r.journal").read_bytes()

    with pytest.raises(UsageError, match="not a batch's"):
        JsonlCheckpoint(tmp_path / "r").append({"id": "a"})
    assert (tmp_path / "r.journal").read_bytes() == before


def test_two_answers_for_one_id_at_once_are_refused(tmp_path: Path) -> None:
    """Not even entries that are written together can answer an id twice."""
    twice = [{"kind": "answer", "id": "a", "row": {"id": "a"}}] * 2
    with Ledger(tmp_path / "j") as ledger:
        with pytest.raises(ValueError, match="Two answers"):
            ledger.record(twice)

        assert ledger.index.answered == {}


@given(value=st.integers() | st.text(min_size=1))
def test_ids_are_texts(value: int | str) -> None:
    """1 and "1" are one id."""
    assert text_id(value) == str(value)


def test_the_start_of_a_run_is_noted() -> None:
    """What a caller says about a run can be read back."""
    index = Index()
    index.note(start_entry({"model": "m"}, at=1.0), 0)

    assert [start["about"] for start in index.starts] == [{"model": "m"}]


def test_a_failure_without_an_id_needs_its_place() -> None:
    """An item without an id is named by its index."""
    failure = failure_of(ValueError("x"), id=None, index=3)
    entry = failure_entry(failure, at=1.0, elapsed_s=0.0)

    assert (entry["id"], entry["index"], entry["type"]) == (None, 3, "ValueError")
