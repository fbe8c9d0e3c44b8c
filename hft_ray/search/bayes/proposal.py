"""The point that a model of all results expects most of."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.models import SingleTaskGP
from scipy.stats.qmc import Sobol

from hft_ray.pareto.dominance import nondominated
from hft_ray.search.bayes.acquisition import AlongCurve, Feasible, Gain, best_point
from hft_ray.search.bayes.encoding import Encoding
from hft_ray.search.bayes.observed import Known, Observed, Scaled, standardised
from hft_ray.search.bayes.processes import Fit, Prediction, fitted, process
from hft_ray.search.bayes.scales import Array

MOST = 1000
"""Most values that a model holds."""
BEGINNINGS = 16
"""Settings, spread evenly over the space, at which a model is told what the base gives."""
POSITIONS = 5
"""Most positions on its curve at which the worth of a point is looked at."""


class Proposer:
    """Proposes the point with the largest expected gain; keeps what it learned of the models.

    Args:
        encoding: The space.
    """

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._fits: dict[str, Fit] = {}

    def __call__(self, seen: Observed, known: Known, rng: np.random.Generator) -> Array | None:
        """Return the point; None when all are known.

        Args:
            seen: What trials gave.
            known: What is known beside them.
            rng: Random numbers.
        """
        # Kept and dropped: BoTorch warns of a climb that ends early whatever the filters say.
        with warnings.catch_warnings(record=True), torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            return self._best(seen, known, rng)

    def _best(self, seen: Observed, known: Known, rng: np.random.Generator) -> Array | None:
        kept, positions = _kept(seen), _positions(seen)
        scaled = standardised(seen.values[kept])
        x = self.rows(seen, seen.points[kept], seen.positions[kept])
        if seen.curved and known.base is not None:
            scaled, x = self.with_base(scaled, x, known.base)
        running = seen.pending.repeat(len(positions), axis=0)
        pending = self.rows(seen, running, np.tile(positions, len(seen.pending)))
        name = f"values {scaled.columns}"
        model, self._fits[name] = fitted(x, scaled.values, self._fits.get(name))
        prediction = Prediction(model)
        with torch.no_grad():
            said, _ = prediction(torch.as_tensor(np.concatenate([x, pending])))
        believed, awaited = np.split(said.numpy(), [len(x)])
        believed = believed[len(x) - len(seen.points[kept]) :]
        if len(pending):
            prediction = Prediction(_with(model, x, scaled, pending, awaited))
        feasible = seen.feasible[kept]
        points = seen.points[kept]
        worth: AcquisitionFunction | None = None
        if feasible.any():
            points, believed = points[feasible], believed[feasible]
            reached = np.concatenate([believed, awaited])
            worth = Gain(
                prediction,
                reached[nondominated(-reached)],
                _worthless(known.reference, scaled, believed),
                np.full(believed.shape[1], np.inf)
                if known.best is None
                else scaled.like(known.best),
            )
        if limits := self._limits(seen):
            worth = Feasible(worth, limits)
        assert worth is not None
        if len(positions) > 1:
            worth = AlongCurve(worth, positions)
        return best_point(worth, self._encoding, seen.known, points[nondominated(-believed)], rng)

    def with_base(self, scaled: Scaled, x: Array, base: Array) -> tuple[Scaled, Array]:
        """Return what a model learns from, and before it that every curve begins at the base."""
        sobol = Sobol(len(self._encoding.settings), scramble=True, rng=0)
        features = self._encoding.features(self._encoding.draw(sobol.random(BEGINNINGS)))
        rows = np.hstack([features, np.zeros((BEGINNINGS, 1))])
        values = np.tile(scaled.like(base), (BEGINNINGS, 1))
        everything = np.concatenate([values, scaled.values])
        return replace(scaled, values=everything), np.concatenate([rows, x])

    def rows(self, seen: Observed, points: Array, positions: Array) -> Array:
        """Return what the models see: points, and where trials yield curves, positions on them."""
        features = self._encoding.features(points)
        return np.hstack([features, positions[:, None]]) if seen.curved else features

    def _limits(self, seen: Observed) -> list[Prediction]:
        """Return a process for each constraint that was violated anywhere."""
        positions = np.concatenate([seen.positions, np.ones(len(seen.forbidden))])
        points = self.rows(seen, np.concatenate([seen.points, seen.forbidden]), positions)
        found = []
        for place, column in enumerate(seen.limits.T):
            there = np.flatnonzero(~np.isnan(column))[-MOST:]
            violations = column[there]
            if not (violations > 0).any():
                continue
            scale = np.median(np.abs(violations[violations != 0]))
            scaled = np.clip(violations / scale, -3, 3)[:, None]
            name = f"limit {place}"
            model, self._fits[name] = fitted(
                points[there], scaled, self._fits.get(name), bounded=True
            )
            found.append(Prediction(model))
        return found


def _worthless(reference: Array | None, scaled: Scaled, values: Array) -> Array:
    """Return what is worth nothing, on the scale of ``scaled``."""
    if reference is None:
        worst: Array = values.min(axis=0)
        return worst
    return scaled.like(reference)


def _positions(seen: Observed) -> Array:
    """Return the positions that most curves have, the trained model first."""
    positions, counts = np.unique(seen.positions, return_counts=True)
    return np.array(sorted(positions, key=lambda x: (-counts[positions == x][0], -x))[:POSITIONS])


def _kept(seen: Observed) -> Any:
    """Return which points a model holds: all, or those of the front and the newest."""
    count = len(seen.points)
    if count <= MOST:
        return slice(None)
    front = np.flatnonzero(nondominated(-seen.values) & seen.feasible)[-MOST // 2 :]
    chosen = list(dict.fromkeys([*front.tolist(), *range(count - 1, -1, -1)]))
    return np.sort(chosen[:MOST])


def _with(
    model: SingleTaskGP, x: Array, scaled: Scaled, pending: Array, awaited: Array
) -> SingleTaskGP:
    """Return the model as it will be when what is under way gives what it expects."""
    values = np.concatenate([scaled.values, awaited])
    after = process(np.concatenate([x, pending]), values)
    learned = dict(model.named_parameters())
    with torch.no_grad():
        for name, each in after.named_parameters():
            each.copy_(learned[name])
    return after.eval()
