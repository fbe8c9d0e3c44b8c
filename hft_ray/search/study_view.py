"""The study as a sampler sees it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hft_ray.compat.optuna import StudyProxy
from hft_ray.search.ahead import Ahead
from hft_ray.search.search_space import Space

MEMORY = "out_of_memory"
"""The fault of a trial that ran out of memory, and the constraint that it violates."""
Estimates = Mapping[int, Sequence[float]]
"""Trial number -> value of each objective."""


class ViewSampler(optuna.samplers.BaseSampler):
    """A sampler that sees the study through a :class:`StudyView`.

    Args:
        sampler: The sampler.
        view: Returns the study as the sampler sees it now.
        random_every: One in this many trials is drawn at random, if given.
        seed: Seed of those.
        ahead: Makes proposals before they are asked for, if given.
    """

    def __init__(
        self,
        sampler: optuna.samplers.BaseSampler,
        view: Callable[[optuna.Study], StudyView],
        random_every: int | None = None,
        seed: int = 0,
        ahead: Ahead | None = None,
    ) -> None:
        self._ahead = ahead
        self._sampler, self._make_view, self._random_every = sampler, view, random_every
        self._random = optuna.samplers.RandomSampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Make the view that holds for all parameters of a trial."""
        self._view = self._make_view(study)
        every = self._random_every
        self._at_random = every is not None and trial.number % every == every - 1
        self._sampler.before_trial(self._view, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        """See the base class."""
        if self._at_random:
            return {}
        return self._sampler.infer_relative_search_space(self._view, trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> Any:
        """Return the sampler's proposal; an empty one where it repeats a trial, which is drawn at
        random then: a model may insist on a point whose trial is under way.
        """
        if self._at_random:
            return {}
        proposed = self._ahead.take(trial.number) if self._ahead is not None else None
        if proposed is None:
            proposed = self._sampler.sample_relative(self._view, trial, search_space)
        self._at_random = self._view.knows(proposed)
        return {} if self._at_random else proposed

    def prepare(self, study: optuna.Study, number: int) -> None:
        """Have the proposal for trial ``number`` made in the background, if that is done at all."""
        if self._ahead is not None:
            view = self._make_view(study)
            view.seen()  # as the trials are now
            self._ahead.prepare(view, number)

    def close(self) -> None:
        """End the background work."""
        if self._ahead is not None:
            self._ahead.close()

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """See the base class."""
        sampler = self._random if self._at_random else self._sampler
        return sampler.sample_independent(self._view, trial, param_name, param_distribution)

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


class StudyView(StudyProxy):
    """A study at one moment, with some trials changed.

    Stopped trials are complete, with estimated values. A configuration with several seeds is its
    first trial, with their mean. A trial that ran out of memory is infeasible. Trials outside the
    space are excluded: Optuna stores only some of their parameters, and a sampler that models the
    parameters common to all trials would lose the others. All others have the distributions of the
    present space.

    Args:
        study: The study; all else is its own.
        estimates: Values that replace a trial's own.
        excluded: The trials that are left out.
        space: The space.
        prior: Trials of earlier sweeps.
    """

    def __init__(
        self,
        study: optuna.Study,
        estimates: Estimates,
        excluded: Container[int],
        space: Space,
        prior: Sequence[FrozenTrial] = (),
    ) -> None:
        super().__init__(study)
        self._estimates, self._excluded = estimates, excluded
        self._space, self._prior = space, prior
        self._trials: list[FrozenTrial] | None = None

    def seen(self) -> list[FrozenTrial]:
        """See the base class."""
        if self._trials is None:
            trials = self._study.get_trials(deepcopy=False)
            own = (self._as_seen(t) for t in trials if t.number not in self._excluded)
            self._trials = [*self._prior, *own]
        return self._trials

    def knows(self, params: Mapping[str, Any]) -> bool:
        """Whether a trial has all these parameters already."""
        return bool(params) and any(
            all(other.params.get(key) == value for key, value in params.items())
            for other in self.seen()
        )

    def _as_seen(self, trial: FrozenTrial) -> FrozenTrial:
        trial = self._space.as_now(trial)
        if trial.state == TrialState.FAIL and MEMORY in trial.constraints:
            # Other faults may not repeat; this one does, with the same settings.
            infeasible = copy.copy(trial)
            infeasible.state = TrialState.PRUNED
            return infeasible
        ended = trial.state in (TrialState.PRUNED, TrialState.COMPLETE)
        if not ended or trial.number not in self._estimates:
            return trial
        complete = copy.copy(trial)
        complete.state = TrialState.COMPLETE
        complete.values = list(self._estimates[trial.number])
        return complete
