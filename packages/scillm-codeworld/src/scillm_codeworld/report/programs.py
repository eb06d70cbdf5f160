"""The programs in a report: the best one beside its parent, what a model wrote, what failed."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm_codeworld.report.markup import Markup, joined, tag
from scillm_codeworld.report.story import failures_of, parent_of
from scillm_codeworld.report.tables import facts, part

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_codeworld.report.story import Story

HEADER_LINES = 2
SHOWN_FAILURES = 3
SHOWN_CODE_CHARS = 60_000
SHOWN_CHARS = 4_000


def best_program(story: Story, result: Mapping[str, Json]) -> Markup | None:
    """The best program's code, as a difference from the one it was made from, if any."""
    best = next((row for row in result["variants"] if row["id"] == result["best"]), None)
    if best is None:
        return None
    code = story.code_of(best)
    if code is None:
        return part("The best program", tag("p", "Its code is not in the record.", class_="note"))
    parent = parent_of(best, result)
    before = None if parent is None else story.code_of(parent)
    if parent is None or before is None:
        why = f"{best['id']} was not made from another program, so there is nothing to compare."
        return joined(tag("h3", "The best program"), tag("p", why, class_="note"), _code(code))
    title = f"The best program, {best['id']}, beside its parent, {parent['id']}"
    return joined(tag("h3", title), _diff(before, code, parent["id"], best["id"]),
                  tag("details", tag("summary", "The whole program"), _code(code)))  # fmt: skip


def _diff(before: str, after: str, one: str, other: str) -> Markup:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), fromfile=one, tofile=other, lineterm="", n=3
    )
    kinds = {"+": "add", "-": "del", "@": "at"}
    shown = [
        tag("span", line, class_="at" if place < HEADER_LINES else kinds.get(line[:1]))
        for place, line in enumerate(lines)
    ]
    return tag("pre", *shown) if shown else tag("p", "The two are the same.", class_="note")


def written_by_model(result: Mapping[str, Json]) -> Markup | None:
    """What a model was asked for, and what of its answer could be used."""
    account = result.get("strategy_generator")
    if not account:
        return None
    rejected = "; ".join(f"{row['id']}: {row['reason']}" for row in account["rejected"])
    rows: list[tuple[str, Json]] = [
        ("model", account["model"]),
        ("asked for", account["n"]),
        ("usable", len(account["valid"])),
        ("missing", account["missing"]),
        ("rejected", rejected),
        ("problem", account["error"]),
        ("tokens of this call", f"{account['tokens']:g}"),
        ("its cost", None if account["usd"] is None else f"{account['usd']:.6g} USD"),
        ("prompt", account["prompt_hash"]),
        ("answer", account["response_hash"]),
    ]
    return part("Programs written by a model", facts(rows))


def failures(story: Story, variants: Sequence[Mapping[str, Json]]) -> Markup | None:
    """Every program that failed or was wrong: its first bad cases with input and traceback."""
    found = [(row, failures_of(row)) for row in variants]
    shown = [_failed(story, row, cases) for row, cases in found if cases]
    return joined(tag("h3", "Failures"), *shown) if shown else None


def _failed(story: Story, row: Mapping[str, Json], cases: Sequence[Mapping[str, Json]]) -> Markup:
    parts: list[Markup] = []
    for case in cases[:SHOWN_FAILURES]:
        parts.append(tag("p", f"Case {case['case']}, {case['status']}: {case['reason']}"))
        parts += [
            joined(tag("p", name, class_="note"), tag("pre", _cut(text, SHOWN_CHARS)))
            for name, text in _quoted(case)
        ]
    if len(cases) > SHOWN_FAILURES:
        more = f"{len(cases) - SHOWN_FAILURES} more cases failed."
        parts.append(tag("p", more, class_="note"))
    code = story.code_of(row)
    if code is not None:
        parts.append(tag("details", tag("summary", "The program"), _code(code)))
    summary = tag("summary", f"{row['id']} ", tag("span", row["reason"], class_="dim"))
    return tag("details", summary, *parts)


def _quoted(case: Mapping[str, Json]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, title in (("input", "input"), ("output", "its answer")):
        if name in case:
            rows.append((title, json.dumps(case[name], ensure_ascii=False)))
    rows += [(name, case[name]) for name in ("stdout", "stderr") if case.get(name)]
    return rows


def _code(code: str) -> Markup:
    return tag("pre", _cut(code, SHOWN_CODE_CHARS))


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[:most]}\n… cut here: {len(text)} characters in all"
