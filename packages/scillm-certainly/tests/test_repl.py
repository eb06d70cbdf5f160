"""The REPL protocol: environments by number, honest replies, real clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm import portal
from scillm.errors import ProverError
from scillm_certainly.records import Diagnostic, Position, ProofVerdict, Sorry
from scillm_certainly.repl import Session, commands
from scillm_certainly.replies import fault_of, reply_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from scillm.records import Json
    from scillm_certainly.dialogue.desk import Desk
    from scillm_certainly.pool.resident import Resident
    from scillm_certainly.records import CheckRequest


@pytest.fixture
def session(lean: Resident, desk: Desk) -> Session:
    """A dialogue with the tests' Leans."""
    return Session(check=lambda request: portal.call(lean.check, request), desk=desk)


@given(
    status=st.sampled_from(["incomplete", "rejected", "unsound", "mismatch", "inconclusive",
                            "unavailable"]),
    limit=st.sampled_from(["", "timeout", "heartbeats", "no_judge", "missing_import", "died"]),
    errors=st.booleans(),
    sorries=st.sampled_from([[], [Sorry(goal="nowhere")]]),
)  # fmt: skip
def test_what_is_not_accepted_never_looks_valid(
    status: str, limit: str, errors: bool, sorries: list[Sorry]
) -> None:
    """A client that knows only errors and sorries sees one for every verdict that is no proof."""
    rows = [Diagnostic(severity="error", text="e", start=Position(line=1, column=0))]
    shown = rows if errors or status == "rejected" else []
    verdict = ProofVerdict(
        id="a", status=status, limit=limit, diagnostics=shown, sorries=sorries, reason="why"
    )
    reply = reply_of(verdict)
    has_error = any(row["severity"] == "error" for row in reply.get("messages", []))

    assert fault_of(verdict) or has_error or reply.get("sorries")


def test_only_what_the_command_itself_says_is_shown() -> None:
    """Messages of an environment's own text are not repeated, and lines count from the command."""
    rows = [
        Diagnostic(severity="info", text=str(line), start=Position(line=line, column=2))
        for line in (1, 3, 4)
    ]
    gaps = [Sorry(goal="g", start=Position(line=line, column=0)) for line in (2, 5)]
    verdict = ProofVerdict(id="a", status="incomplete", diagnostics=rows, sorries=gaps)
    reply = reply_of(verdict, after_line=2)

    assert [row["pos"] for row in reply["messages"]] == [
        {"line": 1, "column": 2},
        {"line": 2, "column": 2},
    ]
    assert [row["pos"]["line"] for row in reply["sorries"]] == [3]


def test_an_environment_is_built_upon_and_never_changed(session: Session) -> None:
    """Commands see their environment and nothing else; two branches do not meet."""
    first = session.answer({"cmd": "def f (n : Nat) := n + n"})
    left = session.answer({"cmd": "theorem t (n : Nat) : f n = n + n := rfl", "env": first["env"]})
    right = session.answer({"cmd": "theorem t (n : Nat) : f n = n := rfl", "env": first["env"]})
    apart = session.answer({"cmd": "#check t"})
    shown = session.answer({"cmd": "#print axioms t", "env": left["env"]})

    assert first == {"env": 0}
    assert left == {"env": 1}
    assert right["messages"][0]["severity"] == "error"
    assert right["messages"][0]["pos"]["line"] == 1
    assert apart["messages"][0]["severity"] == "error"
    assert shown["messages"][0]["data"] == "'t' does not depend on any axioms"


def test_gaps_and_axioms_are_told(session: Session) -> None:
    """A sorry comes with its goal; an axiom that is not permitted is an error."""
    gap = session.answer({"cmd": "theorem t (n : Nat) : n = 0 := by\n  sorry"})
    axiom = session.answer({"cmd": "axiom a : 1 = 2\ntheorem t : 1 = 2 := a"})

    assert gap["sorries"][0]["goal"] == "n : Nat\n⊢ n = 0"
    assert gap["sorries"][0]["pos"] == {"line": 2, "column": 2}
    assert "unsound" in axiom["messages"][-1]["data"]


