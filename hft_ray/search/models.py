"""Optuna's model-based samplers, fitted to how a study is seen here.

They build on names that Optuna keeps to itself: there is no other way to sort a study's trials
once for all settings. Optuna is bounded to one major version, and a test compares every draw with
that of Optuna's own samplers.
"""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers._tpe.sampler import _split_trials, default_gamma_multiobjective
from optuna.trial import FrozenTrial, TrialState

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class Tpe(optuna.samplers.TPESampler):
    """TPE that models each setting by itself, as Optuna's does for several objectives.

    Optuna sorts all trials anew for each setting, and proposes one setting after the other. Here
    they are sorted once for each trial, and what all trials have is proposed as one point, so that
    one can see whether it is known.
    """

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """See the base class."""
        super().before_trial(study, trial)
        self._sides: tuple[list[FrozenTrial], list[FrozenTrial]] | None = None

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the settings of which a point is proposed."""
        ended = study._get_trials(deepcopy=False, states=ENDED)
        return shared(ended) if len(ended) >= self._n_startup_trials else {}

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Return the proposed point."""
        return {
            name: self._sample(study, trial, {name: each})[name]
            for name, each in search_space.items()
        }

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._sides is None:
            self._sides = self._sorted(study, trial)
        below, above = (
            self._build_parzen_estimator(study, search_space, side, handle_below=good)
            for side, good in zip(self._sides, (True, False), strict=True)
        )
        drawn = below.sample(self._rng.rng, self._n_ei_candidates)
        best = self._compare(drawn, self._compute_acquisition_func(drawn, below, above))
        return {name: each.to_external_repr(best[name]) for name, each in search_space.items()}

    def _sorted(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
        """Return the good trials and the others, those under way among these."""
        states = (*ENDED, TrialState.RUNNING)
        known = study._get_trials(deepcopy=False, states=states)
        known = [each for each in known if each.number != trial.number]
        ended = sum(each.state != TrialState.RUNNING for each in known)
        return _split_trials(study, known, default_gamma_multiobjective(ended))


class Gp(optuna.samplers.GPSampler):
    """The Gaussian process, of the settings that all complete trials have.

    Optuna looks through each trial once, in the order of their numbers; those of earlier sweeps
    have numbers below 0, and a trial that was stopped looks complete when it can be estimated.
    """

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the settings of which a point is proposed."""
        return shared(study._get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def shared(trials: list[FrozenTrial]) -> dict[str, BaseDistribution]:
    """Return the settings that all trials have and that may differ, in order of their names."""
    if not trials:
        return {}
    settings = sorted(trials[0].distributions.items())
    return {
        name: each
        for name, each in settings
        if not each.single() and all(name in other.params for other in trials)
    }
