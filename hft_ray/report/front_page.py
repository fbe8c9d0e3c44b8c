"""The HTML page around a sweep's figures: head and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from hft_ray.analysis.forecast_correlation import forecast_correlation
from hft_ray.pareto import ArmTable, Certainty, Front, Point, arm_table
from hft_ray.report import plot_data
from hft_ray.report.formatting import (
    estimate_text,
    format_setting,
    interval_text,
    short_names,
    varied_params,
    with_interval,
)
from hft_ray.report.html_page import cell, document, row, table, text_table
from hft_ray.report.rows import arm_rows
from hft_ray.report.takeaways import takeaway

_MARKS = {"full": "✚ ", "base": "★ "}
"""Before the names of what the picture draws with these symbols."""


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
        escape(found.sentence) if (found := forecast_correlation(front)) else "",
        facts,
    ]
    heading = f"<h1>{escape(front.sweep)}</h1>" + _takeaway(front)
    heading += "".join(f"<p>{x}</p>" for x in lines if x)
    cards = [plots[0]]
    cards += [
        f"<h2>All objectives</h2>{plot}"
        "<p>One line per complete trial, the front strong and the knee in colour.</p>"
        for plot in plots[1:]
    ]
    cards.append(
        f"<h2>The front</h2><p>In brackets 95 % intervals. {_what_p_is(certainty)}Click a column's "
        f"head to sort.</p>{_front_table(front, certainty)}"
        f"<p>{_shared_settings(front)}{_knee_rule(front)}{_knee_chance(front, certainty)}</p>"
    )
    cards += _arm_cards(front)
    cards += analysis
    cards.append(
        f"<details><summary>All {len(front.points)} points</summary>"
        f"{_table(front, list(front.points))}</details>"
    )
    return document(f"{front.sweep}: Pareto front", heading, cards)


def _takeaway(front: Front) -> str:
    """Return what a user takes away, above everything else."""
    found = takeaway(front)
    if found is None:
        return ""
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in found.sentences)
    return f"<ul>{said}<li>Export: <code>{escape(found.command)}</code></li></ul>"


def _what_p_is(certainty: Certainty | None) -> str:
    if certainty is None:
        return ""
    return (
        "<b>P</b> is the probability that a point is on the front of the true values, of which "
        "these are noisy measurements on the same items. "
    )


def _shared_settings(front: Front) -> str:
    """Name the settings that the sweep varies and that all rows of the table share."""
    rows = [*front.members, *_full_beside(front)]
    varied = varied_params(rows)
    shared = {k: name for k, name in _settings_of(front).items() if k not in varied}
    if not rows or not shared:
        return ""
    text = ", ".join(f"{name} {format_setting(rows[0].setting(k))}" for k, name in shared.items())
    return escape(f"The same in all rows: {text}. ")


def _settings_of(front: Front) -> dict[str, str]:
    return short_names(varied_params(front.points))


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
    points = [*front.members, *_full_beside(front)]
    varied = varied_params(points)
    settings = {key: name for key, name in _settings_of(front).items() if key in varied}
    chances = certainty.probabilities if certainty else {}
    rows = []
    for point in points:
        cells = _cells(front, point)
        if chances:
            chance = chances.get(point.label)
            cells.append(cell("") if chance is None else cell(f"{chance:.0%}", chance))
        cells += [_setting_cell(point.setting(key)) for key in settings]
        rows.append(row(cells, _kind(front, point)))
    known = ["P"] if chances else []
    rows.append(_base_row(front, len(known) + len(settings)))
    return table(["trial", *front.objectives, *known, *settings.values()], rows)


def _full_beside(front: Front) -> list[Point]:
    """Return the trained full fine-tunings that are not on the front."""
    full = [p for p in front.points if p.full_fine_tuning and p.variant is None]
    return [point for point in full if point.state == "complete" and point not in front.members]


def _table(front: Front, points: Sequence[Point]) -> str:
    """Return the table of all points, with state and run."""
    settings = _settings_of(front)
    rows = []
    for point in points:
        cells = [*_cells(front, point), *(_setting_cell(point.setting(key)) for key in settings)]
        run = escape(point.run_id or "–")
        cells.append(cell(point.state))
        cells.append(f'<td class="run" title="{run}" data-sort=""><code>{run}</code></td>')
        rows.append(row(cells, _kind(front, point)))
    return table(["trial", *front.objectives, *settings.values(), "state", "run"], rows)


def _kind(front: Front, point: Point) -> str:
    if front.knee_index is not None and front.points[front.knee_index] is point:
        return "knee"
    return "full" if point.full_fine_tuning else ""


def _cells(front: Front, point: Point) -> list[str]:
    """Return the cells of a point's name and objectives."""
    full = point.full_fine_tuning
    notes = ["knee"] * (_kind(front, point) == "knee") + ["full fine-tuning"] * full
    text = f"{point.label} ({', '.join(notes)})" if notes else point.label
    cells = [cell(_MARKS["full"] * full + text, point.label, css="wrap")]
    for name in front.objectives:
        value = point.values.get(name, math.nan)
        # An interval is broken before its bracket alone.
        text = interval_text(point, name).replace(", ", ",\N{NO-BREAK SPACE}")
        cells.append(cell(text, "" if math.isnan(value) else value, css="value"))
    return cells


def _base_row(front: Front, blanks: int) -> str:
    values = [front.base_value(name) for name in front.objectives]
    cells = [cell(f"{_MARKS['base']}base model")]
    cells += [cell("–" if x is None else f"{x:.4g}", "" if x is None else x) for x in values]
    cells += [cell("")] * blanks
    return row(cells, "base")


def _setting_cell(value: object) -> str:
    text = format_setting(value)
    return cell(text, value if isinstance(value, int | float) else text, css="wrap")
