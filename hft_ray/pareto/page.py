"""The HTML page around the figures: head, tables, and a few lines of script that sort them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from hft_ray.pareto import picture
from hft_ray.pareto.front import Front
from hft_ray.pareto.points import Point
from hft_ray.pareto.table import format_setting, objective_text, short_names, varied_params

# Nothing may be loaded; plotly's script and styles are part of the page.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f5f7f9; color: #22303c; line-height: 1.5;
  font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 48px; }
h1 { font-size: 26px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 10px; }
p { margin: 0 0 4px; color: #5b6b7a; }
.card { background: white; border: 1px solid #e1e6eb; border-radius: 10px; padding: 18px;
  margin-top: 18px; overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; width: 100%; }
th, td { text-align: left; padding: 6px 12px; border-bottom: 1px solid #edf0f3;
  white-space: nowrap; font-variant-numeric: tabular-nums; }
th { cursor: pointer; color: #5b6b7a; font-weight: 600; user-select: none; }
th:hover { color: #22303c; }
td.long { max-width: 260px; overflow: hidden; text-overflow: ellipsis; }
tr.knee td { background: #fdf0f4; }
tr.base td, tr.full td { color: #5b6b7a; background: #fafbfc; }
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


def page(front: Front, plots: Sequence[str], extra: Mapping[str, str]) -> str:
    """Return the document with the figures' HTML (trusted, already escaped) in ``plots``."""
    facts = " · ".join(f"{escape(label)}: {escape(text)}" for label, text in extra.items())
    title = escape(front.sweep)
    cards = [f'<div class="card">{plots[0]}</div>']
    cards += [
        f'<div class="card"><h2>All objectives</h2>{plot}'
        "<p>One line per complete trial, the front strong and the knee in colour.</p></div>"
        for plot in plots[1:]
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: Pareto front</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{escape(picture.how_to_read(front))} Hover over a symbol for configuration and run.</p>
<p>{escape(picture.summary(front))}</p>
{f"<p>{facts}</p>" if facts else ""}
{"".join(cards)}
<div class="card"><h2>The front</h2>{_front_table(front)}
<p>Values ± standard error. Knee: the point nearest the ideal, each objective scaled to the
extent of the front. Click a column's head to sort.</p></div>
<div class="card"><details><summary>All {len(front.points)} points</summary>
{_table(front, list(front.points))}</details></div>
</main>
<script>{_SORT}</script>
</body>
</html>
"""


def _front_table(front: Front) -> str:
    """Return the front's table; full fine-tuning and the base model stand below for comparison."""
    full = [p for p in front.points if p.full_fine_tuning and p.state == "complete"]
    others = [point for point in full if point not in front.members]
    return _table(front, [*front.members, *others], with_base=True)


def _table(front: Front, points: Sequence[Point], *, with_base: bool = False) -> str:
    settings = varied_params(front.points)
    heads = ["trial", *front.objectives, *short_names(settings).values(), "state", "run"]
    rows = [_row(front, point, settings) for point in points]
    if with_base:
        rows.append(_base_row(front, len(settings)))
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{chr(10).join(rows)}\n</tbody></table>"


def _row(front: Front, point: Point, settings: Sequence[str]) -> str:
    is_knee = front.knee_index is not None and front.points[front.knee_index] is point
    note = " (knee)" if is_knee else " (full fine-tuning)" if point.full_fine_tuning else ""
    cells = [_cell(point.label + note)]
    for name in front.objectives:
        value = point.values.get(name, math.nan)
        cells.append(_cell(objective_text(front, point, name), "" if math.isnan(value) else value))
    cells += [_setting_cell(point.params.get(key, "")) for key in settings]
    cells.append(_cell(point.state))
    cells.append(f'<td data-sort=""><code>{escape(point.run_id or "–")}</code></td>')
    kind = "knee" if is_knee else "full" if point.full_fine_tuning else ""
    return f'<tr class="{kind}">{"".join(cells)}</tr>'


def _base_row(front: Front, blanks: int) -> str:
    values = [front.base_value(name) for name in front.objectives]
    cells = [_cell("base model")]
    cells += [_cell("–" if x is None else f"{x:.4g}", "" if x is None else x) for x in values]
    cells += [_cell("")] * (blanks + 2)
    return f'<tr class="base">{"".join(cells)}</tr>'


def _setting_cell(value: object) -> str:
    text = format_setting(value)
    return _cell(text, value if isinstance(value, int | float) else text, css="long")


def _cell(text: str, key: object = None, *, css: str = "") -> str:
    sort = escape(str(text if key is None else key))
    return f'<td class="{css}" title="{escape(text)}" data-sort="{sort}">{escape(text)}</td>'
