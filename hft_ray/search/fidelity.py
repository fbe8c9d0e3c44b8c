"""What trials that were stopped early tell the sampler.

Optuna's samplers learn from finished trials. To tell a stopped one as complete would mix values of
different steps; to leave it out, as Optuna does with several objectives, loses most of what a sweep
has seen. So the study keeps it as pruned, and the sampler alone sees an estimate of where it would
have ended: its values on its last rung, plus the median gain that others made from there to the
next rung, and so on to the end. Of two trials that were stopped on one rung, the one that dominated
there dominates in the estimate; against a trial that went on, a stopped one stands as it stood on
the rung, up to how far that one's gain differs from the median.
"""

from __future__ import annotations

import copy
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

Curve = Mapping[int, Sequence[float]]
"""Rung -> values of the objectives there."""
Ends = Mapping[str, Sequence[float]]
"""Trial -> values of the objectives."""


def estimate_ends(curves: Mapping[str, Curve], ends: Ends, stopped: Iterable[str]) -> Ends:
    """Return where the stopped trials would have ended.

    Args:
        curves: For each trial its values on the rungs it came to; those that are under way count.
        ends: The values at the end of each trial that came to it.
        stopped: Trials to estimate; those without any rung are left out.
    """
    gains: dict[int, list[Any]] = defaultdict(list)
    finals: dict[int, list[Any]] = defaultdict(list)
    rungs = sorted({rung for curve in curves.values() for rung in curve})
    following = dict(itertools.pairwise(rungs))
    for trial, curve in curves.items():
        for rung, values in curve.items():
            if (after := curve.get(following.get(rung, -1))) is not None:
                gains[rung].append(np.subtract(after, values))
        if trial in ends and curve:
            last = max(curve)
            finals[last].append(np.subtract(ends[trial], curve[last]))
    # The gain from each rung to the end, from the last rung down.
    total: dict[int, Any] = {}
    for rung in reversed(rungs):
        if gains[rung]:
            total[rung] = np.median(gains[rung], axis=0) + total[following[rung]]
        else:
            total[rung] = np.median(finals[rung], axis=0) if finals[rung] else 0.0
    last_seen = {trial: max(curves[trial]) for trial in stopped if trial in curves}
    return {
        trial: (np.asarray(curves[trial][rung]) + total[rung]).tolist()
        for trial, rung in last_seen.items()
    }


class InformedSampler(optuna.samplers.BaseSampler):
    """A sampler that sees stopped trials as complete, with estimated values.

    Args:
        sampler: The sampler.
        estimates: Returns trial number -> values of the objectives, for the stopped trials.
    """

    def __init__(
        self,
        sampler: optuna.samplers.BaseSampler,
        estimates: Callable[[], Mapping[int, Sequence[float]]],
    ) -> None:
        self._sampler, self._estimates = sampler, estimates

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Look at the study once for all parameters of a trial."""
        self._view = _View(study, self._estimates())
        self._sampler.before_trial(self._view, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        """See the base class."""
        return self._sampler.infer_relative_search_space(self._view, trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> Any:
        """See the base class."""
        return self._sampler.sample_relative(self._view, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """See the base class."""
        return self._sampler.sample_independent(self._view, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """See the base class."""
        self._sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """See the base class."""
        self._sampler.reseed_rng()


class _View:
    """A study in which stopped trials are complete; all else is the study's own."""

    def __init__(self, study: optuna.Study, estimates: Mapping[int, Sequence[float]]) -> None:
        self._study, self._estimates = study, estimates
        self._complete: dict[int, FrozenTrial] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Iterable[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = self._study._get_trials(deepcopy=deepcopy, use_cache=use_cache)
        seen = [self._seen(trial) for trial in trials]
        return seen if states is None else [trial for trial in seen if trial.state in states]

    def _seen(self, trial: FrozenTrial) -> FrozenTrial:
        if trial.state != TrialState.PRUNED or trial.number not in self._estimates:
            return trial
        if trial.number not in self._complete:
            complete = self._complete[trial.number] = copy.copy(trial)
            complete.state = TrialState.COMPLETE
            complete.values = list(self._estimates[trial.number])
        return self._complete[trial.number]
