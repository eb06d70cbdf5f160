"""The tables of a report: the ranking, an archive, facts by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from scillm_codeworld.record.cases import NOTHING_RUN
from scillm_codeworld.records import NOT_RUN
from scillm_codeworld.report.markup import Markup, joined, tag
from scillm_codeworld.report.text import NONE, right_of, seconds

if TYPE_CHECKING:
    from scillm.records import Json

SCORES = ("correctness", "robustness", "speed", "memory", "brevity")


def part(title: str, *children: Markup | None) -> Markup:
    """A part of the page under its title; what is wide scrolls by itself."""
    return joined(tag("h3", title), *(tag("div", child, class_="scroll") for child in children
                                      if child is not None))  # fmt: skip


def ranking(result: Mapping[str, Json]) -> Markup:
    """Every program, best first, with the scores that something was measured for."""
    rows = result["variants"]
    extra = sorted({name for row in rows for name in row["scores"]} - set(SCORES))
    scores = [
        name
        for name in (*SCORES, *extra)
        if any(row["scores"].get(name) is not None for row in rows)
    ]
    kept_back = any(row.get("report_right") is not None for row in rows)
    columns = ["rank", "program", "status", "right", *(["report cases"] if kept_back else [])]
    columns += [*scores, "aggregate", "time", "level"]
    body = []
    for row in rows:
        kind = "winner" if row["id"] == result["best"] else ""
        cells = _cells(row, result, scores, kept_back=kept_back)
        body.append(tag("tr", *cells, class_=f"{kind} asked" if row["reason"] else kind))
        if row["reason"]:
            why = tag("td", tag("span", row["reason"]), colspan=len(columns) - 1, class_="reason")
            body.append(tag("tr", tag("td"), why, class_=kind))
    return part("Ranking", table(columns, body))


def _cells(
    row: Mapping[str, Json], result: Mapping[str, Json], scores: Sequence[str], *, kept_back: bool
) -> list[Markup]:
    kind = {"ok": "good", NOT_RUN: "dim"}.get(row["status"], "bad")
    told = row.get("report_right")
    return [
        _numeric(row["rank"] or NONE),
        tag("td", row["id"], class_="name"),
        tag("td", tag("span", row["status"], class_=kind), class_="num"),
        _numeric(right_of(row)),
        *(
            [_numeric(NONE if told is None else f"{told}/{result['report_cases']}")]
            if kept_back
            else []
        ),
        *(_numeric(number(row["scores"].get(name))) for name in scores),
        _numeric(number(row["aggregate"])),
        _numeric(_time(row)),
        tag("td", NONE if row["isolation"] == NOTHING_RUN else row["isolation"]),
    ]


def _numeric(shown: str | int) -> Markup:
    return tag("td", shown, class_="num")


def _time(row: Mapping[str, Json]) -> str:
    shown = seconds(row["wall_s"])
    if row["wall_s"] is None or row.get("noise_s") is None:
        return shown
    return f"{shown} ± {seconds(row['noise_s'])}"


def table(columns: Sequence[str], body: Sequence[Markup]) -> Markup:
    """A table with these columns."""
    head = tag("thead", tag("tr", *(tag("th", name) for name in columns)))
    return tag("table", head, tag("tbody", *body))


def archive(islands: Sequence[Sequence[Mapping[str, Json]]], names: Mapping[str, str]) -> Markup:
    """The elites of every island, best first, with the cell each one holds."""
    body = [
        tag(
            "tr",
            _numeric(place + 1),
            tag("td", names.get(row["arm"], row["arm"])),
            _numeric(number(row["score"])),
            tag("td", ", ".join(f"{key} {value}" for key, value in row["cell"].items())),
        )
        for place, island in enumerate(islands)
        for row in sorted(island, key=lambda row: -row["score"])
    ]
    return table(("island", "program", "score", "cell"), body)


def facts(rows: Sequence[tuple[str, Json]]) -> Markup:
    """What is known, by name; empty values are left out."""
    shown = [
        joined(tag("dt", name), tag("dd", value if isinstance(value, str) else json.dumps(value)))
        for name, value in rows
        if value not in (None, "")
    ]
    return tag("dl", *shown)


def number(value: float | None) -> str:
    """A score as it is shown."""
    return NONE if value is None else f"{value:.3f}"