def test_files_and_pickles(session: Session, tmp_path: Path) -> None:
    """A file is a command; an environment can be written down and taken up again."""
    (tmp_path / "a.lean").write_text("def g := 3", encoding="utf-8")
    file = session.answer({"path": str(tmp_path / "a.lean")})
    kept = str(tmp_path / "env")
    session.answer({"pickleTo": kept, "env": file["env"]})
    taken = session.answer({"unpickleEnvFrom": kept})
    used = session.answer({"cmd": "theorem t : g = 3 := rfl", "env": taken["env"]})

    assert used == {"env": 2}
    assert (
        "no environment" in session.answer({"unpickleEnvFrom": str(tmp_path / "a.lean")})["message"]
    )


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ([], "JSON object"),
        ({}, "cmd"),
        ({"cmd": 3}, "cmd"),
        ({"cmd": "x", "env": 9}, "Unknown environment"),
        ({"cmd": "x", "env": True}, "number"),
        ({"path": "/no/such.lean"}, "No such file"),
        ({"tactic": "simp", "proofState": 10**9}, "Unknown proof state."),
        ({"tactic": "simp", "proofState": -1}, "Unknown proof state."),
        ({"tactic": "simp"}, "proofState must be a number"),
        ({"tactic": 3, "proofState": 10**9}, "Unknown proof state."),
        ({"tactic": "simp", "proofState": "0"}, "proofState must be a number"),
        ({"tactic": "simp", "proofState": 0, "env": 1}, "Unknown key 'env'"),
        ({"pickleTo": "x", "proofState": 10**9}, "Unknown proof state."),
        ({"pickleTo": 3, "env": 0}, "Unknown environment"),
        ({"pickleTo": "x"}, "needs env, or proofState"),
        ({"unpickleProofStateFrom": "/no/such"}, "No such file"),
        ({"unpickleProofStateFrom": 3}, "named by its file"),
        ({"cmd": "def y := 1", "infotree": "full"}, "infotree"),
        ({"unpickleEnvFrom": "/no/such"}, "No such file"),
        ({"cmd": "\0"}, "NUL"),
    ],
)
def test_what_cannot_be_done_is_a_message(session: Session, asked: Json, says: str) -> None:
    """A command that makes no sense gets the protocol's error, and the dialogue goes on."""
    assert says in session.answer(asked)["message"]
    assert session.answer({"cmd": "def x := 1"}) == {"env": 0}


def test_a_lean_that_fails_is_a_message(desk: Desk) -> None:
    """Without a Lean the reply says so, and is no environment."""

    def broken(_request: CheckRequest) -> ProofVerdict:
        raise ProverError("gone")

    assert "gone" in Session(check=broken, desk=desk).answer({"cmd": "x"})["message"]


@given(st.lists(st.text(alphabet="ab{}", min_size=1), max_size=5))
def test_commands_are_parted_by_empty_lines(rows: list[str]) -> None:
    """However many empty lines stand between commands, each arrives once; the last needs none."""
    source = BytesIO("\n\n \n".join(rows).encode())

    assert [row.strip().decode() for row in commands(source)] == rows


def test_a_command_may_be_broken_over_lines_and_comments_are_none() -> None:
    """As in the REPL, ends of lines are no part of a command, and # or -- asks for nothing."""
    text = '# a\n\n{"cmd": "def x :=\\n  \r\n 1"}  \n\n-- b\nc\n\n{"cmd":\n"y"}'
    found = [json.loads(row) for row in commands(BytesIO(text.encode()))]

    assert found == [{"cmd": "def x :=\n 1"}, {"cmd": "y"}]


def test_the_program_speaks_it(lean_values: Mapping[str, Json]) -> None:
    """The installed program answers line by line, survives nonsense, and leaves no process."""
    environment = {
        **os.environ,
        "SCILLM_CERTAINLY_HOME": str(lean_values["certainly_home"]),
        "SCILLM_CERTAINLY_BACKEND": "wasm",
    }
    text = '{"cmd": "theorem t : 1 = 1 := rfl"}\n\nnonsense\n\n{"cmd": "#check t", "env": 0}\n'
    done = subprocess.run(
        [sys.executable, "-m", "scillm_certainly.repl", "env", "ignored"],
        input=text.encode(),
        capture_output=True,
        env=environment,
        timeout=170,
        check=True,
    )
    replies = [json.loads(row) for row in done.stdout.decode().split("\n\n") if row.strip()]

    assert replies[0] == {"env": 0}
    assert "JSON" in replies[1]["message"]
    assert replies[2]["messages"][0]["data"] == "t : 1 = 1"
