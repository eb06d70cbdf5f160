"""The declarations of a checked file as a graph in layers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from scillm_certainly.records import (
    INCOMPLETE,
    PROVED,
    REJECTED,
    UNSOUND,
    Declaration,
    ProofVerdict,
)

SORRY = "sorryAx"
ACCEPTED = "accepted"
ASSUMED = "axiom"
GAP_BELOW = "gap below"
KINDS = ("theorem", "def", "inductive", "axiom", "opaque")


@frozen(kw_only=True)
class Node:
    """One declaration. `state` is what became of it; `layer` is 0 for what uses no other."""

    name: str
    kind: str
    state: str
    statement: str = ""
    uses: Sequence[str] = ()
    axioms: Sequence[str] = ()
    layer: int = 0


@frozen(kw_only=True)
class Graph:
    """One file: its verdict, and its declarations in layers, those that others use first."""

    name: str
    status: str
    reason: str
    nodes: Sequence[Node]
    lean: str = ""


def graph_of(verdict: ProofVerdict) -> Graph:
    """The graph of what the file itself declares; what Lean made beside it is seen through."""
    known = {row.name: row for row in verdict.declarations}
    shown = {name: row for name, row in known.items() if row.written and row.kind in KINDS}
    uses = {name: _folded(row, known, shown) for name, row in shown.items()}
    refused = [name for name in verdict.culprits if name not in shown]
    layers = layers_of({**uses, **dict.fromkeys(refused, ())})
    nodes = [
        Node(
            name=name,
            kind=row.kind,
            state=state_of(row, verdict),
            statement=row.statement,
            uses=uses[name],
            axioms=tuple(row.axioms),
            layer=layers[name],
        )
        for name, row in shown.items()
    ]
    nodes += [Node(name=name, kind="refused", state=UNSOUND) for name in refused]
    lean = verdict.lean
    return Graph(
        name=verdict.id,
        status=verdict.status,
        reason=verdict.reason,
        nodes=sorted(nodes, key=lambda node: (node.layer, node.name)),
        lean="" if lean is None else f"Lean {lean.version}, {lean.backend}, kernel {verdict.grade}",
    )


def state_of(row: Declaration, verdict: ProofVerdict) -> str:
    """What became of one declaration. `proved` only for a theorem of a file that is."""
    if row.gap == "error":
        return REJECTED
    if row.gap == "sorry":
        return INCOMPLETE
    if SORRY in row.axioms:
        return GAP_BELOW
    if verdict.status == UNSOUND and row.name in verdict.culprits:
        return UNSOUND
    if row.kind == "axiom":
        return ASSUMED
    return PROVED if verdict.proved and row.kind == "theorem" else ACCEPTED


def _folded(
    row: Declaration, known: Mapping[str, Declaration], shown: Mapping[str, Declaration]
) -> tuple[str, ...]:
    """The shown declarations that one is made of, through those that are not shown."""
    found: set[str] = set()
    seen = {row.name}
    todo = list(row.uses)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in shown:
            found.add(name)
        elif name in known:
            todo += known[name].uses
    return tuple(sorted(found))


def direct_of(uses: Mapping[str, Sequence[str]]) -> Mapping[str, tuple[str, ...]]:
    """The uses that do not follow from others: enough to draw, for the rest is a path."""
    below: dict[str, frozenset[str]] = {}
    layers = layers_of(uses)
    for name in sorted(uses, key=lambda row: layers[row]):
        found = {*uses[name]}
        for used in uses[name]:
            found |= below.get(used, frozenset())
        below[name] = frozenset(found)
    return {
        name: tuple(
            used
            for used in rows
            if not any(used in below[other] for other in rows if other != used)
        )
        for name, rows in uses.items()
    }


def layers_of(uses: Mapping[str, Sequence[str]]) -> Mapping[str, int]:
    """For each name the length of its longest chain of uses; a cycle counts once."""
    layers: dict[str, int] = {}
    for start in sorted(uses):
        stack = [(start, iter(uses[start]))]
        on_way = {start}
        while stack:
            name, rest = stack[-1]
            below = next((n for n in rest if n not in layers and n not in on_way), None)
            if below is not None:
                on_way.add(below)
                stack.append((below, iter(uses[below])))
                continue
            stack.pop()
            on_way.discard(name)
            layers[name] = 1 + max((layers[n] for n in uses[name] if n in layers), default=-1)
    return layers
