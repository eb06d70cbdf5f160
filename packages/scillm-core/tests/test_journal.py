"""The journal: whatever happens to the process or the file, it is whole up to a row, or says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm.runs.chain import (
    GENESIS,
    JournalDamagedError,
    JournalError,
    JournalLockedError,
    Place,
    decode,
    decode_alone,
    encode,
    is_torn,
)
from scillm.runs.journal import Journal, rows_at, scan
from scillm.runs.lock import writer_of

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(JSON, min_size=1, max_size=5)


def written(values: list[Any]) -> list[bytes]:
    place, lines = Place(), []
    for value in values:
        line, place = encode(value, place)
        lines.append(line)
    return lines


def read_back(path: Path) -> list[Any]:
    found: list[Any] = []
    scan(path, lambda row: found.append(row.data))
    return found


def file_with(folder: str, data: bytes) -> Path:
    path = Path(folder) / "j"
    path.write_bytes(data)
    return path


@given(values=ROWS)
def test_what_is_appended_is_read_back(values: list[Any]) -> None:
    """Any JSON comes back as it was, in order, by scan and by place."""
    with TemporaryDirectory() as folder, Journal(Path(folder) / "j") as journal:
        offsets = [journal.append(value).offset for value in values]

        assert read_back(journal.path) == values
        assert [row.data for row in rows_at(journal.path, reversed(offsets))] == values[::-1]


@given(values=ROWS, more=JSON, data=st.data())
def test_a_cut_at_any_byte_leaves_a_prefix(values: list[Any], more: Any, data: Any) -> None:
    """A journal cut anywhere opens as the whole rows before the cut, says how much it cut off,
    and goes on from there."""
    lines = written(values)
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    kept = sum(len(b"".join(lines[: n + 1])) <= cut for n in range(len(lines)))
    with TemporaryDirectory() as folder:
        path = file_with(folder, whole[:cut])
        with Journal(path) as journal:
            rows, cut_bytes = journal.rows, journal.cut_bytes
            journal.append(more)

        assert rows == kept
        assert cut_bytes == cut - len(b"".join(lines[:kept]))
        assert read_back(path) == [*values[:kept], more]


@given(values=ROWS, zeros=st.integers(1, 300))
def test_zeros_after_a_power_cut_are_cut_off(values: list[Any], zeros: int) -> None:
    """Bytes that a file system left as zeros are a torn row."""
    with TemporaryDirectory() as folder:
        path = file_with(folder, b"".join(written(values)) + b"\0" * zeros)
        with Journal(path) as journal:
            cut_bytes = journal.cut_bytes

        assert cut_bytes == zeros
        assert read_back(path) == values


@given(values=ROWS, data=st.data())
def test_any_changed_byte_is_seen(values: list[Any], data: Any) -> None:
    """Whichever byte is changed to whatever, reading raises with the number of its line; with a
    zero for its very last newline, as a power cut may leave it, a journal counts as torn."""
    lines = written(values)
    whole = bytearray(b"".join(lines))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
    line = sum(len(b"".join(lines[: n + 1])) <= place for n in range(len(lines))) + 1
    with TemporaryDirectory() as folder:
        path = file_with(folder, bytes(whole))
        if place == len(whole) - 1 and whole[place] == 0:
            extent = scan(path)
            assert (extent.rows, extent.torn_bytes) == (len(values) - 1, len(lines[-1]))
            return
        with pytest.raises(JournalDamagedError, match=f"^Line {line} of") as caught:
            scan(path)

        assert caught.value.line == line


@given(values=st.lists(JSON, min_size=3, max_size=6), data=st.data())
def test_missing_repeated_and_reordered_lines_are_named(values: list[Any], data: Any) -> None:
    """The first line that is not in its place is named by its number."""
    lines = written(values)
    at = data.draw(st.integers(0, len(lines) - 2))
    missing = lines[:at] + lines[at + 1 :]
    repeated = lines[: at + 1] + lines[at:]
    swapped = [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]
    with TemporaryDirectory() as folder:
        for changed, line in ((missing, at + 1), (repeated, at + 2), (swapped, at + 1)):
            path = file_with(folder, b"".join(changed))
            with pytest.raises(JournalDamagedError) as caught:
                Journal(path)

            assert caught.value.line == line
            assert path.read_bytes() == b"".join(changed)
            assert writer_of(path) is None


def test_a_line_of_another_journal_is_refused() -> None:
    """A sound line with the right number, but after another line, does not belong."""
    first, place = encode("a", Place())
    other, _ = encode("c", encode("b", Place())[1])

    assert decode(first, Place())[1] == place
    with pytest.raises(JournalDamagedError, match="does not follow"):
        decode(other, place)


def test_a_line_can_be_proved_alone() -> None:
    """One line read by its place is checked against its own hash."""
    line, _ = encode({"a": 1}, Place(rows=4, head=GENESIS))

    assert decode_alone(line, where="it")[0] == {"a": 1}
    with pytest.raises(JournalDamagedError, match="it is wrong"):
        decode_alone(line.replace(b"1", b"2", 1), where="it")


def test_a_torn_tail_is_told_from_somebody_elses_text() -> None:
    """Only what a crash of ours can have left is cut off."""
    line, _ = encode({"a": 1}, Place())

    assert all(is_torn(line[:end], Place()) for end in range(len(line)))
    assert not is_torn(b'{"id": "a"', Place())
    assert not is_torn(b"x", Place())
    assert not is_torn(line[:-1] + b"x", Place())
    assert is_torn(line[:-1] + b"\0", Place())


@pytest.mark.parametrize("text", ["a user's notes", '{"id": 1}\n', "\n", '{"id": 1}\n{"seq":1'])
def test_another_file_is_refused_untouched(tmp_path: Path, text: str) -> None:
    """A file that is no journal is neither repaired nor written."""
    path = tmp_path / "notes.txt"
    path.write_text(text)

    with pytest.raises(JournalDamagedError, match="Line 1 of"):
        Journal(path)
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_refused() -> None:
    """What is not an ordinary file would never end."""
    with pytest.raises(JournalError, match="ordinary file"):
        scan(Path("/dev/full"))


def nested(depth: int) -> Any:
    return [] if depth == 1 else [nested(depth - 1), [], {"a": 1}]


def test_what_could_not_be_read_again_is_not_written() -> None:
    """200 levels of nesting are kept, 201 are refused, however they are made."""
    deep, wide = nested(200), [[]] * 500

    for value in (deep, {"a": deep[0]}, wide):
        assert decode(encode(value, Place())[0], Place())[0] == value
    for value in ([deep], {"a": deep}, (deep,)):
        with pytest.raises(ValueError, match="nested deeper than 200"):
            encode(value, Place())


def test_a_link_to_a_journal_has_the_same_writer(tmp_path: Path) -> None:
    """The lock is that of the file, not of the name by which it was opened."""
    (tmp_path / "link").symlink_to(tmp_path / "j")
    with Journal(tmp_path / "j"):
        with pytest.raises(JournalLockedError):
            Journal(tmp_path / "link")

        assert writer_of(tmp_path / "link") == os.getpid()


@pytest.mark.parametrize("bad", [float("nan"), {1, 2}, b"x"])
def test_rows_are_added_all_or_none(tmp_path: Path, bad: Any) -> None:
    """When one of several values is not JSON, none is written, and the journal goes on."""
    with Journal(tmp_path / "j") as journal:
        with pytest.raises((TypeError, ValueError)):
            journal.extend(["good", bad])
        journal.append("next")

    assert read_back(tmp_path / "j") == ["next"]


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    """In one process or another, the second writer gets the pid of the first, at once."""
    path = tmp_path / "j"
    with Journal(path):
        with pytest.raises(JournalLockedError, match="this process") as caught:
            Journal(path)
        done = run_python("Journal(path)", path)
        pid = writer_of(path)

    assert caught.value.pid == pid == os.getpid()
    assert f"is being written by process {os.getpid()}" in done.stderr
    assert writer_of(path) is None
    assert list(tmp_path.iterdir()) == [path]


def test_looking_at_a_batch_never_refuses_a_writer(tmp_path: Path) -> None:
    """Asking who writes, again and again, does not keep a writer out."""
    path = tmp_path / "j"
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            writer_of(path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(50):
            Journal(path).close()
    finally:
        stop.set()
        looking.join()

    assert scan(path).rows == 0


def test_many_who_want_to_write_never_write_together(tmp_path: Path) -> None:
    """Four processes take and give back the lock as fast as they can: whoever has it is alone,
    and nothing is left of it."""
    code = """
