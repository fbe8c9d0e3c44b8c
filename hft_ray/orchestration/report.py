"""The files of a sweep's report."""

from __future__ import annotations

from pathlib import Path

from hft_ray.analysis import Setting, influence_section, influences
from hft_ray.analysis.settings import text
from hft_ray.config import Choices, Config
from hft_ray.pareto import Front, front_json, render_html, render_png


def write_front(front: Front, config: Config, folder: Path) -> list[Path]:
    """Write ``front.json``, ``front.html`` and ``front.png`` to ``folder``; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    data, page, picture = (folder / f"front.{suffix}" for suffix in ("json", "html", "png"))
    data.write_text(front_json(front), encoding="utf-8")
    found = influences(front.points, searched(config), list(front.objectives))
    section = influence_section(front, found)
    sections = [] if section is None else [section]
    page.write_text(render_html(front, sections=sections), encoding="utf-8")
    render_png(front, picture)
    return [data, page, picture]


def searched(config: Config) -> list[Setting]:
    """Return the searched settings of FILE as the analysis takes them."""
    assert config.search is not None
    found = []
    for key, entry in config.search.space.items():
        if isinstance(entry, Choices):
            found.append(Setting(key, choices=tuple(dict.fromkeys(map(text, entry.choices)))))
        else:
            found.append(Setting(key, float(entry.low), float(entry.high), entry.log))
    return found
