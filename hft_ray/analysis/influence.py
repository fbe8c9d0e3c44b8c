"""What each searched setting does to each metric: importance and partial dependence.

Both come from one surrogate per metric. Partial dependence of setting j at value v is the mean
prediction over configurations drawn evenly from the space, setting j held at v; its importance is
the share of the prediction's variance over the space that this curve alone accounts for: the first
order of functional analysis of variance (Hutter, Hoos and Leyton-Brown, "An efficient approach for
assessing hyperparameter importance", ICML 2014, eq. 6-8, there with a random forest). What is left
to 1 is due to settings acting together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hft_ray.analysis.settings import Array, Setting, encoded
from hft_ray.analysis.surrogate import MOST, Surrogate, fit
from hft_ray.pareto import Point

_DRAWS = 256
_GRID = 25
FEWEST = 6
"""Complete configurations without which nothing is said."""


@dataclass(frozen=True)
class Curve:
    """Partial dependence of a metric on one setting.

    Attributes:
        places: Encoded values (g,): 0 to 1 of an interval, or the number of each choice.
        mean: Expected metric there, averaged over the other settings, in the metric's unit.
        deviation: Its standard deviation: how unsure the surrogate is.
    """

    setting: Setting
    places: Array
    mean: Array
    deviation: Array


@dataclass(frozen=True)
class Influence:
    """What the settings do to one metric.

    Attributes:
        importance: Setting's key -> share of the variance, 0 to 1, the largest first.
        curves: Setting's key -> partial dependence.
        explained: Share of the variance that is predicted for configurations left out; what
            importance and curves say is worth as much as this.
        configurations: How many it was learned from.
    """

    metric: str
    importance: dict[str, float]
    curves: dict[str, Curve]
    explained: float
    configurations: int


def influences(
    points: Sequence[Point], settings: Sequence[Setting], metrics: Sequence[str], seed: int = 0
) -> list[Influence]:
    """Return one influence per metric that enough complete points have.

    Args:
        points: Points of a sweep, with the searched settings in their ``params``.
        settings: The searched settings; seeds are left out.
        metrics: Metrics to explain, usually the objectives.
        seed: Seed of the draws from the space.
    """
    used = [setting for setting in settings if not setting.is_seed]
    if not used:
        return []
    found = [_influence(points, used, metric, seed) for metric in metrics]
    return [each for each in found if each is not None]


def _influence(
    points: Sequence[Point], settings: list[Setting], metric: str, seed: int
) -> Influence | None:
    rng = np.random.default_rng(seed)
    measured = [p for p in points if p.state == "complete" and p.measured([metric])]
    X = encoded(settings, [point.params for point in measured])
    y = np.array([point.values[metric] for point in measured])
    placed = np.flatnonzero(np.isfinite(X).all(axis=1))
    if len(placed) < FEWEST:
        return None
    if len(placed) > MOST:
        placed = np.sort(rng.choice(placed, MOST, replace=False))
    X, y = X[placed], y[placed]
    surrogate = fit(X, y, tuple(setting.categorical for setting in settings))
    space = _drawn(settings, rng)
    curves = {
        setting.key: _curve(surrogate, index, setting, space)
        for index, setting in enumerate(settings)
    }
    total = float(surrogate.predict(space).var())
    shares = {
        key: min(1.0, _variance(curve) / total) if total > 0 else 0.0
        for key, curve in curves.items()
    }
    order = sorted(shares, key=lambda key: -shares[key])
    return Influence(
        metric=metric,
        importance={key: shares[key] for key in order},
        curves=curves,
        explained=surrogate.explained,
        configurations=len(y),
    )


def _curve(surrogate: Surrogate, index: int, setting: Setting, space: Array) -> Curve:
    places = (
        np.arange(len(setting.choices), dtype=np.float64)
        if setting.categorical
        else np.linspace(0, 1, _GRID)
    )
    mean, deviation = surrogate.marginal(index, places, space)
    return Curve(setting, places, mean, deviation)


def _variance(curve: Curve) -> float:
    """Return the variance over the setting's values; an interval's ends count half (trapezoids)."""
    weights = np.ones(len(curve.places))
    if not curve.setting.categorical:
        weights[[0, -1]] = 0.5
    mean = np.average(curve.mean, weights=weights)
    return float(np.average((curve.mean - mean) ** 2, weights=weights))


def _drawn(settings: Sequence[Setting], rng: np.random.Generator) -> Array:
    """Return configurations (m, d) drawn evenly from the space."""
    columns = [
        rng.integers(len(setting.choices), size=_DRAWS).astype(np.float64)
        if setting.categorical
        else (rng.permutation(_DRAWS) + rng.random(_DRAWS)) / _DRAWS
        for setting in settings
    ]
    return np.stack(columns, axis=1)