inside = path.with_name("inside")
entered = 0
while entered < 700:
    try:
        with WriterLock(path):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            entered += 1
            inside.unlink()
    except JournalLockedError:
        pass
"""
    running = [
        subprocess.Popen(python(code, tmp_path / "j"), stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = [process.communicate(timeout=100)[1] for process in running]

    assert told == [""] * 4
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    """After SIGKILL the next writer opens at once and has every row that was confirmed."""
    path = tmp_path / "j"
    code = (
        "journal = Journal(path)\n"
        "for n in range(10**9):\n    print(journal.append(n).seq, flush=True)"
    )
    with subprocess.Popen(python(code, path), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        confirmed = 20 + process.stdout.read().count("\n")
    with Journal(path) as journal:
        journal.append("after")

    found = read_back(path)
    assert found == [*range(len(found) - 1), "after"]
    assert len(found) - 1 >= confirmed


def test_a_forgotten_journal_lets_others_write(tmp_path: Path) -> None:
    """A writer nobody holds any more gives its lock back, closed or not."""
    path = tmp_path / "j"
    Journal(path).append(1)

    with Journal(path) as journal:
        assert journal.rows == 1


def test_a_forked_child_may_not_write(tmp_path: Path) -> None:
    """Two processes with one open journal would tangle its chain: the child is refused."""
    code = """
