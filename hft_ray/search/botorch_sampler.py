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
from botorch.models import SingleTaskGP
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from hft_ray.pareto.dominance import nondominated
from hft_ray.search.bayes.acquisition import Feasible, Gain, best_point
from hft_ray.search.bayes.encoding import Encoding, Searched
from hft_ray.search.bayes.observed import Observed, Variances, observed, standardised
from hft_ray.search.bayes.processes import Fit, fitted, process
from hft_ray.search.bayes.scales import Array

MOST = 1000
"""Most points that a model holds."""
SPIKE = 1e-4

Reference = Callable[[], Sequence[float] | None]
"""Returns the value of each objective that is worth nothing; None where it is not known."""


class BotorchSampler(optuna.samplers.BaseSampler):
    """Proposes the point with the largest expected gain.

    Args:
        settings: The space, each setting after those that its conditions name.
        seed: Of the points that the sweep begins with, and of all else that is random.
        startup: Points that are spread evenly over the space before there is a model; by default
            two for each setting and two more, at most 12.
        variances: Of the values of a trial, where they are known.
        reference: What is worth nothing; by default the worst values that there are.
    """

    def __init__(
        self,
        settings: Sequence[Searched],
        seed: int = 0,
        startup: int | None = None,
        variances: Variances | None = None,
        reference: Reference | None = None,
    ) -> None:
        self._encoding = Encoding(settings)
        self._seed = seed
        self._startup = min(12, 2 * len(settings) + 2) if startup is None else startup
        self._variances, self._reference = variances, reference
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
        seen = observed(trials, self._encoding, study.directions, self._variances)
        rng = np.random.default_rng([self._seed, trial.number])
        begun = len(seen.points) + len(seen.forbidden) + len(seen.pending)
        if begun < self._startup or len(seen.points) < 2:
            return self._encoding.params(self._spread(begun, rng))
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(int(rng.integers(2**31)))
            point = self._modelled(seen, study, rng)
        return self._encoding.params(self._spread(begun, rng) if point is None else point)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a random value of a setting that is not part of the space."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _spread(self, number: int, rng: np.random.Generator) -> Array:
        """Return the point of this number in a sequence that is spread evenly."""
        columns = len(self._encoding.settings)
        sobol = torch.quasirandom.SobolEngine(columns, scramble=True, seed=self._seed)
        uniform = sobol.fast_forward(number).draw(1, dtype=torch.double).numpy()
        point: Array = self._encoding.draw(uniform)[0]
        return point

    def _modelled(
        self, seen: Observed, study: optuna.Study, rng: np.random.Generator
    ) -> Array | None:
        features = self._encoding.features
        kept = _kept(seen)
        values, variances, order = standardised(seen.values[kept], seen.variances[kept])
        x, pending = features(seen.points[kept]), features(seen.pending)
        model, self._fits["values"] = fitted(x, values, variances, self._fits.get("values"))
        limits = self._limits(seen)
        with torch.no_grad():
            believed = model.posterior(torch.as_tensor(x)).mean.numpy()
            awaited = model.posterior(torch.as_tensor(pending)).mean.numpy()
        if len(pending):
            model = _with(model, x, values, variances, pending, awaited)
        feasible = seen.feasible[kept]
        good = np.concatenate([believed[feasible], awaited]) if feasible.any() else None
        worth = None
        if good is not None:
            import os

            reference = values[feasible].min(axis=0)
            if os.environ.get("REF") == "nadir":
                fr = values[feasible][nondominated(-values[feasible])]
                reference = fr.min(axis=0) - 0.1 * (fr.max(axis=0) - fr.min(axis=0))
            if os.environ.get("REF") == "two":
                raw = seen.values[kept]
                reference = np.array(
                    [
                        ((np.array([-2.0, -2.0, -2.0][: raw.shape[1]]) - raw.mean(0)) / raw.std(0))[
                            o
                        ]
                        for o in order
                    ]
                )
            front = good[nondominated(-good)]
            worth = Gain(model, front, reference)
        if limits:
            worth = Feasible(worth, limits)
        assert worth is not None
        near = seen.points[kept][feasible] if feasible.any() else seen.points[kept]
        costs = -(believed[feasible] if feasible.any() else believed)
        return best_point(worth, self._encoding, seen.known, near[nondominated(costs)], rng)

    def _limits(self, seen: Observed) -> list[SingleTaskGP]:
        """Return a process for each constraint that was violated anywhere."""
        points = self._encoding.features(np.concatenate([seen.points, seen.forbidden]))
        models = []
        for place, column in enumerate(seen.limits.T):
            there = np.flatnonzero(~np.isnan(column))[-MOST:]
            violations = column[there]
            if not (violations > 0).any():
                continue
            scale = np.median(np.abs(violations[violations != 0]))
            scaled = np.clip(violations / scale, -3, 3)[:, None]
            name = f"limit {place}"
            model, self._fits[name] = fitted(points[there], scaled, None, self._fits.get(name))
            models.append(model)
        return models


def _kept(seen: Observed) -> Any:
    """Return which points a model holds: all, or the best and the newest."""
    count = len(seen.points)
    if count <= MOST:
        return slice(None)
    first = nondominated(-seen.values) & seen.feasible
    newest = np.argsort(~first, kind="stable")[: MOST // 2]
    rest = np.arange(count)[::-1]
    chosen = list(dict.fromkeys([*newest[: int(first.sum())].tolist(), *rest.tolist()]))
    return np.sort(chosen[:MOST])


def _with(
    model: SingleTaskGP,
    x: Array,
    values: Array,
    variances: Array | None,
    pending: Array,
    awaited: Array,
) -> SingleTaskGP:
    """Return the model as it will be when what is under way gives what it expects."""
    certain = None
    if variances is not None:
        certain = np.concatenate([variances, np.full(awaited.shape, SPIKE)])
    after = process(np.concatenate([x, pending]), np.concatenate([values, awaited]), certain)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, each in after.named_parameters():
            each.copy_(own[name])
    return after.eval()
