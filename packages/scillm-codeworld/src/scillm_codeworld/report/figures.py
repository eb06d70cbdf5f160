"""Drawings of a report, as SVG: the tree with its counts, scores over budget, timings, statuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from scillm_codeworld.report.markup import Markup, joined, tag
from scillm_codeworld.report.text import seconds

if TYPE_CHECKING:
    from scillm.records import Json

    from scillm_codeworld.report.story import Node

ROW = 26
STEP = 26
WIDE = 640
MOST_NODES = 400
KINDS = {"right": "good", "ok": "good", "not_run": "none", "unfinished": "none"}


def svg(width: float, height: float, *children: Markup, label: str) -> Markup:
    """A drawing that shrinks to the width of its place."""
    return tag(
        "svg",
        tag("title", label),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        class_="figure",
        style=f"max-width:{width:g}px",
    )


def tree(root: Node, names: Mapping[str, str]) -> Markup:
    """One line per program, indented below what it was made from; a dot grows with its trials."""
    rows: list[tuple[Node, int, int]] = []
    waiting: list[tuple[Node, int, int]] = [(root, 0, -1)]
    while waiting and len(rows) < MOST_NODES:
        node, depth, parent = waiting.pop()
        place = len(rows)
        rows.append((node, depth, parent))
        waiting += [(child, depth + 1, place) for child in reversed(node.children)]
    deepest = max(depth for _, depth, _ in rows)
    most = max((node.n for node, _, _ in rows[1:]), default=1)
    edges: list[Markup] = []
    nodes: list[Markup] = []
    for place, (node, depth, parent) in enumerate(rows):
        x, y = 14 + depth * STEP, ROW * place + ROW / 2
        if parent >= 0:
            above = 14 + (depth - 1) * STEP
            top = ROW * parent + ROW / 2
            edges.append(tag("path", d=f"M{above} {top}V{y}H{x}", class_="edge"))
        nodes.append(_node(node, names, x, y, most=most, root=place == 0))
    height = ROW * len(rows)
    drawn = svg(
        max(WIDE, 14 + deepest * STEP + 420), height, *edges, *nodes, label="The search as a tree"
    )
    if waiting:
        note = f"The first {MOST_NODES} programs are drawn; the others are in the ranking."
        return joined(drawn, tag("p", note, class_="note"))
    return drawn


def _node(node: Node, names: Mapping[str, str], x: float, y: float, *, most: int, root: bool
          ) -> Markup:  # fmt: skip
    radius = 4.0 if root else 4 + 6 * math.sqrt(node.n / most)
    kind = "root" if root else "best" if node.best else "bad" if node.mean is None else "good"
    mean = "no score" if node.mean is None else f"mean {node.mean:.3f}"
    told = f"n={node.n}" if root else f"n={node.n}, {mean}"
    if node.failed and not root:
        told += f", {node.failed} failed"
    name = "search" if root else _short(names.get(node.arm, node.arm), 40)
    return tag(
        "g",
        tag("title", f"{name}: {told}"),
        tag("circle", cx=x, cy=y, r=radius, class_=f"node {kind}"),
        tag("text", name, tag("tspan", f"  {told}", class_="dim"), x=x + 15, y=y + 4),
    )


def curve(search: Mapping[str, Json], baseline: Mapping[str, Json] | None) -> Markup:
    """Best score so far over executions, the search beside its control."""
    lines = [("search", search.get("curve") or [], "own")]
    if baseline:
        lines.append(("control", baseline.get("curve") or [], "control"))
    points = [point for _, rows, _ in lines for point in rows if point[1] is not None]
    if not points:
        return tag("p", "Nothing has scored.", class_="note")
    most = max(max(point[0] for _, rows, _ in lines for point in rows), 1)
    low, high = min(0.0, *(y for _, y in points)), max(1.0, *(y for _, y in points))
    left, top, wide, tall = 60, 12, WIDE - 76, 150

    def at(x: float, y: float) -> tuple[float, float]:
        return left + wide * x / most, top + tall * (high - y) / (high - low)

    parts = [_axis(at, most, low, high)]
    for name, rows, kind in lines:
        steps = _steps([(x, y) for x, y in rows if y is not None], end=most)
        placed = [at(x, y) for x, y in steps]
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        if placed:
            parts.append(tag("polyline", points=text, class_=f"line {kind}"))
            parts += [tag("circle", tag("title", f"{name}: {y:.3f} after {x} executions"),
                          cx=at(x, y)[0], cy=at(x, y)[1], r=3, class_=f"dot {kind}")
                      for x, y in rows if y is not None]  # fmt: skip
    legend = tag("p", *(tag("span", tag("i", class_=f"swatch {kind}"), name, class_="key")
                        for name, _, kind in lines), class_="legend")  # fmt: skip
    return joined(svg(WIDE, top + tall + 36, *parts, label="Best score over executions"), legend)


def _axis(
    at: Callable[[float, float], tuple[float, float]], most: float, low: float, high: float
) -> Markup:
    left, bottom = at(0, low)
    right, top = at(most, high)
    return tag(
        "g",
        tag("path", d=f"M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}", class_="axis"),
        tag("text", f"{high:.4g}", x=left - 6, y=top + 4, class_="dim end"),
        tag("text", f"{low:.4g}", x=left - 6, y=bottom + 4, class_="dim end"),
        tag("text", "0", x=left, y=bottom + 16, class_="dim"),
        tag("text", f"{most:g} executions", x=right, y=bottom + 16, class_="dim end"),
    )


def _steps(points: Sequence[tuple[float, float]], *, end: float) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for x, y in points:
        if found:
            found.append((x, found[-1][1]))
        found.append((x, y))
    if found:
        found.append((end, found[-1][1]))
    return found


def timings(rows: Sequence[tuple[str, Sequence[float]]]) -> Markup:
    """Every repeat of every timed program on one logarithmic scale; the fastest is marked."""
    times = [time for _, repeats in rows for time in repeats if time > 0]
    if not times:
        return tag("p", "Nothing was timed.", class_="note")
    low = math.floor(math.log10(min(times)) * 2) / 2
    high = max(math.ceil(math.log10(max(times)) * 2) / 2, low + 0.5)
    left, wide = 170, WIDE - 190

    def at(time: float) -> float:
        return left + wide * (math.log10(time) - low) / (high - low)

    parts = []
    for place, (name, repeats) in enumerate(rows):
        y = ROW * place + ROW / 2
        known = [time for time in repeats if time > 0]
        parts.append(tag("text", _short(name, 20), x=left - 10, y=y + 4, class_="end"))
        parts.append(tag("line", x1=left, x2=left + wide, y1=y, y2=y, class_="axis faint"))
        parts += [
            tag("circle", tag("title", f"{name}: {seconds(time)}"), cx=at(time), cy=y, r=4,
                class_="dot best" if time == min(known) else "dot other")
            for time in sorted(known, reverse=True)
        ]  # fmt: skip
    bottom = ROW * len(rows)
    ends = [(low, "dim"), (high, "dim end")]
    parts += [
        tag("text", seconds(10**power), x=at(10**power), y=bottom + 14, class_=kind)
        for power, kind in ends
    ]
    return svg(WIDE, bottom + 22, *parts, label="Time of each repeat over all cases")


def statuses(counts: Mapping[str, int]) -> Markup:
    """One bar, cut by status."""
    total = sum(counts.values())
    if not total:
        return tag("p", "No program was run.", class_="note")
    parts: list[Markup] = []
    x = 0.0
    for status, count in counts.items():
        width = WIDE * count / total
        kind = KINDS.get(status, "bad")
        parts.append(tag("rect", tag("title", f"{status}: {count}"), x=x, y=0, height=16,
                         width=max(width - 2, 1), rx=3, class_=f"part {kind}"))  # fmt: skip
        x += width
    keys = [
        tag("span", tag("i", class_=f"swatch {KINDS.get(status, 'bad')}"), f"{status} {count}",
            class_="key")
        for status, count in counts.items()
    ]  # fmt: skip
    label = "Programs by status"
    return joined(svg(WIDE, 16, *parts, label=label), tag("p", *keys, class_="legend"))


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
