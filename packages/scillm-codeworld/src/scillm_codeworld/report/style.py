"""The look of a report: one sheet, light and dark, from a phone to a wall."""

SHEET = """
:root { color-scheme: light dark; --bg: #fbfbfa; --card: #ffffff; --ink: #1c1e21; --dim: #62676f;
  --rule: #e3e4e6; --good: #1a7f4b; --bad: #b3372b; --best: #2457c5; --none: #a4a8ae;
  --control: #9a6b00; --wash: #f1f2f3; --add: #e3f4e9; --del: #fbe6e3; }
@media (prefers-color-scheme: dark) { :root { --bg: #131417; --card: #1b1d21; --ink: #e6e7e9;
  --dim: #9ba1a9; --rule: #32353b; --good: #55c08a; --bad: #ee8277; --best: #7ea6ff;
  --none: #6b7078; --control: #d9a83f; --wash: #24272c; --add: #17352a; --del: #40211f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 0; }
h3 { font-size: 14px; margin: 22px 0 8px; color: var(--dim); font-weight: 600; }
h1, h2, h3, p, dd, summary, li, td.reason { overflow-wrap: anywhere; }
td { overflow-wrap: break-word; } td.name { min-width: 90px; max-width: 260px; }
p { margin: 6px 0; } .dim, .note { color: var(--dim); } .note { font-size: 13px; }
section.item { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 18px 20px; margin: 18px 0; }
.head { display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center; }
.badge { display: inline-block; border: 1px solid currentColor; border-radius: 99px;
  padding: 0 10px; font-size: 12.5px; line-height: 22px; white-space: nowrap; }
.badge.good { color: var(--good); } .badge.bad { color: var(--bad); }
.badge.plain { color: var(--dim); }
.task { white-space: pre-wrap; } .best-line { font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
th { color: var(--dim); font-weight: 600; white-space: nowrap; }
td.num { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.reason { color: var(--dim); padding-top: 0; }
td.reason span { display: inline-block; position: sticky; left: 0; max-width: calc(100vw - 110px); }
tr.asked td { border-bottom: 0; }
tr.winner td { background: var(--wash); }
td .good { color: var(--good); } td .bad { color: var(--bad); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 8px 0;
  font-size: 13.5px; } dt { color: var(--dim); } dd { margin: 0; }
pre { background: var(--wash); border-radius: 6px; padding: 10px 12px; overflow-x: auto;
  font: 12.5px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; margin: 6px 0;
  tab-size: 4; }
pre span { display: block; min-height: 1.45em; } pre .add { background: var(--add); }
pre .del { background: var(--del); } pre .at { color: var(--dim); }
details { border-top: 1px solid var(--rule); padding: 6px 0; }
summary { cursor: pointer; } summary .dim { font-weight: 400; }
svg.figure { width: 100%; height: auto; display: block; min-width: 460px; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); white-space: pre; }
svg .dim { fill: var(--dim); } svg .end { text-anchor: end; }
.edge, .axis { fill: none; stroke: var(--rule); stroke-width: 1.5; } .axis { stroke: var(--none); }
.faint { stroke: var(--rule); }
.node.root { fill: var(--none); } .node.good { fill: var(--good); fill-opacity: .75; }
.node.bad { fill: var(--bad); fill-opacity: .7; } .node.best { fill: var(--best); }
.line { fill: none; stroke-width: 2; } .line.own { stroke: var(--best); }
.line.control { stroke: var(--control); stroke-dasharray: 5 4; }
.dot.own, .dot.best { fill: var(--best); } .dot.control { fill: var(--control); }
.dot.other { fill: var(--none); fill-opacity: .8; }
.part.good { fill: var(--good); } .part.bad { fill: var(--bad); } .part.none { fill: var(--none); }
.legend { font-size: 13px; color: var(--dim); } .key { margin-right: 16px; white-space: nowrap; }
.swatch { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; }
.swatch.own { background: var(--best); } .swatch.control { background: var(--control); }
.swatch.good { background: var(--good); } .swatch.bad { background: var(--bad); }
.swatch.none { background: var(--none); }
.toc { padding-left: 18px; margin: 10px 0; font-size: 14px; } a { color: var(--best); }
@media (max-width: 560px) { main { padding: 14px 10px 40px; } section.item { padding: 14px 12px; }
  dl { grid-template-columns: 1fr; } dt { margin-top: 4px; } }
"""
