"""Pareto fronts of a sweep: non-dominated set, hypervolume, knee, and their pictures."""

from hft_ray.pareto.choice import ChoiceError, choose
from hft_ray.pareto.comparison import Comparison, compare
from hft_ray.pareto.comparison_html import render_comparison_html
from hft_ray.pareto.comparison_png import render_comparison_png
from hft_ray.pareto.comparison_table import (
    difference_rows,
    distance_rows,
    match_rows,
    side_rows,
)
from hft_ray.pareto.figure_html import render_html
from hft_ray.pareto.figure_png import render_png
from hft_ray.pareto.figure_trial import render_selection
from hft_ray.pareto.front import Front, build_front
from hft_ray.pareto.points import Direction, Point
from hft_ray.pareto.table import format_setting, format_value, front_rows

__all__ = [
    "ChoiceError",
    "Comparison",
    "Direction",
    "Front",
    "Point",
    "build_front",
    "choose",
    "compare",
    "difference_rows",
    "distance_rows",
    "format_setting",
    "format_value",
    "front_rows",
    "match_rows",
    "render_comparison_html",
    "render_comparison_png",
    "render_html",
    "render_png",
    "render_selection",
    "side_rows",
]
