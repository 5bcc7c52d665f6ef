"""The style sheet of every HTML page: light, dark, print, phone. System fonts, no fetch."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fff; --ink: #1c2127; --soft: #5d6873; --line: #e3e7eb; --tint: #f6f8f9;
  --accent: #1f5fbf; --second: #c2571a; --good: #1a7f4b; --bad: #b42318;
  --good-tint: #e8f5ee; --bad-tint: #fdecea; --mark: #fff1c9; --shade: rgb(0 0 0 / .16);
}
@media (prefers-color-scheme: dark) { :root {
  --page: #15181c; --ink: #e4e8ec; --soft: #9aa5b0; --line: #2d333a; --tint: #1c2025;
  --accent: #7fb0ff; --second: #f0a267; --good: #5cc98f; --bad: #ff8a7d;
  --good-tint: #16301f; --bad-tint: #3a1b18; --mark: #4a3c12; --shade: rgb(0 0 0 / .7);
} }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 1040px; margin: 0 auto; padding: 48px 24px 80px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -.015em; margin: 0 0 8px;
     font-weight: 650; }
h2 { font-size: 20px; line-height: 1.3; letter-spacing: -.01em; margin: 56px 0 12px;
     font-weight: 620; }
h3 { font-size: 15px; margin: 28px 0 8px; font-weight: 600; }
p { margin: 0 0 12px; max-width: 72ch; }
a { color: var(--accent); }
.lead { color: var(--soft); font-size: 16px; }
.soft, caption, .legend { color: var(--soft); }
.verdict { display: inline-block; margin: 14px 0 0; padding: 5px 12px; border-radius: 6px;
           font-weight: 600; background: var(--tint); }
.verdict.good { background: var(--good-tint); color: var(--good); }
.verdict.bad { background: var(--bad-tint); color: var(--bad); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 20px;
           margin: 30px 0 0; padding: 20px 0; border: solid var(--line); border-width: 1px 0; }
.figures dt { color: var(--soft); font-size: 13px; }
.figures dd { margin: 0; font-size: 26px; font-weight: 620; letter-spacing: -.02em;
              font-variant-numeric: tabular-nums; }
.figures dd small { display: block; font-size: 12.5px; font-weight: 400; letter-spacing: 0;
                    color: var(--soft); }
.findings { margin: 14px 0 0; padding: 0 0 0 18px; }
.findings li { margin: 4px 0; max-width: 80ch; }
.scroll { overflow-x: auto; margin: 0 0 8px; }
.scroll:has(> .wide) { width: min-content; min-width: 100%; max-width: calc(100vw - 48px);
                       position: relative; left: 50%; transform: translateX(-50%); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
        font-size: 14px; }
caption { text-align: left; padding: 0 0 8px; font-size: 13.5px; }
caption span { display: inline-block; position: sticky; left: 0;
               max-width: calc(100vw - 32px); }
th, td { text-align: left; padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line);
         vertical-align: top; }
thead th { color: var(--soft); font-weight: 500; font-size: 12.5px; vertical-align: bottom;
           line-height: 1.3; }
tbody th { font-weight: 500; }
th.n, td.n { text-align: right; white-space: nowrap; }
thead th.n { white-space: normal; }
th:last-child, td:last-child { padding-right: 0; }
tr.group th { padding-top: 16px; color: var(--soft); font-weight: 500; font-size: 12.5px; }
tr.tuned > * { font-weight: 620; }
tr.tuned small { font-weight: 400; }
td small, th small { color: var(--soft); font-size: 12px; }
small.ci { display: block; font-weight: 400; }
.figure { display: inline-block; min-width: 3.3em; text-align: right; }
.sign { display: inline-block; width: 0; overflow: visible; }
.legend { font-size: 13px; }
.best { color: var(--second); font-weight: 600; }
.pass, .fail { font-weight: 600; white-space: nowrap; }
.pass { color: var(--good); } .fail { color: var(--bad); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 12px 40px;
        align-items: start; }
figure { margin: 8px 0 0; }
figcaption { font-size: 13.5px; color: var(--soft); margin: 0 0 4px; }
.chart { width: 100%; height: auto; display: block; }
.chart text { font: 11.5px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--soft);
              font-variant-numeric: tabular-nums; }
.chart .note { fill: var(--ink); }
.grid { stroke: var(--line); } .axis { stroke: var(--soft); opacity: .6; }
.mark { stroke: var(--soft); stroke-dasharray: 3 3; }
.line { fill: none; stroke-width: 1.75; stroke-linejoin: round; }
.line.train { stroke: var(--accent); opacity: .75; } .line.validation { stroke: var(--second); }
.line.plain { stroke: var(--soft); }
.dot.validation { fill: var(--second); }
.reach { stroke: var(--soft); opacity: .45; } .reach.chosen { stroke: var(--accent); }
.place { fill: var(--soft); stroke: var(--soft); } .place.misses { fill: var(--page); }
.place.chosen { fill: var(--accent); stroke: var(--accent); }
.bar { fill: var(--accent); opacity: .8; }
.interval { width: 120px; height: 16px; display: inline-block; vertical-align: -3px; }
.track { stroke: var(--line); stroke-width: 2; }
.whisker { stroke: var(--soft); stroke-width: 3; opacity: .55; stroke-linecap: round; }
.whisker.tuned, .whisker.export { stroke: var(--accent); }
.value { fill: var(--soft); } .value.tuned, .value.export { fill: var(--accent); }
.key { display: inline-block; width: 18px; height: 0; border-top: 2.5px solid; margin: 0 6px 3px 0;
       vertical-align: middle; }
.key.train { color: var(--accent); } .key.validation { color: var(--second); margin-left: 16px; }
.share { display: inline-block; height: 9px; border-radius: 2px; background: var(--accent);
         opacity: .75; vertical-align: 0; min-width: 1px; }
.labels td:last-child { width: 40%; } .narrow { max-width: 660px; }
table + table, .scroll + .scroll { margin-top: 28px; }
ul + .scroll, .legend + .scroll, .pair + .scroll { margin-top: 32px; }
pre, code, .text { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
                   font-size: 13px; }
code { overflow-wrap: anywhere; }
pre { background: var(--tint); border: 1px solid var(--line); border-radius: 6px;
      padding: 14px 16px;      overflow-x: auto; line-height: 1.5; margin: 0 0 12px; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.segments { background: var(--tint); border: 1px solid var(--line); border-radius: 6px;
            padding: 10px 14px; margin: 0 0 10px; color: var(--soft); }
mark { background: var(--mark); color: var(--ink); border-radius: 3px; padding: 1px 2px; }
.case { border-top: 1px solid var(--line); padding: 14px 0 12px; break-inside: avoid; }
.case .ask { font-weight: 600; margin: 0 0 8px; max-width: none; }
.case dl { display: grid; grid-template-columns: minmax(120px, max-content) 1fr; gap: 3px 18px;
           margin: 0; }
.case dt { color: var(--soft); font-size: 13px; } .case dd { margin: 0; min-width: 0; }
ins { background: var(--bad-tint); color: var(--bad); text-decoration: none; border-radius: 3px;
      padding: 1px 2px; }
del { color: var(--soft); text-decoration: line-through; text-decoration-thickness: 1px; }
.hash td, .hash th { font-size: 13px; }
.hash code { font-size: 12px; }
details { margin: 0 0 12px; } summary { cursor: pointer; color: var(--accent); margin: 0 0 10px; }
footer { margin-top: 64px; color: var(--soft); font-size: 13px; }
/* A shade where a table goes on behind the edge. */
@media (max-width: 1100px) { .scroll {
  background: linear-gradient(to right, var(--page) 20px, transparent) left,
    linear-gradient(to left, var(--page) 20px, transparent) right,
    linear-gradient(to right, var(--shade), transparent) left,
    linear-gradient(to left, var(--shade), transparent) right;
  background-size: 40px 100%, 40px 100%, 10px 100%, 10px 100%; background-repeat: no-repeat;
  background-attachment: local, local, scroll, scroll;
} }
@media (max-width: 640px) {
  .interval { display: none; } table { font-size: 13px; } th, td { padding-right: 9px; }
  main { padding: 28px 16px 56px; } h1 { font-size: 25px; } h2 { margin-top: 44px; }
  .figures { grid-template-columns: 1fr 1fr; gap: 16px; } .figures dd { font-size: 22px; }
  .case dl { grid-template-columns: 1fr; } .case dt { margin-top: 6px; }
  .labels td:last-child { width: 20%; }
}
@media print {
  body { font-size: 11px; } main { max-width: none; padding: 0; }
  h2 { break-after: avoid; } tr, figure, pre { break-inside: avoid; }
  .scroll { overflow: visible; }
  .scroll:has(> .wide) { width: auto; max-width: none; left: 0; transform: none; }
  pre { white-space: pre-wrap; }
}
"""
