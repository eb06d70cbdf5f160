"""The item's own code, its check and its scorer, asked in a sandbox of their own on plain JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm_codeworld.engine.bench import CHECK, SCORE
from scillm_codeworld.judge.score import AGGREGATE, is_right
from scillm_codeworld.plain import is_number, shown
from scillm_codeworld.records import OK, Execution, Item, Program

if TYPE_CHECKING:
    from scillm.records import Json, Limits

    from scillm_codeworld.engine.bench import Bench

ENTRY = "_codeworld_asked"
CHECK_TAIL = (
    f"\n\ndef {ENTRY}(asked):\n"
    "    return check(asked['input'], asked['expected'], asked['output'])\n"
)
SCORE_TAIL = (
    "\n\ndef {entry}(asked):\n"
    "    return {score}(asked['task'], asked['context'], asked['outputs'], asked['timings'])\n"
)
STILL_MS = 1.0
"""What a search's scorer is told of every duration: a search never depends on a clock."""
DURING = 0
AFTER = 1


async def fault_of(
    bench: Bench, item: Item, run: Execution, value: Json, case: int, limits: Limits
) -> str | None:
    """Why this execution is not right, or None. The check sees input, answer and expected only."""
    if run.status != OK or item.check is None:
        return is_right(run, item, case)
    expected = None if item.expected is None else item.expected[case]
    program = Program(code=item.check + CHECK_TAIL, entry=ENTRY)
    asked = {"input": value, "expected": expected, "output": run.output}
    found = await bench.ask(program, asked, limits, purpose=CHECK)
    if found.status != OK:
        return f"the check itself ended {found.status}: {found.reason}"
    if found.output is True or (is_number(found.output) and found.output == 1):
        return None
    return f"the check says {shown(found.output)} of the answer {shown(run.output)}"


async def scores_of(
    bench: Bench, item: Item, runs: Sequence[Execution], limits: Limits, *, wall_s: Sequence[float]
) -> tuple[Mapping[str, float], str]:
    """What the scorer gives for these answers, and why it does not count ("" when it does).

    `wall_s` are the times of the cases; without any (in a search) every one is STILL_MS.
    """
    if item.scoring is None:
        return {}, ""
    times = list(wall_s) or [STILL_MS / 1000] * len(runs)
    outputs = [run.output for run in runs]
    asked = {
        "task": item.task,
        "context": dict(item.context),
        "outputs": {"result": outputs[0], "results": outputs},
        "timings": {"duration_ms": 1000 * sum(times), "wall_s": times},
    }
    tail = SCORE_TAIL.format(entry=ENTRY, score=item.scoring.entry)
    program = Program(code=item.scoring.code + tail, entry=ENTRY)
    found = await bench.ask(
        program, asked, limits, purpose=SCORE, repeat=AFTER if wall_s else DURING
    )
    if found.status != OK:
        return {}, f"the scorer ended {found.status}: {found.reason}"
    return read_scores(found.output)


def read_scores(answer: Json) -> tuple[Mapping[str, float], str]:
    """A scorer's answer as finite numbers by name, or why it is none. `aggregate` is filled in."""
    parts = {AGGREGATE: answer} if is_number(answer) else answer
    if not isinstance(parts, Mapping) or not parts:
        return {}, f"the scorer must return numbers by name, but returned {shown(answer)}"
    for name, value in parts.items():
        if not is_number(value) or not math.isfinite(value):
            return {}, f"the scorer's {name!r} must be a finite number, but is {shown(value)}"
    scores = {name: float(value) for name, value in parts.items()}
    scores.setdefault(AGGREGATE, sum(scores.values()) / len(scores))
    return scores, ""
