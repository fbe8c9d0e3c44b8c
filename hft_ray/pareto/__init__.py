"""Pareto fronts of a sweep: non-dominated set, hypervolume, knee, and their pictures."""

from hft_ray.pareto.arms import arm_rows, arm_table, with_error
from hft_ray.pareto.certainty import Certainty
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
from hft_ray.pareto.figure_html import hover, render_html
from hft_ray.pareto.figure_png import render_png
from hft_ray.pareto.figure_tasks import render_sequence, sequence_csv
from hft_ray.pareto.figure_trial import render_selection
from hft_ray.pareto.front import Front, build_front
from hft_ray.pareto.noise import noise_of, seed_covariance
from hft_ray.pareto.plotting import Section
from hft_ray.pareto.points import Answers, Direction, Point, arm_of
from hft_ray.pareto.replicates import merged
from hft_ray.pareto.rules import Limit, Preferred
from hft_ray.pareto.seeds import front_json
from hft_ray.pareto.table import estimate_text, format_setting, format_value, front_rows

__all__ = [
    "Answers",
    "Certainty",
    "ChoiceError",
    "Comparison",
    "Direction",
    "Front",
    "Limit",
    "Point",
    "Preferred",
    "Section",
    "arm_of",
    "arm_rows",
    "arm_table",
    "build_front",
    "choose",
    "compare",
    "difference_rows",
    "distance_rows",
    "estimate_text",
    "format_setting",
    "format_value",
    "front_json",
    "front_rows",
    "hover",
    "match_rows",
    "merged",
    "noise_of",
    "render_comparison_html",
    "render_comparison_png",
    "render_html",
    "render_png",
    "render_selection",
    "render_sequence",
    "seed_covariance",
    "sequence_csv",
    "side_rows",
    "with_error",
]
