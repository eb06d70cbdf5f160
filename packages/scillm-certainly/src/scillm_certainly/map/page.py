"""A proof map as one HTML page that needs nothing else: drawing, legend, table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from scillm_certainly.map.graph import direct_of

if TYPE_CHECKING:
    from scillm_certainly.map.graph import Graph, Node


WIDE, TALL, GAP_X, GAP_Y, PAD = 180, 44, 24, 56, 16
PER_ROW = 6
SHOWN = 21
STATES: Mapping[str, tuple[str, str]] = {
    "proved": ("✓", "a theorem of a file that is proved"),
    "accepted": ("•", "accepted by the kernel twice; a definition, or its file has a fault"),
    "axiom": ("A", "assumed, without a proof"),
    "incomplete": ("…", "a sorry stands in it"),
    "gap below": ("↓", "rests on something with a gap or an error"),
    "rejected": ("✗", "Lean reports an error in it"),
    "unsound": ("!", "refused by the kernel the second time, or on an axiom not permitted"),
}
STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#59636e;--line:#8c959f;--soft:#f0f2f4;
--proved:#1a7f37;--accepted:#0969da;--axiom:#7d4e00;--incomplete:#9a6700;--gap-below:#9a6700;
--rejected:#cf222e;--unsound:#a40e8c}
@media (prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--dim:#9198a1;--line:#6e7681;
--soft:#161b22;--proved:#3fb950;--accepted:#58a6ff;--axiom:#d4a72c;--incomplete:#d29922;
--gap-below:#d29922;--rejected:#ff7b72;--unsound:#f778ba}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1320px;padding:1rem;background:var(--bg);
color:var(--fg);font:15px/1.5 system-ui,sans-serif}h1{font-size:1.35rem}
h2{font-size:1.1rem;overflow-wrap:anywhere;
margin-top:2rem}.dim{color:var(--dim)}.scroll{overflow-x:auto;
border:1px solid var(--soft);border-radius:6px;background:var(--soft)}svg{display:block}
.edge{fill:none;stroke:var(--line);stroke-width:1.2;opacity:.7}.node rect{fill:var(--bg);
stroke-width:2}
.node text{font:13px ui-monospace,monospace;fill:var(--fg)}
.node .kind{font-size:10px;fill:var(--dim)}
.node:focus{outline:none}.node:focus rect,.node:hover rect{stroke-width:4}
svg.picked .node:not(.on),svg.picked .edge:not(.on){opacity:.15}svg.picked .edge.on{opacity:1;
stroke-width:2}table{border-collapse:collapse;width:100%;margin:.75rem 0}th,td{text-align:left;
padding:.3rem .6rem;border-bottom:1px solid var(--soft);vertical-align:top;overflow-wrap:anywhere}
th{white-space:nowrap}td code{font:13px ui-monospace,monospace}
ul.legend{list-style:none;padding:0;display:grid;
grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:.25rem 1rem}
b.state{white-space:nowrap}
@media (max-width:640px){table,tbody,tr,td{display:block}thead{display:none}td{border:0;
padding:.05rem 0}tr{border-bottom:1px solid var(--soft);padding:.4rem 0}
td::before{content:attr(data-l);color:var(--dim)}}
"""
SCRIPT = """
for(const svg of document.querySelectorAll('svg')){const all=[...svg.querySelectorAll('.node')];
const edges=[...svg.querySelectorAll('.edge')];let held=null;
const show=n=>{svg.classList.toggle('picked',!!n);const on=new Set();if(n){for(const way of
['from','to']){const todo=[n.dataset.n],seen=new Set(todo);while(todo.length){const x=todo.pop();
for(const e of edges)if(e.dataset[way]===x){on.add(e);const y=e.dataset[way==='from'?'to':'from'];
if(!seen.has(y)){seen.add(y);todo.push(y)}}}for(const s of seen)on.add(s)}}
for(const e of edges)e.classList.toggle('on',on.has(e));
for(const m of all)m.classList.toggle('on',on.has(m.dataset.n))};
for(const n of all){n.addEventListener('mouseenter',()=>held||show(n));
n.addEventListener('mouseleave',()=>held||show(null));n.addEventListener('focus',()=>show(n));
n.addEventListener('blur',()=>{held=null;show(null)});
n.addEventListener('click',()=>{held=held===n?null:n;show(held)})}}
"""


def page_of(graphs: Sequence[Graph]) -> str:
    """The page of one or more files."""
    used = {node.state for graph in graphs for node in graph.nodes}
    legend = "".join(
        f"<li>{_state(state)} <span class=dim>{escape(STATES[state][1])}</span></li>"
        for state in STATES
        if state in used
    )
    parts = "".join(_section(graph) for graph in graphs)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Proof map</title><style>{STYLE}</style></head><body><h1>Proof map</h1>"
        "<p class=dim>Lower boxes use the higher ones they are joined to. Uses "
        "that follow from others are not drawn. Point at a box, or choose it, to see what it rests "
        "on and what rests on it.</p>"
        f"<ul class=legend>{legend}</ul>"
        f"{parts}<script>{SCRIPT}</script></body></html>\n"
    )


