"""From what clients of the earlier bridge write to a job of today, and back to what they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import field, frozen
from scillm.errors import UsageError

from scillm_codeworld.options import NAMES, SUGAR

if TYPE_CHECKING:
    from scillm.records import Json

SESSION = ("session_id", "track_id")
JUDGES = {"weighted": "weighted", "lex": "lexicographic", "lexicographic": "lexicographic"}
LEXICAL = ("correctness", "speed", "brevity")
"""What `aggregate_judge_lex` lists, in this order."""
WITHOUT_EFFECT = {
    "iterations": "a variant is run once per case and repeat",
    "timeout_ms": "a search is bounded by rollouts and executions, not by a clock",
    "messages": "the items say what to do",
}
"""Arguments of the earlier bridge that change nothing here, and why."""


@frozen(kw_only=True)
class Asked:
    """A job as a client means it."""

    items: Sequence[Json]
    options: Mapping[str, Json]
    session: Mapping[str, Json]
    notes: Sequence[str] = field(factory=tuple)
    """What was not taken as it was written."""


def read_asked(items: Sequence[Json], given: Mapping[str, Json]) -> Asked:
    """The items and options of a request; `UsageError` for an argument nobody knows."""
    rest = {name: value for name, value in given.items() if value is not None}
    session = {name: rest.pop(name, None) for name in SESSION}
    rest.pop("max_seconds", None)  # the server sees to it
    notes = []
    for name, why in WITHOUT_EFFECT.items():
        if rest.pop(name, None):
            notes.append(f"{name} has no effect: {why}")
    if not rest.get("allowed_languages", True):
        del rest["allowed_languages"]
    _judge(rest)
    scoring = rest.pop("scoring", None)
    found = [_item(item, scoring, notes) for item in items]
    odd = sorted(set(rest) - {*NAMES, *SUGAR})
    if odd:
        raise UsageError(
            f"CodeWorld has no argument {odd[0]!r}; it has {', '.join(sorted({*NAMES, *SUGAR}))}."
        )
    return Asked(items=found, options=rest, session=session, notes=tuple(dict.fromkeys(notes)))


def _judge(rest: dict[str, Json]) -> None:
    """`judge: true` with `judge_mode` in the words of today."""
    mode, judge = rest.pop("judge_mode", None), rest.get("judge")
    if mode is not None and mode not in JUDGES:
        raise UsageError(f"judge_mode must be weighted or lex, but is {mode!r}.")
    if judge is True:
        rest["judge"] = JUDGES[mode or "weighted"]
    elif judge is False:
        del rest["judge"]
    elif judge is None and mode is not None:
        rest["judge"] = JUDGES[mode]
    elif mode is not None:
        raise UsageError(f"judge is {judge!r} and judge_mode is {mode!r}; give one.")


def _item(item: Json, scoring: Json, notes: list[str]) -> Json:
    """An item with `xs` as its input, and the request's scorer where it has none of its own."""
    if not isinstance(item, Mapping) or not isinstance(item.get("context"), Mapping):
        return item
    context = dict(item["context"])
    if "xs" in context:
        xs = context.pop("xs")
        if {"input", "inputs"} & set(context):
            notes.append("context.xs has no effect beside input or inputs")
        else:
            context["input"] = xs
    if context.pop("tool_invocations", None):
        notes.append("context.tool_invocations has no effect: no variant is told of it")
    found = {**item, "context": context}
    if scoring is not None and "scoring" not in found and "scoring" not in context:
        found["scoring"] = scoring
    return found


def familiar_result(
    result: Mapping[str, Json], item: Json, *, judge: Json = None
) -> dict[str, Json]:
    """A result with the keys that clients of the earlier bridge read, of its best variant.

    Where a `judge` was asked for, with his as well. Unlike there, nothing stands in for what did
    not happen: without a best variant they are empty.
    """
    variants = result.get("variants", [])
    best = next((row for row in variants if row["id"] == result.get("best")), None)
    named = item if isinstance(item, Mapping) else {}
    context = named.get("context")
    codes = context.get("code_variants") if isinstance(context, Mapping) else None
    found: dict[str, Json] = {**result, "item": item, "scores": {}, "outputs": {}, "timings": {}}
    if isinstance(codes, Mapping):
        found["code_variants"] = [{"id": name, "code": code} for name, code in codes.items()]
    if best is None:
        return found
    scores = {name: value for name, value in best["scores"].items() if value is not None}
    first = best["executions"][0] if best["executions"] else {}
    return {
        **found,
        "scores": {**scores, "aggregate": best["aggregate"]},
        **_judged(scores, best["aggregate"], judge),
        "outputs": {"result": first.get("output")},
        "timings": {"duration_ms": None if best["wall_s"] is None else best["wall_s"] * 1000.0},
    }


def _judged(scores: Mapping[str, Json], aggregate: Json, judge: Json) -> dict[str, Json]:
    mode = judge.get("mode", "weighted") if isinstance(judge, Mapping) else judge
    found: dict[str, Json] = {} if mode is None else {"scores_judge": dict(scores)}
    if mode == "weighted":
        found["aggregate_judge"] = aggregate
    if mode == "lexicographic":
        found["aggregate_judge_lex"] = [scores.get(name) for name in LEXICAL]
    return found
