"""A sampler that models what trials give with Gaussian processes, by BoTorch.

The next point is the one with the largest expected gain of hypervolume (one objective: of the best
value) over what is known. Trials under way count as if they had given what the model expects, so
any number may run at the same time. The gain of several objectives is that of Daulton et al.,
"Differentiable Expected Hypervolume Improvement", 2020, in the logarithm of Ament et al.,
"Unexpected Improvements to Expected Improvement", 2023.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.models import SingleTaskGP
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from hft_ray.pareto.dominance import nondominated
from hft_ray.search.bayes.acquisition import AlongCurve, Feasible, Gain, best_point
from hft_ray.search.bayes.encoding import Encoding, Searched, key
from hft_ray.search.bayes.observed import (
    Observed,
    Readings,
    Scaled,
    ends,
    observed,
    signs,
    standardised,
)
from hft_ray.search.bayes.processes import Fit, Prediction, fitted, process
from hft_ray.search.bayes.scales import Array

MOST = 1000
"""Most points that a model holds."""
POSITIONS = 5
"""Most positions on its curve at which the worth of a point is looked at."""
AHEAD = 256
"""So many points of the evenly spread ones are looked at for one that is new."""

Reference = Callable[[], Sequence[float] | None]
"""Returns the value of each objective from which on it is worth nothing; None: not known."""


class BotorchSampler(optuna.samplers.BaseSampler):
    """Proposes the point with the largest expected gain.

    Args:
        settings: The space, each setting after those that its conditions name.
        seed: Of the points that the sweep begins with, and of all else that is random.
        startup: Points that are spread evenly over the space before there is a model; by default
            two for each setting and two more, at most 12.
        readings: What a complete trial yields.
        reference: What is worth nothing; by default the worst values that there are.
    """

    def __init__(
        self,
        settings: Sequence[Searched],
        seed: int = 0,
        startup: int | None = None,
        readings: Readings = ends,
        reference: Reference = lambda: None,
    ) -> None:
        self._encoding = Encoding(settings)
        self._seed = seed
        self._startup = min(12, 2 * len(settings) + 2) if startup is None else startup
        self._readings, self._reference = readings, reference
        self._fits: dict[str, Fit] = {}
        self._random = optuna.samplers.RandomSampler(seed=seed)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all settings, whether they exist or not."""
        return self._encoding.distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the settings of the next point that exist there."""
        trials = [each for each in study.get_trials(deepcopy=False) if each.number != trial.number]
        seen = observed(trials, self._encoding, study.directions, self._readings)
        rng = np.random.default_rng([self._seed, trial.number])
        if seen.trials < self._startup or len(seen.points) < 2:
            return self._encoding.params(self._spread(seen.trials, seen.known))
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(int(rng.integers(2**31)))
            point = self._modelled(seen, study, rng)
        return self._encoding.params(
            self._spread(seen.trials, seen.known) if point is None else point
        )

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a random value of a setting that is not part of the space."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _spread(self, begun: int, known: set[bytes]) -> Array:
        """Return the next point that is not known in a sequence that is spread evenly.

        Args:
            begun: Points that there are.
            known: Their keys.
        """
        columns = len(self._encoding.settings)
        sobol = torch.quasirandom.SobolEngine(columns, scramble=True, seed=self._seed)
        uniform = sobol.fast_forward(begun).draw(AHEAD, dtype=torch.double).numpy()
        points = self._encoding.draw(uniform)
        found: Array = next((each for each in points if key(each) not in known), points[0])
        return found

    def _modelled(
        self, seen: Observed, study: optuna.Study, rng: np.random.Generator
    ) -> Array | None:
        kept, positions = _kept(seen), _positions(seen)
        scaled = standardised(seen.values[kept], seen.variances[kept])
        x = self._rows(seen, seen.points[kept], seen.positions[kept])
        running = seen.pending.repeat(len(positions), axis=0)
        pending = self._rows(seen, running, np.tile(positions, len(seen.pending)))
        name = f"values {scaled.columns}"
        model, self._fits[name] = fitted(x, scaled.values, scaled.variances, self._fits.get(name))
        prediction = Prediction(model)
        with torch.no_grad():
            said, _ = prediction(torch.as_tensor(np.concatenate([x, pending])))
        believed, awaited = np.split(said.numpy(), [len(x)])
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
                self._worthless(study, scaled, scaled.values[feasible]),
            )
        if limits := self._limits(seen):
            worth = Feasible(worth, limits)
        assert worth is not None
        if len(positions) > 1:
            worth = AlongCurve(worth, positions)
        return best_point(worth, self._encoding, seen.known, points[nondominated(-believed)], rng)

    def _rows(self, seen: Observed, points: Array, positions: Array) -> Array:
        """Return what the models see: points, and where trials yield curves, positions on them."""
        features = self._encoding.features(points)
        return np.hstack([features, positions[:, None]]) if seen.curved else features

    def _worthless(self, study: optuna.Study, scaled: Scaled, values: Array) -> Array:
        """Return what is worth nothing, on the scale of ``scaled``."""
        given = self._reference()
        if given is None:
            worst: Array = values.min(axis=0)
            return worst
        return scaled.like(signs(study.directions) * np.asarray(given, dtype=float))

    def _limits(self, seen: Observed) -> list[Prediction]:
        """Return a process for each constraint that was violated anywhere."""
        positions = np.concatenate([seen.positions, np.ones(len(seen.forbidden))])
        points = self._rows(seen, np.concatenate([seen.points, seen.forbidden]), positions)
        found = []
        for place, column in enumerate(seen.limits.T):
            there = np.flatnonzero(~np.isnan(column))[-MOST:]
            violations = column[there]
            if not (violations > 0).any():
                continue
            scale = np.median(np.abs(violations[violations != 0]))
            scaled = np.clip(violations / scale, -3, 3)[:, None]
            name = f"limit {place}"
            model, self._fits[name] = fitted(points[there], scaled, None, self._fits.get(name))
            found.append(Prediction(model))
        return found


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
    certain = None
    if scaled.variances is not None:
        certain = np.concatenate([scaled.variances, np.zeros_like(awaited)])
    values = np.concatenate([scaled.values, awaited])
    after = process(np.concatenate([x, pending]), values, certain)
    learned = dict(model.named_parameters())
    with torch.no_grad():
        for name, each in after.named_parameters():
            each.copy_(learned[name])
    return after.eval()
