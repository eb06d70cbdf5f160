"""What a worker's lines are taken for."""

from __future__ import annotations

import json

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import ProverError
from scillm_certainly import protocol
from scillm_certainly.records import CheckRequest, Facts, Policy, Position

READ = {
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
    "written": ["t"],
    "examples": 0,
    "ranPrograms": False,
    "exported": "[]",
    "us": {"elab": 5},
}
TOLD = {
    "id": 3,
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
    "replayErrors": ["t", "t"],
    "judge": {
        "replayErrors": [],
        "axioms": [],
        "targets": [{"name": "t", "status": "different", "detail": "type differs"}],
    },
    "nested": False,
    "axiomsComplete": False,
    "us": {"replay": 7},
}


@given(line=st.binary(max_size=80), nonce=st.text("0123456789abcdef", min_size=32, max_size=32))
def test_a_line_without_the_nonce_is_no_answer(line: bytes, nonce: str) -> None:
    """What is written without knowing the nonce is never taken for an answer."""
    assert protocol.answer(line, nonce) is None


@given(code=st.text(), reference=st.text(), nonce=st.text("0123456789abcdef"))
def test_a_question_is_one_line(code: str, reference: str, nonce: str) -> None:
    """Any code at all travels as one line and arrives as it was."""
    request = CheckRequest(code=code, reference=reference, policy=Policy(heartbeats=7))
    line = protocol.question(request, number=5, nonce=nonce)
    other = protocol.reference_question(request, number=5, nonce=nonce)
    told = json.loads(line)

    assert (line.count(b"\n"), other.count(b"\n")) == (1, 1)
    assert told["code"] == code
    assert json.loads(other)["code"] == reference
    assert (told["id"], told["nonce"], told["maxHeartbeats"]) == (5, nonce, 7)


def test_an_answer_is_read_whole() -> None:
    """Every part of an answer is kept, names are listed once, goals lose their turnstile."""
    line = b"\x01abc " + json.dumps(READ).encode()
    seen = protocol.facts_of(protocol.answer(line, "abc"), number=3)
    told = protocol.facts_of(TOLD, number=3)

    assert seen.diagnostics[0].text == "boom"
    assert seen.diagnostics[0].start == Position(line=2, column=4)
    assert (seen.written, seen.exported) == (("t",), "[]")
    assert told.declarations[0].statement == "1 = 1"
    assert told.declarations[0].uses == ("s",)
    assert told.replay_errors == ("t",)
    assert told.judged is not None
    assert not told.judged.targets[0].same


@pytest.mark.parametrize("answer", [READ, TOLD], ids=["read", "told"])
def test_an_answer_with_a_hole_is_refused(answer: dict[str, object]) -> None:
    """A missing part is an error, never a silent default."""
    for part in answer.keys() - {"id"}:
        document = {key: value for key, value in answer.items() if key != part}
        with pytest.raises(ProverError, match="lacks a part"):
            protocol.facts_of(document, number=3)


def test_an_answer_to_another_question_is_refused() -> None:
    """An answer that comes late is not taken for the next question's."""
    with pytest.raises(ProverError, match="instead of 4"):
        protocol.facts_of(READ, number=4)


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


def test_who_is_asked_what() -> None:
    """Readers get the texts, the judge what they exported and, of the code, what it imports."""
    request = CheckRequest(code="c", reference="r")
    first = json.loads(protocol.reference_question(request, number=1, nonce="a"))
    second = json.loads(protocol.question(request, number=2, nonce="b"))
    seen, reference = Facts(exported="[1]", written=["t"]), Facts(exported="[2]")
    third = json.loads(protocol.judge_question(request, seen, reference, number=3, nonce="c"))
    fourth = json.loads(protocol.judge_question(request, seen, None, number=3, nonce="c"))

    assert (first["op"], first["code"], first["header"]) == ("read", "r", "c")
    assert (second["op"], second["code"], "header" in second) == ("read", "c", False)
    assert (third["op"], third["exported"], third["reference"]) == ("judge", "[1]", "[2]")
    assert (third["written"], third["id"], third["nonce"]) == (["t"], 3, "c")
    assert "reference" not in fourth


@given(axioms=st.lists(st.sampled_from(["propext", "bad"])), refused=st.booleans())
def test_the_judge_decides(axioms: list[str], refused: bool) -> None:
    """Axioms, refusals and comparison are the judge's, whatever the reader claimed."""
    claims = {**TOLD, "replayErrors": [], "judge": None}
    seen = evolve(
        protocol.facts_of(READ, number=3),
        declarations=protocol.facts_of(claims, number=3).declarations,
    )
    reference = protocol.facts_of({**READ, "messages": []}, number=3)
    (row,) = TOLD["decls"]
    told = protocol.facts_of(
        {**TOLD, "decls": [{**row, "axioms": axioms}], "replayErrors": ["u"] if refused else []},
        number=3,
    )
    both = protocol.judged(seen, reference, told)

    assert both.replayed
    assert [list(one.axioms) for one in both.declarations] == [axioms]
    assert both.judged == told.judged
    assert list(both.replay_errors) == (["u"] if refused else [])
    assert both.us == {"elab": 5, "replay": 7}
    assert protocol.judged(seen, None, evolve(told, fault="died")).fault == "died"


def test_a_reference_s_errors_come_from_who_read_it() -> None:
    """What the kernel took of a reference with an error does not hide the error."""
    reference, told = protocol.facts_of(READ, number=3), protocol.facts_of(TOLD, number=3)
    both = protocol.judged(evolve(reference, diagnostics=()), reference, told)

    assert both.judged is not None
    assert both.judged.errors == ("boom",)
