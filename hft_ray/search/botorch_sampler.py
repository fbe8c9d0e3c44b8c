"""A sampler that models what trials give with Gaussian processes, by BoTorch.

The next point is the one with the largest expected gain of hypervolume (one objective: of the best
value) over what is known. Trials under way count as if they had given what the model expects, so
any number may run at the same time. The gain of several objectives is that of Daulton et al.,
"Differentiable Expected Hypervolume Improvement", 2020, in the logarithm of Ament et al.,
"Unexpected Improvements to Expected Improvement", 2023.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial
from scipy.stats.qmc import Sobol

from hft_ray.search.bayes.encoding import Encoding, Searched, key
from hft_ray.search.bayes.observed import Known, Readings, ends, observed, signs
from hft_ray.search.bayes.scales import Array

if TYPE_CHECKING:
    from hft_ray.search.bayes.proposal import Proposer

log = logging.getLogger(__name__)
MOST_STARTUP = 12
AHEAD = 256
"""So many points of the evenly spread ones are looked at for one that is new."""

Given = Callable[[], Sequence[float] | None]
"""Returns a value for each objective; None: not known."""


class BotorchSampler(optuna.samplers.BaseSampler):
    """Proposes the point with the largest expected gain.

    Args:
        settings: The space, each setting after those that its conditions name.
        seed: Of the points that the sweep begins with, and of all else that is random.
        startup: Most points that are spread evenly over the space before there is a model; two
            for each setting and two more are enough.
        readings: What a complete trial yields.
        reference: What is worth nothing; by default the worst values that there are.
        base: What the untouched model gives, where the curve of each trial begins.
        best: What cannot be surpassed; infinite, with the sign of better, where nothing is known.
    """

    def __init__(
        self,
        settings: Sequence[Searched],
        seed: int = 0,
        startup: int = MOST_STARTUP,
        readings: Readings = ends,
        reference: Given = lambda: None,
        base: Given = lambda: None,
        best: Given = lambda: None,
    ) -> None:
        self._encoding = Encoding(settings)
        self._seed = seed
        self._startup = min(startup, 2 * len(settings) + 2)
        self._readings, self._reference = readings, reference
        self._base, self._best = base, best
        self._proposer: Proposer | None = None
        self._lock = threading.Lock()
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
        return self.propose(study, trial.number)

    def propose(self, study: optuna.Study, number: int) -> dict[str, Any]:
        """Return the settings of trial ``number``, by what the other trials are now.

        It may be called from any thread.
        """
        others = [each for each in study.get_trials(deepcopy=False) if each.number != number]
        seen = observed(others, self._encoding, study.directions, self._readings)
        if seen.trials < self._startup or len(seen.points) < 2:
            return self._encoding.params(self._spread(seen.trials, seen.known))
        point = None
        try:
            with self._lock:
                rng = np.random.default_rng([self._seed, number])
                point = self._models()(seen, self._known(study), rng)
        except (RuntimeError, ValueError):
            # What torch, gpytorch and scipy raise where a matrix cannot be factored or a fit is not
            # finite: a sweep outlives it.
            log.exception("trial %d takes the next evenly spread point", number)
        if point is None:
            point = self._spread(seen.trials, seen.known)
        return self._encoding.params(point)

    def _known(self, study: optuna.Study) -> Known:
        given = (self._reference(), self._base(), self._best())
        sign = signs(study.directions)
        return Known(*(None if each is None else sign * np.asarray(each) for each in given))

    def _models(self) -> Proposer:
        if self._proposer is None:
            # The first trials start without waiting for torch and botorch.
            from hft_ray.search.bayes.proposal import Proposer

            self._proposer = Proposer(self._encoding)
        return self._proposer

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
        sobol = Sobol(len(self._encoding.settings), scramble=True, rng=self._seed)
        if begun:
            sobol.fast_forward(begun)
        points = self._encoding.draw(sobol.random(AHEAD))
        found: Array = next((each for each in points if key(each) not in known), points[0])
        return found
