"""Values, estimates and settings as short text."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from hft_ray.pareto import Point
from hft_ray.pareto.uncertainty import IntervalEstimate


def format_value(value: float | None, error: float | None = None) -> str:
    """Return ``0.912 ± 0.013``: the error with two digits, the value with as many decimals.

    A value without an error, or whose error is 0, is taken as exact and stands alone.
    """
    if value is None or math.isnan(value):
        return "–"
    if not error or not math.isfinite(error) or not math.isfinite(value):
        return f"{value:.4g}"
    decimals = min(max(0, 1 - math.floor(math.log10(error))), 6)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def estimate_text(estimate: IntervalEstimate | None) -> str:
    """Return ``0.745 [0.712, 0.778]``, or a dash when nothing is known of the noise."""
    if estimate is None:
        return "–"
    value, *_ = format_value(estimate.value, estimate.error).split(" ")
    low, high = estimate.interval()
    if max(abs(low), abs(high)) >= 1e5:
        return f"{estimate.value:.4g} [{low:.4g}, {high:.4g}]"
    decimals = len(value.partition(".")[2])
    return f"{value} [{low:.{decimals}f}, {high:.{decimals}f}]"


def format_setting(value: Any) -> str:
    """Return one configuration value as short text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def varied_params(points: Sequence[Point], longest: int = 8) -> list[str]:
    """Return the settings that differ between the points, at most ``longest``.

    The arm comes first, then ``selection.*``: it is what a sweep is about.
    """
    keys = dict.fromkeys(key for point in points for key in point.params)
    varied = [k for k in keys if len({format_setting(p.setting(k)) for p in points}) > 1]
    order = sorted(varied, key=lambda key: (key != "arm", not key.startswith("selection.")))
    return order[:longest]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return each dotted key's last part, or the whole key where two would read the same."""
    last = [key.rsplit(".", 1)[-1] for key in keys]
    return {
        key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)
    }


def value_text(point: Point, name: str) -> str:
    """Return a metric of a point, ``0.21 ± 0.03``, without the error where none is known."""
    return format_value(point.values.get(name), point.errors.get(name))


def interval_text(point: Point, name: str) -> str:
    """Return ``0.21 [0.15, 0.27]``, without the 95 % interval where no error is known."""
    estimate = estimate_of(point, name)
    if estimate is None or not estimate.error or not math.isfinite(estimate.value):
        return format_value(point.values.get(name))
    return estimate_text(estimate)


def with_interval(point: Point, name: str) -> str:
    """Return ``0.21 [0.15, 0.27] (t0007)``, without the interval where no error is known."""
    return f"{interval_text(point, name)} ({point.label})"


def estimate_of(point: Point, name: str) -> IntervalEstimate | None:
    """Return a metric of a point with its standard error, None where no error is known."""
    error = point.errors.get(name)
    if error is None or name not in point.values:
        return None
    return IntervalEstimate(point.values[name], error)