def _section(graph: Graph) -> str:
    reason = f": {graph.reason}" if graph.reason else ""
    head = (
        f"<section><h2>{escape(graph.name)}</h2><p><b>{escape(graph.status)}</b>"
        f"{escape(reason)}</p><p class=dim>{escape(graph.lean)}</p>"
    )
    if not graph.nodes:
        return f"{head}<p>No declaration was accepted.</p></section>"
    rows = "".join(_row(node) for node in graph.nodes)
    return (
        f"{head}<div class=scroll>{_drawing(graph)}</div><table><thead><tr><th>Declaration"
        "<th>State<th>Statement<th>Uses<th>Axioms</thead><tbody>"
        f"{rows}</tbody></table></section>"
    )


def _row(node: Node) -> str:
    uses = ", ".join(escape(name) for name in node.uses) or "none"
    axioms = ", ".join(escape(name) for name in node.axioms) or "none"
    return (
        f"<tr><td><code>{escape(node.name)}</code> <span class=dim>{escape(node.kind)}</span>"
        f"<td>{_state(node.state)}<td><code>{escape(node.statement)}</code>"
        f'<td data-l="uses ">{uses}<td data-l="axioms ">{axioms}</tr>'
    )


def _state(state: str) -> str:
    sign, _ = STATES[state]
    return f'<b class=state style="color:var({_colour(state)})">{sign} {escape(state)}</b>'


def _colour(state: str) -> str:
    return f"--{state.replace(' ', '-')}"


def places_of(nodes: Sequence[Node]) -> dict[str, tuple[int, int]]:
    """Left upper corner of each box; a layer of many boxes takes several rows."""
    places: dict[str, tuple[int, int]] = {}
    row = 0
    for layer in sorted({node.layer for node in nodes}):
        here = [node for node in nodes if node.layer == layer]
        # Below the middle of what it uses, as far as that is drawn already.
        here.sort(key=lambda node: (_middle(node, places), node.name))
        for start in range(0, len(here), PER_ROW):
            for column, node in enumerate(here[start : start + PER_ROW]):
                places[node.name] = (
                    PAD + column * (WIDE + GAP_X),
                    PAD + row * (TALL + GAP_Y),
                )
            row += 1
    return places


def _middle(node: Node, places: Mapping[str, tuple[int, int]]) -> float:
    xs = [places[name][0] for name in node.uses if name in places]
    return sum(xs) / len(xs) if xs else 0.0


def _drawing(graph: Graph) -> str:
    places = places_of(graph.nodes)
    wide = max(x for x, _ in places.values()) + WIDE + PAD
    tall = max(y for _, y in places.values()) + TALL + PAD
    drawn = direct_of({node.name: node.uses for node in graph.nodes})
    edges = "".join(_edge(name, used, places) for name, rows in drawn.items() for used in rows)
    boxes = "".join(_box(node, places[node.name]) for node in graph.nodes)
    label = escape(
        f"{len(graph.nodes)} declarations of {graph.name}; the table below says the same"
    )
    return (
        f'<svg width="{wide}" height="{tall}" viewBox="0 0 {wide} {tall}" role="img" '
        f'aria-label="{label}">{edges}{boxes}</svg>'
    )


def _edge(name: str, used: str, places: Mapping[str, tuple[int, int]]) -> str:
    (x1, y1), (x2, y2) = places[used], places[name]
    x1, y1, x2 = x1 + WIDE // 2, y1 + TALL, x2 + WIDE // 2
    bend = max(20, (y2 - y1) // 2)
    return (
        f'<path class=edge data-from="{escape(name)}" data-to="{escape(used)}" '
        f'd="M{x1} {y1}C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}"/>'
    )


def _box(node: Node, place: tuple[int, int]) -> str:
    x, y = place
    sign, _ = STATES[node.state]
    short = node.name if len(node.name) <= SHOWN else f"…{node.name[1 - SHOWN :]}"
    title = f"{node.name}: {node.state}" + (f"\n{node.statement}" if node.statement else "")
    return (
        f'<g class=node tabindex=0 data-n="{escape(node.name)}"><title>{escape(title)}</title>'
        f'<rect x="{x}" y="{y}" width="{WIDE}" height="{TALL}" rx="6" '
        f'stroke="var({_colour(node.state)})"/>'
        f'<text x="{x + 10}" y="{y + 19}">{escape(short)}</text>'
        f'<text class=kind x="{x + 10}" y="{y + 35}" style="fill:var({_colour(node.state)})">'
        f"{sign} {escape(node.state)} · {escape(node.kind)}</text></g>"
    )
