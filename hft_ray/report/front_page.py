"""The HTML page around a sweep's figures: head and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from hft_ray.pareto import ArmTable, Certainty, Front, Point, arm_table
from hft_ray.report import plot_data
from hft_ray.report.formatting import (
    estimate_text,
    format_setting,
    short_names,
    value_text,
    varied_params,
    with_interval,
)
from hft_ray.report.html_page import cell, document, row, table, text_table
from hft_ray.report.rows import arm_rows


def page(
    front: Front, plots: Sequence[str], extra: Mapping[str, str], analysis: Sequence[str] = ()
) -> str:
    """Return the document with the figures' HTML (trusted, already escaped) in ``plots``.

    ``analysis`` holds further cards, HTML too.
    """
    facts = " · ".join(f"{escape(label)}: {escape(text)}" for label, text in extra.items())
    certainty = front.certainty
    lines = [
        f"{escape(plot_data.how_to_read(front))} Hover over a symbol for configuration and run.",
        escape(plot_data.summary(front)),
        f"Hypervolume, bias-corrected [95 % CI]: {estimate_text(certainty.hypervolume)}."
        if certainty
        else "",
        facts,
    ]
    heading = f"<h1>{escape(front.sweep)}</h1>" + "".join(f"<p>{x}</p>" for x in lines if x)
    cards = [plots[0]]
    cards += [
        f"<h2>All objectives</h2>{plot}"
        "<p>One line per complete trial, the front strong and the knee in colour.</p>"
        for plot in plots[1:]
    ]
    cards.append(
        f"<h2>The front</h2>{_front_table(front, certainty)}"
        f"<p>Values ± standard error. {_knee_rule(front)}{_knee_chance(front, certainty)} P: how "
        "probably the trial is on the front of the true values, of which those here are noisy "
        "measurements of the same items. Click a column's head to sort.</p>"
    )
    cards += _arm_cards(front)
    cards += analysis
    cards.append(
        f"<details><summary>All {len(front.points)} points</summary>"
        f"{_table(front, list(front.points))}</details>"
    )
    return document(f"{front.sweep}: Pareto front", heading, cards)


def _knee_rule(front: Front) -> str:
    """Say what the knee is, and which limits the front keeps."""
    wanted = front.preference
    rule = "Knee: the point nearest the ideal, each objective scaled to the extent of the front"
    if wanted is not None and wanted.target is not None:
        rule = f"Knee: the point that comes nearest to, or furthest beyond, {_pairs(wanted.target)}"
    elif wanted is not None and wanted.weights is not None:
        rule += f", weighted {_pairs(wanted.weights)}"
    limits = ", ".join(
        f"{each.metric} {each.sign} {each.limit(front.base):.4g}" for each in front.constraints
    )
    return escape(f"{rule}. Constraints: {limits}." if limits else f"{rule}.")


def _knee_chance(front: Front, certainty: Certainty | None) -> str:
    """Say how probably the knee is that of the true front."""
    shown = front.averaged
    if certainty is None or shown.knee_index is None:
        return ""
    chance = certainty.knees.get(shown.points[shown.knee_index].label)
    return "" if chance is None else f" It is the knee of the true front with {chance:.0%}."


def _pairs(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _arm_cards(front: Front) -> list[str]:
    """Return one table per objective but the first: at the same value of the first, each arm."""
    found = arm_table(front)
    if found is None:
        return []
    return [
        f"<h2>{escape(match.objective)} at the same {escape(match.at)}</h2>"
        f"{text_table(arm_rows(found, match, with_interval, differences=True))}"
        "<p>Each arm's best point among those at least as good as the level; the levels are the "
        "arms' own best. In brackets the 95 % interval of that point's measurement; that it was "
        f"chosen as the best is not in it. Then the difference from {escape(_baseline(found))}, "
        "measured on the same items.</p>"
        for match in found.matches
    ]


def _baseline(table: ArmTable) -> str:
    return table.fronts[table.baseline].sweep


def _front_table(front: Front, certainty: Certainty | None) -> str:
    """Return the front's table; full fine-tuning and the base model stand below for comparison."""
    full = [p for p in front.points if p.full_fine_tuning and p.state == "complete"]
    others = [point for point in full if point not in front.members]
    probabilities = certainty.probabilities if certainty else {}
    return _table(front, [*front.members, *others], with_base=True, probabilities=probabilities)


def _table(
    front: Front,
    points: Sequence[Point],
    *,
    with_base: bool = False,
    probabilities: Mapping[str, float] | None = None,
) -> str:
    settings = varied_params(front.points)
    known = ["P"] if probabilities else []
    heads = [
        *("trial", *front.objectives, *known),
        *(*short_names(settings).values(), "state", "run"),
    ]
    rows = [_row(front, point, settings, probabilities or {}) for point in points]
    if with_base:
        rows.append(_base_row(front, len(known) + len(settings)))
    return table(heads, rows)


def _row(
    front: Front, point: Point, settings: Sequence[str], probabilities: Mapping[str, float]
) -> str:
    is_knee = front.knee_index is not None and front.points[front.knee_index] is point
    note = " (knee)" if is_knee else " (full fine-tuning)" if point.full_fine_tuning else ""
    cells = [cell(point.label + note)]
    for name in front.objectives:
        value = point.values.get(name, math.nan)
        cells.append(cell(value_text(point, name), "" if math.isnan(value) else value))
    if probabilities:
        chance = probabilities.get(point.label)
        cells.append(cell("") if chance is None else cell(f"{chance:.0%}", chance))
    cells += [_setting_cell(point.setting(key)) for key in settings]
    cells.append(cell(point.state))
    run = escape(point.run_id or "–")
    cells.append(f'<td class="run" title="{run}" data-sort=""><code>{run}</code></td>')
    kind = "knee" if is_knee else "full" if point.full_fine_tuning else ""
    return row(cells, kind)


def _base_row(front: Front, blanks: int) -> str:
    values = [front.base_value(name) for name in front.objectives]
    cells = [cell("base model")]
    cells += [cell("–" if x is None else f"{x:.4g}", "" if x is None else x) for x in values]
    cells += [cell("")] * (blanks + 2)
    return row(cells, "base")


def _setting_cell(value: object) -> str:
    text = format_setting(value)
    return cell(text, value if isinstance(value, int | float) else text, css="long")
