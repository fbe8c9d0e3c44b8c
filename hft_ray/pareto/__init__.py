"""Pareto fronts of a sweep: non-dominated set, hypervolume, knee, and their pictures."""

from hft_ray.pareto.choice import ChoiceError, choose
from hft_ray.pareto.comparison import Comparison, compare
from hft_ray.pareto.figure_html import render_html
from hft_ray.pareto.figure_png import render_png
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
    "format_setting",
    "format_value",
    "front_rows",
    "render_html",
    "render_png",
]
