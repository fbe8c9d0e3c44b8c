"""Learning curves between recorded ones: a regression of all that is recorded, and its residuals.

A search that looks up the nearest recorded configuration finds the same one again wherever it looks
closely, and so is worse off than one that spreads. Here every configuration has scores of its own,
as in the surrogate benchmarks of Zela et al., "Surrogate NAS Benchmarks", 2022: what extremely
randomised trees expect there, and noise on top, which is how some recorded training, drawn by lot,
differed from what they expect: all its scores together, since they err together.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats.qmc import Sobol
from sklearn.ensemble import ExtraTreesRegressor

from hft_ray.config import Choices, Config, Interval
from hft_ray.pareto.spread import alpha_of, average_name
from hft_ray.search.table import Curve, CurvePoint, RecordedVariant, Table

Scores = dict[str, float]
TREES, LEAST, POINTS = 200, 3, 1024


class SmoothedCurves:
    """Curves with averages at any configuration of a space.

    Args:
        config: FILE with ``search``.
        table: What is recorded; trainings that failed are left out.
    """

    def __init__(self, config: Config, table: Table) -> None:
        assert config.search is not None
        self._space, self._seed = config.search.space, config.search.seed
        self._names = list(config.search.objectives)
        whole = [(params, curve) for params, curve in table.trainings if curve[-1].failed is None]
        self._steps = [point.step for point in whole[0][1]]
        self._alphas = sorted(a for name in whole[0][1][-1].variants if (a := alpha_of(name)))
        self._table = Table(config, whole, table.base)
        rows = np.concatenate([self._rows(params) for params, _ in whole])
        scores = np.concatenate([self._scores(curve) for _, curve in whole])
        self._trees = ExtraTreesRegressor(TREES, min_samples_leaf=LEAST, random_state=0)
        self._trees.fit(rows, scores)
        expected = self._trees.predict(rows)
        self._residuals = np.split(scores - expected, len(whole))

    def curve(self, trial: str, params: Mapping[str, Any]) -> Curve:
        """Return the scores that a sweep sees; the trial's id draws their noise."""
        lot = hashlib.blake2b(f"{self._seed} {trial}".encode(), digest_size=8).digest()
        noise = self._residuals[int.from_bytes(lot, "big") % len(self._residuals)]
        return self._curve(params, np.clip(self._expected(params) + noise, 0.0, 1.0))

    def mean(self, params: Mapping[str, Any]) -> Curve:
        """Return the scores without noise."""
        return self._curve(params, self._expected(params))

    def every(self) -> list[Scores]:
        """Return the scores without noise of models and averages all over the space."""
        names = list(self._space)
        units = Sobol(len(names), scramble=True, rng=0).random(POINTS)
        points = [
            {name: self._value(name, x) for name, x in zip(names, u, strict=True)} for u in units
        ]
        # The last of the steps, and the averages.
        rows = [self._rows(params)[len(self._steps) - 1 :] for params in points]
        expected = self._trees.predict(np.concatenate(rows))
        return [dict(zip(self._names, row.tolist(), strict=True)) for row in expected]

    def _value(self, name: str, unit: float) -> Any:
        entry = self._space[name]
        if isinstance(entry, Choices):
            return entry.choices[int(unit * len(entry.choices))]
        assert isinstance(entry, Interval)
        if entry.log:
            return math.exp(math.log(entry.low) + unit * math.log(entry.high / entry.low))
        return entry.low + unit * (entry.high - entry.low)

    def _settings(self, params: Mapping[str, Any]) -> list[float]:
        found: list[float] = []
        for name, entry in self._space.items():
            if isinstance(entry, Choices):
                found += [float(params[name] == choice) for choice in entry.choices]
            else:
                found.append(math.log(params[name]) if entry.log else params[name])
        return found

    def _rows(self, params: Mapping[str, Any]) -> np.ndarray:
        """Return what the trees see: settings, share of the steps, alpha."""
        own, last = self._settings(params), self._steps[-1]
        on_the_way = [[*own, step / last, 1.0] for step in self._steps]
        return np.array([*on_the_way, *([*own, 1.0, alpha] for alpha in self._alphas)])

    def _scores(self, curve: Curve) -> np.ndarray:
        variants = curve[-1].variants
        averages = [variants[average_name(alpha)].metrics for alpha in self._alphas]
        metrics = [*(point.metrics for point in curve), *averages]
        return np.array([[each[name] for name in self._names] for each in metrics])

    def _expected(self, params: Mapping[str, Any]) -> np.ndarray:
        return np.asarray(self._trees.predict(self._rows(params)))

    def _curve(self, params: Mapping[str, Any], scores: np.ndarray) -> Curve:
        """Return a curve of these scores, with the seconds of the nearest recorded training."""
        whole = self._table.curve("", params)
        metrics = [dict(zip(self._names, row.tolist(), strict=True)) for row in scores]
        averages, variants = metrics[len(self._steps) :], {}
        for alpha, each in zip(self._alphas, averages, strict=True):
            seconds = whole[-1].variants[average_name(alpha)].seconds
            variants[average_name(alpha)] = RecordedVariant(each, seconds)
        points = [
            CurvePoint(step, each, at.seconds)
            for step, each, at in zip(self._steps, metrics, whole, strict=False)
        ]
        end = points[-1]
        return [*points[:-1], CurvePoint(end.step, end.metrics, end.seconds, variants=variants)]
