"""Requirements: what counts as a Lean statement, which tactics are tried, what a model may do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scillm import portal
from scillm.errors import UsageError
from scillm.models import ChatMessage, Choice, Completion
from scillm.records import Job
from scillm_certainly.command_proofs import show_formal
from scillm_certainly.engine import CertainlyEngine
from scillm_certainly.portfolio.model import Model
from scillm_certainly.portfolio.statements import closes_itself, statement_of
from scillm_certainly.portfolio.tactics import GROUPS, NAMES, attempts, known_strategies
from scillm_certainly.records import ProofVerdict, Requirement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scillm.records import ChatRequest, Json
    from scillm_certainly.pool.resident import Resident

WORDS = "The sum of two even numbers is even."
DOUBLE = "def double : Nat → Nat\n  | 0 => 0\n  | n + 1 => double n + 2"


def ask(
    lean: Resident, *items: Mapping[str, Json], **options: Json
) -> Sequence[Mapping[str, Json]]:
    model = options.pop("model", None)
    job = Job(engine="certainly", items=list(items), options=options)
    return portal.call(CertainlyEngine(lean, width=1, model=model).run, job).results


@given(st.text(alphabet="()[]{}⟨⟩ab:=-/\"' \n", max_size=40))
def test_text_that_closes_itself_stays_inside_its_brackets(text: str) -> None:
    """What is put between brackets never closes them: nothing can be claimed after it."""
    depths = [0]
    for sign in text:
        depths.append(depths[-1] + (sign in "([{⟨") - (sign in ")]}⟩"))
    noisy = "-" in text or "/" in text or '"' in text or "'" in text

    if closes_itself(text) and not noisy:
        assert min(depths) == 0
        assert depths[-1] == 0


@pytest.mark.parametrize(
    "text",
    [
        "True) := trivial\ntheorem x : (1 = 2",
        "True := trivial",
        "/- ( -/ True) := trivial /- ",
        'True" ) ',
        "«(» ) | x => y",
        'r"\\" ) "',
        "a')' ",
        "(1 = 1",
        "1 = 1)",
        "[1)",
    ],
)
def test_text_that_would_end_its_statement_is_no_statement(text: str) -> None:
    """A text that closes a bracket it did not open, or brings its own proof, is refused."""
    assert statement_of(Requirement(text=text)) is None


@pytest.mark.parametrize(
    ("text", "name", "variables", "named"),
    [
        ("∀ n : Nat, n = n", "requirement", ("n",), ()),
        ("∀ (a b : Nat) (c : Int), a = a", "requirement", ("a", "b", "c"), ()),
        ("∀ a b, a + b = b + a", "requirement", ("a", "b"), ()),
        ("1 = 1", "requirement", (), ()),
        ("theorem foo (n m : Nat) : n = n := by sorry", "foo", (), ("n", "m")),
        ("theorem foo : ∀ n : Nat, n = n := sorry", "foo", ("n",), ()),
        ("example (n : Nat) : n = n", "requirement", (), ("n",)),
        ("theorem a.b' {T : Type} (l : List T) : l = l", "a.b'", (), ("T", "l")),
    ],
)
def test_a_statement_knows_its_variables(
    text: str, name: str, variables: tuple[str, ...], named: tuple[str, ...]
) -> None:
    """Induction needs names: those of a leading ∀ and those of a theorem's parameters."""
    found = statement_of(Requirement(text=text))

    assert found is not None
    assert (found.name, found.variables, found.named) == (name, variables, named)


@given(st.lists(st.sampled_from((*NAMES, *GROUPS)), max_size=6))
def test_only_what_was_asked_for_is_tried(names: list[str]) -> None:
    """Strategies keep their order; a group stands for its members."""
    wanted = known_strategies(names)
    tried = [row.strategy.split()[0] for row in attempts(wanted, variables=("n",), named=())]

    assert set(tried) == (set(wanted) if wanted else set(NAMES))
    assert known_strategies(",".join(names) or None) == wanted


@pytest.mark.parametrize("given_", ["nuclear", ["rfl", 3], 7, ["rm -rf /"]])
def test_an_unknown_strategy_is_refused(given_: Json) -> None:
    """A strategy is a name that is known; nothing else becomes Lean text."""
    with pytest.raises(UsageError, match="strateg"):
        known_strategies(given_)


def test_tactics_prove_and_refute(lean: Resident) -> None:
    """The portfolio proves, refutes, or says that it did neither, and shows what was checked."""
    rows = ask(
        lean,
        {"requirement_text": "∀ (a b : Nat), a + b = b + a"},
        {"requirement": "1 = 2"},
        {"requirement_text": "theorem named (n : Nat) : n + 0 = n"},
        {"requirement_text": "∀ n, double n = n + n", "context": {"lean": DOUBLE}},
        {"requirement_text": "∃ n : Nat, n * n = 1764", "strategies": "rfl,simp"},
        {"requirement_text": "Fancy.Module = 1", "context": {"imports": ["No.Such"]}},
    )

    assert [(row["status"], row["limit"]) for row in rows] == [
        ("proved", ""),
        ("rejected", ""),
        ("proved", ""),
        ("proved", ""),
        ("inconclusive", "no_proof_found"),
        ("inconclusive", "missing_import"),
    ]
    assert rows[0]["theorems"][0]["statement"] == "∀ (a b : Nat), a + b = b + a"
    assert rows[0]["certificate"]["code"] == rows[0]["formal"]["code"]
    assert "negation" in rows[1]["reason"]
    assert "¬" in rows[1]["formal"]["code"]
    assert rows[1]["certificate"] is None
    assert rows[2]["theorems"][0]["name"] == "named"
    assert rows[3]["formal"]["by"] == "induction on n"