journal = Journal(path)
journal.append(1)
if (child := os.fork()) == 0:
    try:
        journal.append(2)
    except JournalError as error:
        print(error, flush=True)
    journal.close()
    os._exit(0)
os.waitpid(child, 0)
assert writer_of(path) == os.getpid()
journal.append(3)
journal.close()
"""
    done = run_python(code, tmp_path / "j")

    assert done.returncode == 0, done.stderr
    assert "must not write it" in done.stdout
    assert read_back(tmp_path / "j") == [1, 3]


def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    """Writing after close is an error; closing twice is not."""
    journal = Journal(tmp_path / "j", sync_every=None)
    journal.append(1)
    journal.close()
    journal.close()

    with pytest.raises(JournalError, match="is closed"):
        journal.append(2)
    with pytest.raises(JournalError, match="is closed"):
        journal.sync()


def test_a_full_disk_loses_nothing_that_was_confirmed(tmp_path: Path) -> None:
    """When the file may not grow, the row that does not fit is refused as a whole with the reason;
    smaller rows still fit, and the journal stays sound."""
    code = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(path)
journal.append("first")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    journal.append("x" * 5000)
except JournalError as error:
    print(error)
journal.append("second")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append("x" * 5000)
journal.close()
"""
    done = run_python(code, tmp_path / "j")

    assert done.returncode == 0, done.stderr
    assert "could not be written: File too large. Its 1 rows so far are whole" in done.stdout
    assert read_back(tmp_path / "j") == ["first", "second", "x" * 5000]


def test_threads_share_a_journal(tmp_path: Path) -> None:
    """Rows of several threads are one chain."""
    with Journal(tmp_path / "j", sync_every=None) as journal:
        threads = [
            threading.Thread(target=lambda: [journal.append(n) for n in range(50)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(read_back(tmp_path / "j")) == sorted([*range(50)] * 4)


def test_a_journal_is_plain_json_lines(tmp_path: Path) -> None:
    """Any tool that reads JSON Lines can read one."""
    with Journal(tmp_path / "j", sync_every=3) as journal:
        journal.extend([{"a": "ü"}, [1]])
        head = journal.head
    lines = [json.loads(line) for line in (tmp_path / "j").read_text("utf-8").splitlines()]

    assert [line["data"] for line in lines] == [{"a": "ü"}, [1]]
    assert [line["seq"] for line in lines] == [1, 2]
    assert [lines[0]["prev"], lines[1]["prev"], head] == [
        GENESIS,
        lines[0]["hash"],
        lines[1]["hash"],
    ]


def python(code: str, path: Path) -> list[str]:
    head = (
        "import os, sys\nfrom pathlib import Path\n"
        "from scillm.runs.chain import JournalError, JournalLockedError\n"
        "from scillm.runs.journal import Journal\n"
        "from scillm.runs.lock import WriterLock, writer_of\n"
        "path = Path(sys.argv[1])\n"
    )
    return [sys.executable, "-W", "error", "-c", head + code, str(path)]


def run_python(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        python(code, path), capture_output=True, text=True, timeout=60, check=False
    )
