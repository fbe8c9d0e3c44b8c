"""What every interactive figure has in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hft_ray.pareto import picture

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
AXIS = {"gridcolor": picture.GRID, "zeroline": False, "ticks": "", "automargin": True}
_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
}


@dataclass(frozen=True)
class Section:
    """A part of a front's page: plotly figures under a title, and HTML (escaped) below them."""

    title: str
    figures: tuple[Any, ...]
    html: str


def style(figure: Any, height: int) -> None:
    """Give a figure the project's look."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 60, "r": 20, "t": 50, "b": 60},
        font={"family": FONT, "size": 14, "color": picture.INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hovermode="closest",
        hoverlabel={"bgcolor": "white", "align": "left", "font": {"size": 13, "family": FONT}},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    figure.update_xaxes(**AXIS)
    figure.update_yaxes(**AXIS)


def plots_html(figures: Sequence[Any]) -> list[str]:
    """Return each figure's HTML; the first has plotly's script inside, for all of them."""
    return [
        figure.to_html(
            full_html=False,
            include_plotlyjs=index == 0,
            div_id=f"figure-{index}",
            config=_CONFIG,
        )
        for index, figure in enumerate(figures)
    ]