def test_words_are_never_proved_without_a_model(lean: Resident) -> None:
    """Words, and text that only looks like Lean, are inconclusive, with guidance."""
    rows = ask(
        lean,
        {"requirement_text": WORDS},
        {"requirement_text": "Nat"},
        {"requirement_text": "p"},
        {"requirement_text": "True) := trivial\ntheorem x : (1 = 2"},
    )

    assert {(row["status"], row["limit"]) for row in rows} == {
        ("inconclusive", "needs_formalisation")
    }
    assert all("SCILLM_CERTAINLY_MODEL" in row["reason"] for row in rows)


class Script:
    """A provider that gives its answers one after the other, and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def complete(self, request: ChatRequest, /) -> Completion:
        self.asked.append(str(request.messages[-1]["content"]))
        text = f"Here it is:\n```lean\n{self.answers.pop(0)}\n```"
        message = ChatMessage(content=text)
        return Completion(id="x", created=0, model="m", choices=[Choice(message=message)])


STATED = (
    "theorem requirement (a b : Nat) (h : a % 2 = 0) (k : b % 2 = 0) : (a + b) % 2 = 0 := sorry"
)


def test_a_model_formalises_and_tactics_prove(lean: Resident) -> None:
    """The model's statement is read by Lean first, shown, and marked as the model's."""
    script = Script("theorem requirement (a : Even) : a = a := sorry", STATED)
    model = Model(provider=script, name="m", attempts=3)
    (row,) = ask(lean, {"requirement_text": WORDS}, model=model)

    assert row["status"] == "proved"
    assert row["formal"]["statement_by_model"] is True
    assert row["formal"]["proof_by_model"] is False
    assert "a % 2 = 0" in row["formal"]["statement"]
    assert row["caveats"][0].startswith("model_statement")
    assert "Even" in script.asked[1]


def test_the_command_marks_what_a_model_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    """The formal statement of words is shown with its mark, also where no proof was found."""
    formal = {"statement": STATED, "statement_by_model": True, "by": "", "code": ""}
    show_formal(ProofVerdict(id="a", status="inconclusive", formal=formal))
    unproved = capsys.readouterr().out
    proved = {**formal, "by": "omega", "code": f"{STATED} := by\n  omega\n"}
    show_formal(ProofVerdict(id="a", status="proved", formal=proved))
    shown = capsys.readouterr().out

    assert unproved.splitlines()[0].startswith("a model wrote the formal statement")
    assert unproved.splitlines()[1] == STATED
    assert shown.startswith(unproved)
    assert "by omega, in 0.00 s:" in shown


def test_a_models_proof_is_held_to_the_statement(lean: Resident) -> None:
    """A proof of something else, or with a gap, is repaired with Lean's own words or refused."""
    goal = "∃ n : Nat, n * n = 1764"
    head = f"theorem requirement : (\n{goal}\n)"
    script = Script(
        "theorem requirement : True := trivial", f"{head} := sorry", f"{head} := ⟨42, rfl⟩"
    )
    model = Model(provider=script, name="m", attempts=5)
    (row,) = ask(lean, {"requirement_text": goal, "strategies": ["rfl"]}, model=model)

    assert row["status"] == "proved"
    assert row["formal"]["by"] == "m"
    assert row["formal"]["proof_by_model"] is True
    assert row["formal"]["statement_by_model"] is False
    assert row["reference"] == [{"name": "requirement", "same": True, "detail": ""}]
    assert "mismatch" in script.asked[1]
    assert "∃ n" in script.asked[2]


def test_flags_keep_the_model_out(lean: Resident) -> None:
    """With --no-llm nobody is asked, whatever is configured."""
    script = Script()
    model = Model(provider=script, name="m")
    (row,) = ask(lean, {"requirement_text": WORDS}, model=model, flags=["--no-llm"])

    assert row["limit"] == "needs_formalisation"
    assert script.asked == []


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"requirement_text": ""}, "not empty"),
        ({"requirement_text": 3}, "must be text"),
        ({"requirement_text": "x", "context": 3}, "mapping"),
        ({"requirement_text": "x", "context": {"imports": ["a b"]}}, "module"),
        ({"requirement_text": "x", "context": {"lean": 3}}, "context.lean"),
        ({"requirement_text": "x", "strategies": ["y"]}, "unknown strategy"),
    ],
)
def test_a_requirement_that_is_none_fails_alone(
    lean: Resident, item: Mapping[str, Json], says: str
) -> None:
    """A malformed requirement says what is wrong with it; its neighbour is proved."""
    rows = ask(lean, item, {"requirement_text": "1 = 1"})

    assert (rows[0]["status"], rows[0]["limit"]) == ("inconclusive", "malformed")
    assert says in rows[0]["reason"]
    assert rows[1]["status"] == "proved"
    assert json.dumps(rows)
