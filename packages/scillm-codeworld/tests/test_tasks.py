"""Programming tasks for `scillm.solve`: real programs in the real sandbox, by name."""

from __future__ import annotations

import json

import pytest
import scillm
from hypothesis import given
from hypothesis import strategies as st
from scillm.errors import UsageError
from scillm.models import ChatMessage, Choice, Completion
from scillm.records import Limits, Verdict
from scillm_codeworld import code_task
from scillm_codeworld.tasks import complaint

SECRET = 31_415_926
INPUTS = [[1, 2, 6], [], [SECRET, SECRET]]
EXPECTED = [3, 0, SECRET]
CRASHES = "```python\ndef solve(xs):\n    return sum(xs) / len(xs)\n```"
WRONG = "```python\ndef solve(xs):\n    return 3\n```"
LOOPS = "```python\ndef solve(xs):\n    while True: pass\n```"
RIGHT = "Now:\n```python\ndef solve(xs):\n    return sum(xs) / len(xs) if xs else 0\n```"


class Scripted:
    """Gives its answers one after the other. Remembers what it was asked."""

    def __init__(self, *answers):
        self.answers = iter(answers)
        self.asked = []

    async def complete(self, request, /):
        self.asked.append(list(request.messages))
        return Completion(choices=[Choice(message=ChatMessage(content=next(self.answers)))])


def task(**more):
    return code_task("The mean, 0 for an empty list.", inputs=INPUTS, expected=EXPECTED, **more)


def test_a_program_is_repaired_until_it_passes_every_case():
    """Wrong, then crashing, then right; the verdicts are real runs."""
    provider = Scripted(WRONG, CRASHES, RIGHT)

    found = scillm.solve(task(), provider=provider, verifier="codeworld")

    assert found.verified
    assert found.answer.startswith("def solve(xs)")
    assert [row.status for row in found.attempts] == ["wrong", "exception", "ok"]
    assert found.attempts[0].score == pytest.approx(1 / 3)
    assert found.attempts[2].verdict.evidence["isolation"]


def test_the_model_learns_the_failing_input_and_traceback_but_no_expected_answer():
    """The verdict's reason names the expected value; what the model is told does not."""
    provider = Scripted(WRONG, CRASHES, "```python\ndef solve(xs): return xs[0]\n```", RIGHT)
    hidden = code_task("The mean.", inputs=[[2], []], expected=[2, SECRET])

    found = scillm.solve(hidden, provider=provider, verifier="codeworld", budget=4)

    told = json.dumps(provider.asked)
    assert not found.verified
    assert str(SECRET) in found.attempts[3].verdict.reason
    assert str(SECRET) not in told
    assert "On the input [2] the program's answer is not right." in told
    assert "ZeroDivisionError: division by zero (line 2)" in told
    assert "solve(x)" in provider.asked[0][0]["content"]


def test_an_endless_program_is_undecided_and_goes_on_to_the_next():
    """Limits are those of one verification."""
    provider = Scripted(LOOPS, RIGHT)

    found = scillm.solve(
        task(), provider=provider, verifier="codeworld", limits=Limits(time_s=0.5), budget=3
    )

    assert [row.status for row in found.attempts] == ["timeout", "ok"]
    assert found.attempts[0].score is None


def test_a_check_of_ones_own_verifies_without_expected_answers():
    """`check`, `entry` and the rest of a claim pass through."""
    check = "def check(given, expected, output):\n    return output * output == given\n"
    own = code_task("A square root.", inputs=[9, 16], check=check, entry="root")
    provider = Scripted("```\nimport math\ndef root(x):\n    return math.isqrt(x)\n```")

    found = scillm.solve(own, provider=provider, verifier="codeworld")

    assert found.verified
    assert "root(x)" in provider.asked[0][0]["content"]


def test_the_model_is_told_of_the_level_its_program_will_be_run_at(monkeypatch):
    """At wasm there is only part of the library, elsewhere all of it."""
    monkeypatch.delenv("SCILLM_CODEWORLD_ISOLATION", raising=False)
    usual = task().system
    monkeypatch.setenv("SCILLM_CODEWORLD_ISOLATION", "wasm")

    assert "Only the standard library is there;" in usual
    assert "Only part of the standard library is there:" in task().system


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"inputs": [1]}, "expected answers or a check"),
        ({"inputs": [1], "expected": [1, 2]}, "list of 1 answers"),
        ({"inputs": []}, "at least one case"),
        ({"inputs": [1], "expected": [1], "entry": "no name"}, "entry"),
        ({"inputs": [1], "expected": [1], "speed": 3}, "'speed'"),
    ],
)
def test_what_cannot_be_checked_is_refused_at_once(arguments, said):
    """Before any model is asked."""
    with pytest.raises(UsageError, match=said):
        code_task("A task.", **arguments)


@given(st.text(), st.text(), st.integers(0, 9) | st.none())
def test_a_complaint_about_a_wrong_answer_never_quotes_the_reason(reason, status, right):
    """The reason compares with what was expected."""
    evidence = {} if right is None else {"right": right}
    wrong = Verdict(claim_id="c", holds=False, status="wrong", reason=reason, evidence=evidence)

    said = complaint(wrong, [1, 2, 3])

    inputs = [f"On the input {value} " for value in (1, 2, 3)]
    assert said.removesuffix("the program's answer is not right.") in ["", *inputs]
