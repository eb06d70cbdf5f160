"""`scillm certainly`: what it prints, and the exit code that tells a script the truth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from scillm_certainly.command import command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from scillm.records import Json

GOOD = "theorem good (n : Nat) : 0 + n = n := by simp\n"
BAD = "theorem bad (n : Nat) : n + 1 = n := by\n  omega\n"
GAP = "theorem gap (n : Nat) : n = 0 := by\n  sorry\n"


def run(values: Mapping[str, Json], *words: str, text: str | bytes | None = None) -> Result:
    environment = {
        "SCILLM_CERTAINLY_HOME": str(values["certainly_home"]),
        "SCILLM_CERTAINLY_BACKEND": "wasm",
        "SCILLM_CERTAINLY_WORKERS": "1",
    }
    return CliRunner().invoke(command, list(words), input=text, env=environment)


def test_files_are_judged_one_by_one(tmp_path: Path, lean_values: Mapping[str, Json]) -> None:
    """Diagnostics have file, line and column; one file that is not proved makes the exit 1."""
    for name, code in (("good", GOOD), ("bad", BAD), ("gap", GAP)):
        (tmp_path / f"{name}.lean").write_text(code, encoding="utf-8")
    files = [str(tmp_path / f"{name}.lean") for name in ("good", "bad", "gap")]
    done = run(lean_values, "check", *files)

    assert done.exit_code == 1
    assert f"{files[0]}: proved\n  good : ∀ (n : Nat), 0 + n = n" in done.output
    assert f"{files[1]}:2:2: error: " in done.output
    assert f"{files[1]}: rejected: line 2, column 2" in done.output
    assert f"{files[2]}:2:2: goal:\n  n : Nat\n  ⊢ n = 0" in done.output
    assert "1 of 3 proved; Lean 4.28.0, wasm" in done.output


def test_all_proved_is_exit_0(lean_values: Mapping[str, Json]) -> None:
    """Standard input and --text are checked like files; the exit is 0 only for proved."""
    done = run(lean_values, "check", "-", text=GOOD)
    text = run(lean_values, "check", "--text", GAP, "--json")

    assert done.exit_code == 0
    assert text.exit_code == 1
    assert json.loads(text.stdout)["results"][0]["status"] == "incomplete"


def test_a_reference_and_axioms_are_kept_to(
    tmp_path: Path, lean_values: Mapping[str, Json]
) -> None:
    """Another statement than the reference's is a mismatch; an axiom passes only when named."""
    reference = tmp_path / "ref.lean"
    reference.write_text("theorem good (n : Nat) : n + 0 = n := sorry", encoding="utf-8")
    other = run(lean_values, "check", "--text", GOOD, "--reference", str(reference))
    axiom = "axiom a : 1 = 2\ntheorem t : 1 = 2 := a"
    refused = run(lean_values, "check", "--text", axiom)
    named = run(lean_values, "check", "--text", axiom, "--axioms", "a, propext")

    assert "mismatch" in other.output
    assert (other.exit_code, refused.exit_code, named.exit_code) == (1, 1, 0)
    assert "unsound" in refused.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "Give Lean files"),
        (("none.lean",), "cannot be read"),
        (("--text", "x", "--heartbeats", "-1"), "heartbeats"),
        (("--text", "x", "--timeout", "-1"), "time of a check"),
        (("--text", "x", "--axioms", "a b"), "no name"),
    ],
)
def test_what_cannot_be_asked_is_exit_2(
    lean_values: Mapping[str, Json], words: tuple[str, ...], says: str
) -> None:
    """A call that makes no sense says so before any Lean is started."""
    done = run(lean_values, "check", *words)

    assert done.exit_code == 2
    assert says in done.output


def test_a_file_that_is_no_text_is_named(tmp_path: Path, lean_values: Mapping[str, Json]) -> None:
    """Invalid UTF-8 is an error with the place of the first bad byte."""
    (tmp_path / "a.lean").write_bytes(b"theorem \xff")
    done = run(lean_values, "check", str(tmp_path / "a.lean"))

    assert done.exit_code == 2
    assert "not UTF-8" in done.output
    assert "byte 8" in done.output


