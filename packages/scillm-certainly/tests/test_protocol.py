"""What a worker's lines are taken for."""

from __future__ import annotations

import json

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import ProverError
from scillm_certainly import protocol
from scillm_certainly.records import CheckRequest, Policy, Position

ANSWER = {
    "id": 3,
    "messages": [
        {
            "severity": "error",
            "pos": {"line": 2, "column": 4},
            "endPos": None,
            "kind": "[anonymous]",
            "data": " boom\n",
        }
    ],
    "sorries": [],
    "decls": [
        {
            "name": "t",
            "kind": "theorem",
            "written": True,
            "statement": "\n⊢ 1 = 1",
            "typeHash": "5",
            "axioms": ["propext"],
            "uses": ["s", "s"],
            "gap": "",
        }
    ],
    "replay": {"errors": ["t", "t"], "skipped": []},
    "judge": {
        "messages": [],
        "replayErrors": [],
        "axioms": [],
        "targets": [{"name": "t", "status": "different", "detail": "type differs"}],
    },
    "examples": 0,
    "userCode": False,
    "meta": False,
    "nested": False,
    "axiomsComplete": False,
    "us": {"elab": 5},
}


@given(line=st.binary(max_size=80), nonce=st.text("0123456789abcdef", min_size=32, max_size=32))
def test_a_line_without_the_nonce_is_no_answer(line: bytes, nonce: str) -> None:
    """What is written without knowing the nonce is never taken for an answer."""
    assert protocol.answer(line, nonce) is None


@given(code=st.text(), reference=st.none() | st.text(), nonce=st.text("0123456789abcdef"))
def test_a_question_is_one_line(code: str, reference: str | None, nonce: str) -> None:
    """Any code at all travels as one line and arrives as it was."""
    request = CheckRequest(code=code, reference=reference, policy=Policy(heartbeats=7))
    line = protocol.question(request, number=5, nonce=nonce)
    told = json.loads(line)

    assert line.count(b"\n") == 1
    assert told["code"] == code
    assert told.get("reference") == reference
    assert (told["id"], told["nonce"], told["maxHeartbeats"]) == (5, nonce, 7)


def test_an_answer_is_read_whole() -> None:
    """Every part of an answer is kept, names are listed once, goals lose their turnstile."""
    line = b"\x01abc " + json.dumps(ANSWER).encode()
    facts = protocol.facts_of(protocol.answer(line, "abc"), number=3)

    assert facts.diagnostics[0].text == "boom"
    assert facts.diagnostics[0].start == Position(line=2, column=4)
    assert facts.declarations[0].statement == "1 = 1"
    assert facts.declarations[0].uses == ("s",)
    assert facts.replay_errors == ("t",)
    assert facts.judged is not None
    assert not facts.judged.targets[0].same


@pytest.mark.parametrize("part", ["messages", "decls", "replay", "judge", "axiomsComplete", "us"])
def test_an_answer_with_a_hole_is_refused(part: str) -> None:
    """A missing part is an error, never a silent default."""
    document = {key: value for key, value in ANSWER.items() if key != part}
    with pytest.raises(ProverError, match="lacks a part"):
        protocol.facts_of(document, number=3)


def test_an_answer_to_another_question_is_refused() -> None:
    """An answer that comes late is not taken for the next question's."""
    with pytest.raises(ProverError, match="instead of 4"):
        protocol.facts_of(ANSWER, number=4)


def test_a_broken_line_under_the_nonce_is_an_error() -> None:
    """A worker that cannot be read is not asked again."""
    with pytest.raises(ProverError, match="broken line"):
        protocol.answer(b"\x01abc {", "abc")


def test_what_is_no_object_is_an_error() -> None:
    """An answer is an object."""
    with pytest.raises(ProverError, match="no JSON object"):
        protocol.answer(b"\x01abc []", "abc")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("unknown module prefix 'Foo'", "import"),
        ("object file 'Foo.olean' of module Foo does not exist", "import"),
        ("something else", "lean"),
    ],
)
def test_a_fault_says_of_which_kind_it_is(text: str, kind: str) -> None:
    """A missing module is told apart from Lean's other faults."""
    facts = protocol.facts_of({"id": 1, "fault": text}, number=1)

    assert (facts.fault, facts.fault_kind) == (text, kind)


def test_an_answer_nested_too_deeply_is_a_broken_line() -> None:
    """JSON that nobody can read ends the check, not the program."""
    with pytest.raises(ProverError, match="broken line"):
        protocol.answer(f"{protocol.MARK}n {'[' * 1_000_000}".encode(), "n")


def test_what_the_second_process_is_asked() -> None:
    """The first is asked for its declarations, the second gets them, and the caller's reference."""
    request = CheckRequest(code="c", reference="r")
    first = json.loads(protocol.question(request, number=1, nonce="a", export=True))
    second = json.loads(protocol.replay_question(request, "[]", number=2, nonce="b"))

    assert (first["op"], first["export"], first["reference"]) == ("check", True, "r")
    assert (second["op"], second["exported"], second["reference"]) == ("replay", "[]", "r")
    assert (second["id"], second["nonce"]) == (2, "b")


@given(axioms=st.lists(st.sampled_from(["propext", "bad"])), refused=st.booleans())
def test_the_second_process_decides(axioms: list[str], refused: bool) -> None:
    """Axioms, refusals and comparison are the second's, whatever the first one claimed."""
    seen = protocol.facts_of({**ANSWER, "judge": None, "exported": "[]"}, number=3)
    (row,) = ANSWER["decls"]
    told = protocol.facts_of(
        {
            **ANSWER,
            "decls": [{**row, "axioms": axioms, "written": False}],
            "replay": {"errors": ["u"] if refused else [], "skipped": []},
        },
        number=3,
    )
    both = protocol.replayed_apart(seen, told)

    assert both.apart
    assert [list(one.axioms) for one in both.declarations] == [axioms]
    assert both.declarations[0].written
    assert both.judged == told.judged
    assert list(both.replay_errors) == ["t", *(["u"] if refused else [])]
    assert protocol.replayed_apart(seen, evolve(told, fault="died")).fault == "died"
