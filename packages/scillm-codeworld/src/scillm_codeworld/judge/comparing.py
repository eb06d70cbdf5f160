"""Judging one item: the rule ranks what was measured, and a model may order what is left tied."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, TypeAlias

from attrs import evolve
from scillm.errors import ScillmError
from scillm.runs.canonical import digest
from scillm.runs.record import OUTSIDE, RecordDiffersError

from scillm_codeworld.judge.opinion import (
    DISAGREE,
    SCHEMA,
    Pair,
    messages,
    points,
    read_choice,
    settled,
)
from scillm_codeworld.judge.score import judged

if TYPE_CHECKING:
    from scillm.records import Json
    from scillm.runs.record import Record

    from scillm_codeworld.judge.rule import Rule
    from scillm_codeworld.records import Item, Judged, Trace

Ask: TypeAlias = "Callable[[str, Sequence[Mapping[str, Json]], Mapping[str, Json]], Awaitable[str]]"
"""Asks a model: its name, the messages, the JSON schema of the answer; the answer's text."""
MOST = 5
"""Tied variants that are compared in pairs; more of them stay tied, and the result says so."""


async def ask_model(
    model: str,
    asked: Sequence[Mapping[str, Json]],
    schema: Mapping[str, Json],
    *,
    api_base: str | None = None,
    api_key: str | None = None,
) -> str:
    """Ask through the core's Router, at temperature 0."""
    from scillm import acompletion

    answer = await acompletion(
        model=model,
        api_base=api_base,
        api_key=api_key,
        messages=[dict(message) for message in asked],
        temperature=0,
        response_mode="plain",  # the verdict is read, and its faults are kept, below
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "verdict", "strict": True, "schema": dict(schema)},
        },
    )
    return str(answer.text)


async def compared(
    item: Item,
    traces: Sequence[Trace],
    rule: Rule,
    *,
    record: Record,
    ask: Ask | None = None,
) -> tuple[list[Judged], Mapping[str, Json] | None]:
    """The ranked variants, and what the model said, if it was asked anything."""
    rows = judged(item, traces, rule)
    tied = [row for row in rows if row.rank == 1 and _passed(item, row)]
    if rule.model is None or len(tied) < 2:
        return rows, None
    if len(tied) > MOST:
        return rows, {"model": rule.model, "skipped": f"{len(tied)} are tied; at most {MOST}"}
    pairs = [
        await _pair(item, first, second, rule.model, record, ask or ask_model)
        for first, second in combinations(tied, 2)
    ]
    won = points(pairs)
    ranked = [
        evolve(row, rank=1 + sum(won[other.variant.id] > won[row.variant.id] for other in tied))
        if row in tied
        else row
        for row in rows
    ]
    opinion = {
        "model": rule.model,
        "pairs": [pair.to_dict() for pair in pairs],
        "points": won,
        "note": "a model ordered what everything measured left tied",
    }
    return sorted(ranked, key=lambda row: (row.rank or len(rows) + 1, row.variant.id)), opinion


def _passed(item: Item, row: Judged) -> bool:
    return row.correctness == 1.0 or (not item.gated and row.aggregate is not None)


async def _pair(
    item: Item, first: Judged, second: Judged, model: str, record: Record, ask: Ask
) -> Pair:
    """Both orders asked; only an answer that survives the swap counts."""
    choices: list[str] = []
    problems: list[str] = []
    for one, other in ((first, second), (second, first)):
        asked = messages(item.task, one.variant.code, other.variant.code)
        key = f"{OUTSIDE}judge/{digest({'model': model, 'messages': asked})}"
        answer = await _answer(key, model, asked, record, ask)
        choice, problem = read_choice(answer)
        choices.append(choice)
        problems += [problem] if problem else []
    swapped = {"first": "second", "second": "first"}.get(choices[1], choices[1])
    verdict = settled(choices[0], swapped)
    return Pair(
        first=first.variant.id,
        second=second.variant.id,
        verdict=verdict,
        reason="; ".join(problems) if verdict == DISAGREE else "",
    )


async def _answer(
    key: str, model: str, asked: Sequence[Mapping[str, Json]], record: Record, ask: Ask
) -> Mapping[str, Json]:
    kept = record.known(key)
    if kept is not None:
        return dict(kept)
    if record.sealed:
        raise RecordDiffersError(f"The record has no answer of the judge {model!r} to {key}.")
    try:
        found: dict[str, Json] = {"text": await ask(model, asked, SCHEMA)}
    except ScillmError as error:  # a judge that is away leaves a tie; it fails nobody's run
        found = {"text": "", "error": error.message}
    record.put(list(asked))
    record.keep(key, found)
    return found