def test_one_bad_file_leaves_the_others_alone(
    tmp_path: Path, lean_values: Mapping[str, Json]
) -> None:
    """The others are checked and shown, the bad ones named, and the exit code is 2."""
    (tmp_path / "a.lean").write_bytes(b"theorem \xff")
    (tmp_path / "good.lean").write_text(GOOD, encoding="utf-8")
    files = [str(tmp_path / name) for name in ("a.lean", "none.lean", "good.lean")]
    done = run(lean_values, "check", *files)
    drawn = run(lean_values, "map", *files, "-o", str(tmp_path / "map.html"))

    assert (done.exit_code, drawn.exit_code) == (2, 2)
    assert f"{files[0]}: inconclusive: it is not UTF-8: invalid start byte at byte 8" in done.output
    assert f"{files[1]}: inconclusive: it cannot be read" in done.output
    assert f"{files[2]}: proved" in done.output
    assert "1 of 3 proved" in done.output
    assert "good" in (tmp_path / "map.html").read_text(encoding="utf-8")


def test_a_file_cannot_print_a_verdict(lean_values: Mapping[str, Json]) -> None:
    """What a file says through Lean never begins a line, and never steers a terminal."""
    spoof = '#eval IO.println "\\ntext: proved\\r1 of 1 proved\\x1b[2J"\n' + BAD
    done = run(lean_values, "check", "--text", spoof)
    lines = done.stdout.splitlines()

    assert done.exit_code == 1
    assert [row for row in lines if row.startswith("text: ")] == [lines[-2]]
    assert lines[-2].startswith("text: rejected: ")
    assert lines[-1].startswith("0 of 1 proved")
    assert "\x1b" not in done.stdout


def test_doctor_asks_lean(lean_values: Mapping[str, Json]) -> None:
    """The doctor has a true, a false and an unfinished statement judged, and shows the Lean."""
    done = run(lean_values, "doctor", "--json")
    rows = json.loads(done.stdout)

    assert done.exit_code == 0
    assert [row["ok"] for row in rows] == [True] * 4
    assert "Lean 4.28.0" in rows[0]["detail"]


def test_doctor_without_lean_says_what_to_do(tmp_path: Path) -> None:
    """No Lean is exit 1, shown as not run, with the command that installs one."""
    done = run({"certainly_home": tmp_path}, "doctor")

    assert done.exit_code == 1
    assert "not run" in done.output
    assert "scillm certainly install" in done.output


def test_doctor_tells_what_is_wrong_with_a_broken_lean(tmp_path: Path) -> None:
    """A program that is no REPL fails each question with its reason, and nothing is ok by luck."""
    repl = tmp_path / "repl"
    repl.write_text("#!/bin/sh\nexec /bin/cat\n", encoding="utf-8")
    repl.chmod(0o755)
    environment = {"SCILLM_CERTAINLY_BACKEND": "repl", "SCILLM_CERTAINLY_REPL": str(repl)}
    done = CliRunner().invoke(command, ["doctor", "--json"], env=environment)
    rows = json.loads(done.stdout)

    assert done.exit_code == 1
    assert "of unknown version" in rows[0]["detail"]
    assert [row["ok"] for row in rows[1:]] == [False] * 3
    assert all(": " in row["detail"] for row in rows[1:])


@pytest.mark.parametrize("name", ["WORKERS", "QUEUE"])
def test_a_setting_below_one_is_refused(tmp_path: Path, name: str) -> None:
    """No workers, or a negative number, is an error that names the setting, never read as one."""
    environment = {f"SCILLM_CERTAINLY_{name}": "-1", "SCILLM_CERTAINLY_HOME": str(tmp_path)}
    done = CliRunner().invoke(command, ["check", "--text", GOOD], env=environment)

    assert done.exit_code == 2
    assert f"SCILLM_CERTAINLY_{name} must be 1 or more" in done.output


def test_install_twice_is_no_work(lean_values: Mapping[str, Json]) -> None:
    """Installing where it is installed says so and fetches nothing."""
    done = run(lean_values, "install")

    assert done.exit_code == 0
    assert "already" in done.output


def test_install_refuses_another_file(tmp_path: Path) -> None:
    """A package that is not the pinned one is refused with both hashes."""
    (tmp_path / "x.tgz").write_bytes(b"x")
    home = tmp_path / "home"
    done = run({"certainly_home": home}, "install", "--from", str(tmp_path / "x.tgz"))

    assert done.exit_code == 1
    assert "not the package that was pinned" in done.output
