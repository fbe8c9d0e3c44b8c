"""Fronts and comparisons as text, JSON, pages and pictures.

Importing this package imports neither plotly nor matplotlib; its modules that draw do.
"""

from hft_ray.report.formatting import estimate_text, format_setting, format_value
from hft_ray.report.json_content import comparison_json, front_json

__all__ = [
    "comparison_json",
    "estimate_text",
    "format_setting",
    "format_value",
    "front_json",
]
