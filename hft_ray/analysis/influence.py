"""The influence of each searched setting on each metric: importance and partial dependence.

The importance of a setting is the share of the metric's variance over the space that the setting
alone accounts for: functional analysis of variance (Hutter, Hoos and Leyton-Brown, "An efficient
approach for assessing hyperparameter importance", ICML 2014), by ``optuna.importance``. The rest to
1 is due to settings acting together. Optuna's random forest is given predictions of a regression
for configurations drawn evenly from the space: on the few noisy trials of a sweep it would count
noise as interactions.

The partial dependence on a setting at value v is the mean prediction over the same configurations,
the setting held at v (Friedman, "Greedy function approximation: a gradient boosting machine",
Annals of Statistics 29(5), 2001, sec. 8.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator
from scipy.stats import qmc

from hft_ray.analysis.regression import Regression
from hft_ray.analysis.settings import Array, Setting, encoded
from hft_ray.pareto import Point

_DRAWS = 256
_GRID = 25
_TREES = 8
_MOST = 400
"""Configurations that are used at most; the time grows faster than their number."""
FEWEST = 6
"""Complete configurations that an influence needs."""


@dataclass(frozen=True)
class Curve:
    """Partial dependence of a metric on one setting.

    Attributes:
        places: Encoded values (g,): 0 to 1 of an interval, or the index of each choice.
        mean: Expected metric there, averaged over the other settings, in the metric's unit.
        deviation: Its standard deviation under the regression.
    """

    setting: Setting
    places: Array
    mean: Array
    deviation: Array


@dataclass(frozen=True)
class Influence:
    """The influence of the settings on one metric.

    Attributes:
        importance: Setting's key -> share of the variance, 0 to 1, the largest first.
        curves: Setting's key -> partial dependence.
        explained: Share of the variance that the regression predicts for configurations left out;
            importance and curves are as reliable as this.
        configurations: Number of configurations used.
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
        seed: Seed of the configurations drawn from the space.
    """
    used = [setting for setting in settings if not setting.is_seed]
    if not used:
        return []
    found = [_influence(points, used, metric, seed) for metric in metrics]
    return [each for each in found if each is not None]


def _influence(
    points: Sequence[Point], settings: list[Setting], metric: str, seed: int
) -> Influence | None:
    measured = [p for p in points if p.state == "complete" and p.measured([metric])]
    X = encoded(settings, [point.params for point in measured])
    y = np.array([point.values[metric] for point in measured])
    placed = np.flatnonzero(np.isfinite(X).all(axis=1))
    if len(placed) < FEWEST:
        return None
    if len(placed) > _MOST:
        placed = np.sort(np.random.default_rng(seed).choice(placed, _MOST, replace=False))
    X, y = X[placed], y[placed]
    regression, space = Regression(settings, X, y), _drawn(settings, seed)
    curves = {}
    for index, setting in enumerate(settings):
        places = _places(setting)
        curve = regression.partial_dependence(index, places, space)
        curves[setting.key] = Curve(setting, places, *curve)
    return Influence(
        metric=metric,
        importance=_importances(settings, regression, space),
        curves=curves,
        explained=regression.explained,
        configurations=len(y),
    )


def _importances(settings: list[Setting], regression: Regression, space: Array) -> dict[str, float]:
    """Return setting's key -> share of the variance, by fANOVA of the predictions over the space.

    Optuna sees encoded settings: a logarithmic interval counts evenly over its logarithm.
    """
    predicted = regression.predict(space)
    if np.ptp(predicted) <= 1e-9 * np.abs(predicted).max():
        return dict.fromkeys((setting.key for setting in settings), 0.0)
    distributions = {
        each.key: CategoricalDistribution(range(len(each.choices)))
        if each.categorical
        else FloatDistribution(0, 1)
        for each in settings
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for row, value in zip(space.tolist(), predicted.tolist(), strict=True):
        params = dict(zip(distributions, row, strict=True))
        study.add_trial(
            optuna.create_trial(params=params, distributions=distributions, value=value)
        )
    shares = FanovaImportanceEvaluator(n_trees=_TREES, seed=0).evaluate(study)
    return {key: float(share) for key, share in shares.items()}


def _places(setting: Setting) -> Array:
    if setting.categorical:
        return np.arange(len(setting.choices), dtype=np.float64)
    return np.linspace(0, 1, _GRID)


def _drawn(settings: Sequence[Setting], seed: int) -> Array:
    """Return configurations (m, d) drawn evenly from the space."""
    drawn = qmc.LatinHypercube(len(settings), rng=seed).random(_DRAWS)
    kinds = np.array([len(setting.choices) for setting in settings])
    return np.where(kinds > 0, np.floor(drawn * kinds), drawn)
