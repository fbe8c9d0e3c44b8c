"""The files of a report: of one sweep, and of a comparison of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hft_ray.analysis import Setting
from hft_ray.pareto import Comparison, Front
from hft_ray.report.comparison_html import render_comparison_html
from hft_ray.report.comparison_png import render_comparison_png
from hft_ray.report.front_html import render_html
from hft_ray.report.front_png import render_png
from hft_ray.report.influence_html import influence_section
from hft_ray.report.json_content import comparison_json, front_json


def write_front(
    front: Front,
    searched: Sequence[Setting],
    folder: Path,
    facts: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write ``front.json``, ``front.html`` and ``front.png`` to ``folder``; return the files.

    Args:
        front: The front.
        searched: The searched settings, of which the page says what they do.
        folder: Where to write; made if it is not there.
        facts: What else the head of the page says: label -> text.
    """
    # Takes two seconds of processor time, which a sweep need not wait for at its start.
    from hft_ray.analysis.influence import influences

    folder.mkdir(parents=True, exist_ok=True)
    data, page, picture = (folder / f"front.{suffix}" for suffix in ("json", "html", "png"))
    data.write_text(front_json(front), encoding="utf-8")
    found = influences(front.points, searched, list(front.objectives))
    section = influence_section(front, found)
    sections = [] if section is None else [section]
    page.write_text(render_html(front, facts, sections), encoding="utf-8")
    render_png(front, picture)
    return [data, page, picture]


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write ``compare.json``, ``compare.html`` and ``compare.png``; see :func:`write_front`."""
    folder.mkdir(parents=True, exist_ok=True)
    data, page, picture = (folder / f"compare.{suffix}" for suffix in ("json", "html", "png"))
    data.write_text(comparison_json(comparison), encoding="utf-8")
    page.write_text(render_comparison_html(comparison), encoding="utf-8")
    render_comparison_png(comparison, picture)
    return [data, page, picture]
