"""Tactic mode without a Lean: how states are remembered, and what is refused beforehand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm import portal
from scillm.errors import ProverError, UsageError
from scillm_certainly.backends.choose import SOURCE
from scillm_certainly.backends.records import REPL, Backend
from scillm_certainly.dialogue.desk import Desk
from scillm_certainly.dialogue.lean import reading
from scillm_certainly.dialogue.options import Wanted, wanted
from scillm_certainly.dialogue.states import KINDS, Place, State, States, Stepped
from scillm_certainly.dialogue.worker import running
from scillm_certainly.records import Policy

if TYPE_CHECKING:
    from pathlib import Path

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
STEPS = st.lists(st.tuples(TEXT, st.none() | st.integers(0, 3)), max_size=5)


@given(text=TEXT, kind=st.sampled_from(KINDS), index=st.integers(0, 9), steps=STEPS)
def test_a_written_state_leads_to_the_same_place(
    text: str, kind: str, index: int, steps: list[tuple[str, int | None]]
) -> None:
    """A state that was written down is read, in a conversation of any length, as the same way."""
    first, second = States(), States()
    number = first.add(State(origin=Place(text=text, kind=kind, index=index)))
    for tactic, sorry in steps:
        number = first.add(State(origin=Stepped(parent=number, tactic=tactic, sorry=sorry)))
    second.add(State(origin=Place(text="other", kind="sorry", index=0)))
    document = json.loads(json.dumps(first.written(number)))
    there = second.read(document)

    assert second.written(there) == document
    assert len(second.way_to(there)) == 1 + len(steps)


def test_ways_of_two_branches_part_where_they_parted() -> None:
    """Two tactics in one state make two states, and each is reached through its own tactic."""
    states = States()
    root = states.add(State(origin=Place(text="t", kind="sorry", index=0)))
    left = states.add(State(origin=Stepped(parent=root, tactic="left")))
    right = states.add(State(origin=Stepped(parent=root, tactic="right")))
    end = states.add(State(origin=Stepped(parent=left, tactic="rfl")))

    assert states.way_to(end) == [root, left, end]
    assert states.way_to(right) == [root, right]


@pytest.mark.parametrize("number", [1, -1, True, "0", None, 0.0, [0]])
def test_a_number_that_names_no_state_is_refused(number: object) -> None:
    """Only numbers that were told before name a state."""
    states = States()
    states.add(State(origin=Place(text="t", kind="sorry", index=0)))

    with pytest.raises(UsageError, match=r"proofState must be a number|Unknown proof state\."):
        states.get(number)


SOUND = {"text": "t", "kind": "sorry", "index": 0, "steps": [["rfl", None], ["simp", 1]]}


@pytest.mark.parametrize(
    "change",
    [
        {"text": 3},
        {"kind": "lemma"},
        {"kind": ["sorry"]},
        {"index": -1},
        {"index": True},
        {"steps": "rfl"},
        {"steps": [["rfl"]]},
        {"steps": [[3, None]]},
        {"steps": [["rfl", "0"]]},
        {"steps": ["ab"]},
        {"text": "\ud800"},
        {"steps": [["a\0", None]]},
    ],
)
def test_a_document_that_is_no_state_is_refused_whole(change: dict[str, object]) -> None:
    """Nothing of a broken document is taken over."""
    states = States()
    with pytest.raises(UsageError, match=r"no proof state|cannot be told to Lean"):
        states.read({**SOUND, **change})

    assert states.rows == []
    assert states.read(SOUND) == 2


def test_what_lean_interact_sends_by_itself_is_taken() -> None:
    """Options about speed alone are accepted, and absent ones ask for nothing."""
    asked = {
        "cmd": "x",
        "env": None,
        "incrementality": True,
        "setOptions": [[["Elab", "async"], True]],
        "infotree": None,
        "allTactics": True,
        "rootGoals": False,
        "gc": True,
    }

    assert wanted(asked) == Wanted(tactics=True, roots=False)
    assert wanted({"cmd": "x"}) == Wanted()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"allTactics": 1}, "allTactics must be true or false"),
        ({"rootGoals": "yes"}, "rootGoals must be"),
        ({"declarations": True}, "declarations is not offered"),
        ({"setOptions": [[["pp", "all"], True]]}, "set_option pp.all"),
        ({"setOptions": {"a": 1}}, "setOptions must be a list"),
        ({"setOptions": ["ab"]}, "An option must be"),
        ({"setOptions": [["pp.all", True]]}, "An option must be"),
        ({"allTactic": True}, "Unknown key 'allTactic'"),
    ],
)
def test_an_option_that_cannot_be_answered_is_refused(asked: dict[str, object], says: str) -> None:
    """No option is ignored: what is not offered, or spelt wrongly, is named."""
    with pytest.raises(UsageError, match=says):
        wanted({"cmd": "x", **asked})


def test_a_repl_of_ones_own_has_its_own_tactic_mode() -> None:
    """With another REPL as the Lean no state is offered, and a tactic is refused, saying why."""
    desk = Desk(lambda: Backend(name=REPL, command=["repl"], dialect=REPL), Policy())
    number = desk.place("theorem t : 1 = 1 := by sorry", "sorry", 0, None)

    assert not desk.offered
    with pytest.raises(UsageError, match="ask it directly"):
        portal.call(desk.step, number, "rfl")


@pytest.mark.parametrize(
    ("tactic", "says"),
    [(3, "must be a text"), ("a\0", "NUL"), ("\ud800", "surrogate"), ("a" * 1_000_001, "bytes")],
    ids=["number", "nul", "surrogate", "large"],
)
def test_what_is_no_tactic_reaches_no_lean(tactic: object, says: str) -> None:
    """Nothing is started for a tactic that cannot be given to Lean."""
    desk = Desk(lambda: Backend(name="none", command=["/no/such/lean"]), Policy())
    number = desk.place("theorem t : 1 = 1 := by sorry", "sorry", 0, None)

    with pytest.raises(UsageError, match=says):
        portal.call(desk.step, number, tactic)
    assert desk.starts == 0


def test_a_broken_answer_is_leans_fault() -> None:
    """An answer that lacks a part ends a request with an error of SciLLM's, not the program."""
    with pytest.raises(ProverError, match="lacks a part"), reading():
        {}["goals"]


def test_every_backend_can_run_the_other_program(tmp_path: Path) -> None:
    """A native Lean gets the file as a word, the embedded one as a variable; a sandbox is told."""
    backend = Backend(
        name="native",
        command=["lake", "env", "lean", str(SOURCE)],
        environment={"CERTAINLY_DRIVER": str(SOURCE), "HOME": "/root"},
    )
    other = str(tmp_path / "other.lean")
    changed = running(backend, tmp_path / "other.lean")

    assert changed.command == ["lake", "env", "lean", other]
    assert changed.environment == {"CERTAINLY_DRIVER": other, "HOME": "/root"}
    assert changed.source == other
