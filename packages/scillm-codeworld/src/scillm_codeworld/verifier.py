"""Claims that a program passes its checks, tested by running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve
from scillm.records import Verdict
from scillm.runs.canonical import digest
from scillm.runs.record import MemoryRecord

from scillm_codeworld.engine.asking import fault_of
from scillm_codeworld.engine.bench import CASE, Bench
from scillm_codeworld.engine.slots import Slots
from scillm_codeworld.engine.trying import program_of
from scillm_codeworld.items import parse_items
from scillm_codeworld.record.cases import NOTHING_RUN
from scillm_codeworld.records import (
    MEMORY,
    OK,
    OUTPUT_LIMIT,
    SANDBOX_REFUSED,
    TIMEOUT,
    BadItem,
    Execution,
    Item,
)
from scillm_codeworld.sandbox import Sandbox, open_sandbox

if TYPE_CHECKING:
    from scillm.records import Claim, Json, Limits

KEYS = frozenset({"code", "inputs", "expected", "entry", "tolerance", "comparison", "check"})
UNDECIDED = frozenset({TIMEOUT, MEMORY, OUTPUT_LIMIT, SANDBOX_REFUSED})
"""Ends that tell about the limits given, or about us, and so do not refute a claim."""


class CodeVerifier:
    """Checks claims {"code", "inputs", "expected" or "check", optional "entry", "tolerance"…}.

    A claim holds when every case ran and passed. It does not when an answer is wrong or the
    program fails by itself. It is undecided when it ran into the limits, when it could not be run,
    or when it is malformed; the status says which.
    """

    async def verify(self, claims: Sequence[Claim], /, *, limits: Limits) -> Sequence[Verdict]:
        """One verdict per claim, in order. `limits.time_s` is for all cases of a claim together."""
        async with open_sandbox() as sandbox:
            return [await checked(claim, limits, sandbox) for claim in claims]


async def checked(claim: Claim, limits: Limits, sandbox: Sandbox) -> Verdict:
    """Run the claim's program case by case until one does not pass."""
    item = item_of(claim)
    if isinstance(item, BadItem):
        return Verdict(claim_id=claim.id, holds=None, status="malformed", reason=item.reason)
    variant = item.variants[0]
    bench = Bench(sandbox.run, MemoryRecord(), Slots(1), item=item.id)
    evidence: dict[str, Json] = {
        "cases": len(item.inputs),
        "code_digest": digest(variant.code),
        "isolation": sandbox.level,
    }
    left_s = limits.time_s
    outputs: list[Json] = []
    for case, value in enumerate(item.inputs):
        run = await bench.ask(
            program_of(item, variant), value, evolve(limits, time_s=left_s), purpose=CASE
        )
        fault = await fault_of(bench, item, run, value, case, limits)
        if fault is not None:
            return Verdict(
                claim_id=claim.id,
                holds=None if run.status in UNDECIDED else False,
                status="wrong" if run.status == OK else run.status,
                reason=f"case {case + 1} of {len(item.inputs)}: {fault}",
                evidence={**evidence, "right": case, "isolation": isolation_of(run)},
            )
        outputs.append(run.output)
        left_s -= (run.load_s or 0.0) + (run.wall_s or 0.0)
        if left_s <= 0 and case + 1 < len(item.inputs):
            return Verdict(
                claim_id=claim.id,
                holds=None,
                status=TIMEOUT,
                reason=f"{limits.time_s:g} s were used up after {case + 1} of "
                f"{len(item.inputs)} cases, all right",
                evidence={**evidence, "right": case + 1},
            )
    return Verdict(
        claim_id=claim.id,
        holds=True,
        status=OK,
        evidence={**evidence, "right": len(outputs), "outputs_digest": digest(outputs)},
    )


def isolation_of(run: Execution) -> str:
    """The level a program was run at."""
    return str(run.isolation.get("level", NOTHING_RUN)) if run.isolation else NOTHING_RUN


def item_of(claim: Claim) -> Item | BadItem:
    """The claim as an item with one variant, checked by the same rules."""
    statement = claim.statement
    named = set(statement) if isinstance(statement, Mapping) else set()
    if not {"code", "inputs"} <= named or not named & {"expected", "check"}:
        reason = "a claim about code must hold code, inputs, and expected or check"
        return BadItem(id="claim", index=0, reason=reason)
    odd = sorted(str(key) for key in statement if key not in KEYS)
    if odd:
        reason = f"the claim has the unknown key {odd[0]!r}; known are {', '.join(sorted(KEYS))}"
        return BadItem(id="claim", index=0, reason=reason)
    context = {key: value for key, value in statement.items() if key != "code"}
    context["code_variants"] = {"program": statement["code"]}
    return parse_items([{"id": "claim", "task": "claim", "context": context}])[0]
