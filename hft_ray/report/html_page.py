"""A self-contained HTML page: policy, apply_style, sortable tables. Nothing in it is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

# Nothing may be loaded; plotly's script and styles are part of the page.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
_STYLE = """
:root { color-scheme: light dark; --ink: #22303c; --soft: #5b6b7a; --page: #f5f7f9; --card: #fff;
  --line: #e1e6eb; --knee: #fdf0f4; --knee-mark: #d6336c; --full: #fff4ec; --full-mark: #c2410c;
  --base: #eef1f4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ed; --soft: #a9b4bf; --page: #0b0d0f; --card: #141414; --line: #2e353c;
    --knee: #33151f; --full: #33200f; --full-mark: #f0803c; --base: #20262c; }
  /* White becomes the card's colour, and every hue stays what it is. */
  .plotly-graph-div { filter: invert(0.92) hue-rotate(180deg); }
}
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 48px; }
@media (max-width: 900px) { main { padding: 12px 8px 24px; } }
h1 { font-size: 26px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 10px; }
p { margin: 0 0 4px; color: var(--soft); overflow-wrap: anywhere; }
ul { margin: 0 0 10px; padding-left: 20px; font-size: 16px; overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px;
  margin-top: 18px; overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; width: 100%; margin: 8px 0; }
th, td { text-align: left; padding: 6px 8px; border-bottom: 1px solid var(--line);
  white-space: nowrap; font-variant-numeric: tabular-nums; }
th { cursor: pointer; color: var(--soft); font-weight: 600; user-select: none; }
th:hover { color: var(--ink); }
td.run { max-width: 90px; overflow: hidden; text-overflow: ellipsis; }
td.value { white-space: normal; }
td.wrap { white-space: normal; overflow-wrap: anywhere; min-width: 56px; }
th { white-space: normal; overflow-wrap: break-word; min-width: 40px; }
tr.knee td { background: var(--knee); }
tr.full td { background: var(--full); }
tr.base td { background: var(--base); }
tr.knee td:first-child { box-shadow: inset 3px 0 var(--knee-mark); font-weight: 600; }
tr.full td:first-child { box-shadow: inset 3px 0 var(--full-mark); color: var(--full-mark); }
tr.base td:first-child { box-shadow: inset 3px 0 var(--soft); font-weight: 600; }
code { font-size: 13px; }
summary { cursor: pointer; font-weight: 600; }
"""
_SORT = """
document.querySelectorAll('th').forEach(head => head.addEventListener('click', () => {
  const body = head.closest('table').tBodies[0], column = head.cellIndex;
  const order = head.dataset.order === 'up' ? -1 : 1;
  head.dataset.order = order === 1 ? 'up' : 'down';
  const key = row => row.cells[column].dataset.sort;
  const number = text => text === '' ? NaN : Number(text);
  const compare = (a, b) => {
    const x = number(key(a)), y = number(key(b));
    if (isNaN(x) && isNaN(y)) return key(a).localeCompare(key(b));
    return isNaN(x) ? order : isNaN(y) ? -order : x - y;
  };
  [...body.rows].sort((a, b) => order * compare(a, b)).forEach(row => body.append(row));
}));
"""


def document(title: str, heading: str, cards: Sequence[str]) -> str:
    """Return the page.

    Args:
        title: Text of the window's title.
        heading: HTML below the top edge.
        cards: HTML of each card.
    """
    body = "".join(f'<div class="card">{content}</div>\n' for content in cards)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{heading}
{body}</main>
<script>{_SORT}</script>
</body>
</html>
"""


def table(heads: Sequence[str], rows: Sequence[str]) -> str:
    """Return a table that sorts itself by the column whose head (text) is clicked."""
    head = "".join(f"<th>{_breakable(name)}</th>" for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{chr(10).join(rows)}\n</tbody></table>"


def _breakable(name: str) -> str:
    """Return a name as HTML that may be broken after its separators."""
    return re.sub(r"([/_.])", r"\1<wbr>", escape(name))


def text_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows of text as such a table."""
    if not rows:
        return "<p>No front has a point.</p>"
    return table(list(rows[0]), [row([cell(x, css="wrap") for x in r.values()]) for r in rows])


def row(cells: Sequence[str], css: str = "") -> str:
    """Return one row of cells that are HTML."""
    return f'<tr class="{css}">{"".join(cells)}</tr>'


def cell(text: str, key: object = None, *, css: str = "") -> str:
    """Return one cell; ``key`` is what it is sorted by instead of its text."""
    sort = escape(str(text if key is None else key))
    return f'<td class="{css}" title="{escape(text)}" data-sort="{sort}">{escape(text)}</td>'
