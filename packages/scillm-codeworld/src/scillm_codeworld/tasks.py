"""Programming tasks for `scillm.solve`: the runner's contract asked of the model, checked here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm.errors import UsageError
from scillm.records import Limits
from scillm.search.tasks import Task, complaint_of, fenced

from scillm_codeworld.generate.contract import Place, head_of, runner_contract
from scillm_codeworld.items import parse_items
from scillm_codeworld.records import BadItem
from scillm_codeworld.sandbox.levels import strictest
from scillm_codeworld.settings import isolation_settings

if TYPE_CHECKING:
    from scillm.records import Json, Verdict

SHOWN_INPUTS = 3
FORM = "Answer with the whole program in one fenced block, and nothing else in fences."
SLOT = "code"


def code_task(
    text: str,
    *,
    inputs: Sequence[Json],
    expected: Sequence[Json] | None = None,
    limits: Limits | None = None,
    **checks: Json,
) -> Task:
    """A task whose answer is a program, to be verified by `codeworld`.

    `checks` are the claim's: `check`, `entry`, `tolerance`, `comparison`. The model is told the
    text, the runner's contract and some inputs. Of a refuted program it is told the input of the
    first bad case and how the program ended, and never an expected answer. Raises `UsageError` for
    what cannot be checked.
    """
    cases = list(inputs)
    statement: dict[str, Json] = {"inputs": cases, **checks}
    if expected is not None:
        statement["expected"] = list(expected)
    (item,) = parse_items([{"task": text, "context": statement}], generated=True)
    if isinstance(item, BadItem):
        raise UsageError(f"This cannot be checked: {item.reason}.")
    if not item.gated:
        raise UsageError("A program can only be verified against expected answers or a check.")
    required = strictest(None, isolation_settings().get("codeworld_isolation"))
    place = Place(limits=limits or Limits(), level=required or "")
    contract = runner_contract(item.entry, place)
    shown = "\n".join(head_of(value) for value in cases[:SHOWN_INPUTS])

    def complain(verdict: Verdict) -> str:
        return complaint(verdict, cases)

    return Task(
        text=f"{text}\n\nSome of the inputs, one JSON value each:\n{fenced(shown)}",
        statement=statement,
        slot=SLOT,
        system=f"You write Python programs. {contract} {FORM}",
        complain=complain,
    )


def complaint(verdict: Verdict, inputs: Sequence[Json]) -> str:
    """What a model may know of a verdict: the input and the program's own end, not the answer."""
    case = verdict.evidence.get("right") if isinstance(verdict.evidence, Mapping) else None
    where = ""
    if isinstance(case, int) and case < len(inputs):
        where = f"On the input {head_of(inputs[case])} "
    if verdict.status == "wrong":
        return f"{where}the program's answer is not right."
    return f"{where}the program ended so: {complaint_of(verdict)}"
