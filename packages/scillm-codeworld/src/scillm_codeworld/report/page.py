"""One self-contained HTML page of a run. It has no script, and loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scillm_codeworld.report import figures
from scillm_codeworld.report.markup import Markup, joined, tag
from scillm_codeworld.report.programs import best_program, failures, written_by_model
from scillm_codeworld.report.story import ends_of, names_of, repeats_of, tree_of
from scillm_codeworld.report.style import SHEET
from scillm_codeworld.report.tables import archive, facts, number, part, ranking
from scillm_codeworld.report.text import closing, isolation, seconds, totals

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_codeworld.report.story import Story

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
GOOD = frozenset({"solved"})


def page(story: Story) -> str:
    """The whole document. Everything that came from people, models or programs is escaped."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"CodeWorld {story.run_id}"),
        tag("style", Markup(SHEET)),
    )
    items = [_item(story, result, number) for number, result in enumerate(story.results)]
    body = tag("body", tag("main", _top(story), *items))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _top(story: Story) -> Markup:
    observed = (story.environment.get("codeworld") or {}).get("isolation") or {}
    everyone = [row for result in story.results for row in result["variants"]]
    level = isolation(story.results)
    good = level in ("L3", "L4", "wasm")
    rows: list[tuple[str, Json]] = [
        ("seed", story.seed),
        ("strategy", story.options.get("strategy")),
        ("width", story.options.get("width")),
        ("limits", f"{story.options.get('timeout_s')} s, {story.options.get('memory_mb')} MB"),
        *((part, observed[part]) for part in ("fs", "net", "procs", "mem", "kill")
          if observed.get(part)),
        ("isolation asked", observed.get("asked") or "the best there is"),
        ("why no higher level", observed.get("why")),
        ("python", story.environment.get("python")),
        ("platform", story.environment.get("platform")),
        ("record", story.record.get("head")),
    ]  # fmt: skip
    toc = tag("ol", *(tag("li", tag("a", _id(row), href=f"#item-{number}"), " ", _badge(row))
                      for number, row in enumerate(story.results)), class_="toc")  # fmt: skip
    return joined(
        tag("h1", "CodeWorld report"),
        tag("p", f"Run {story.run_id}, {story.created}", class_="dim"),
        tag(
            "p",
            tag("span", totals(story.summary), class_="badge plain"),
            " ",
            tag("span", f"isolation observed: {level}",
                class_="badge good" if good else "badge bad"),
        ),
        tag("div", figures.statuses(ends_of(everyone)), class_="scroll"),
        tag("details", tag("summary", "How it was run"), facts(rows)),
        toc if len(story.results) > 1 else None,
    )  # fmt: skip


def _item(story: Story, result: Mapping[str, Json], number: int) -> Markup:
    search = result.get("search") or {}
    variants = result["variants"]
    timed = [(row["id"], repeats_of(row)) for row in variants]
    return tag(
        "section",
        tag("div", tag("h2", _id(result)), _badge(result), class_="head"),
        tag("p", str(result.get("task", "")), class_="task"),
        tag("p", closing(result), class_="best-line"),
        ranking(result) if variants else None,
        part("Programs by status", figures.statuses(ends_of(variants))) if variants else None,
        _search(result, search) if search.get("trials") else None,
        part("Time of each repeat, all cases together",
              figures.timings([row for row in timed if row[1]]),
              _noise(result)) if any(times for _, times in timed) else None,
        best_program(story, result),
        written_by_model(result),
        failures(story, variants),
        class_="item",
        id=f"item-{number}",
    )  # fmt: skip


def _search(result: Mapping[str, Json], search: Mapping[str, Json]) -> Markup:
    control, names = search.get("baseline"), names_of(result)
    spent = search.get("spent") or {}
    rows: list[tuple[str, Json]] = [
        ("strategy", search.get("strategy")),
        ("parameters", search.get("params") or None),
        ("seed, width", f"{search.get('seed')}, {search.get('width')}"),
        ("stopped by", search.get("stopped")),
        ("spent", ", ".join(f"{name} {value:g}" for name, value in spent.items() if value)),
        ("running everything", f"{search.get('exhaustive_executions')} executions"),
        ("best of the search", _named(search, names)),
    ]
    if control:
        told = f"{_named(control, names)} after {control['executions']} executions"
        rows.append(("control, same budget", f"{control['strategy']}: {told}"))
    islands = (search.get("report") or {}).get("islands")
    return joined(
        part("Search", facts(rows)),
        part("Best score over executions", figures.curve(search, control)),
        part("Tree with its counts", figures.tree(tree_of(search), names)),
        part("Archive", archive(islands, names)) if islands else None,
    )


def _noise(result: Mapping[str, Json]) -> Markup | None:
    floor = result.get("noise_floor_s")
    if floor is None:
        return None
    return tag("p", f"Times closer than {seconds(floor)} are called the same.", class_="note")


def _badge(result: Mapping[str, Json]) -> Markup:
    kind = "good" if result["status"] in GOOD else "bad"
    return tag("span", result["status"], class_=f"badge {kind}")


def _id(result: Mapping[str, Json]) -> str:
    return str(result["item_id"])


def _named(found: Mapping[str, Json], names: Mapping[str, str]) -> str:
    best = found.get("best")
    return (
        "none" if best is None else f"{names.get(best, best)} ({number(found.get('best_score'))})"
    )
