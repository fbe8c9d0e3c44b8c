"""What a sampler sees of the study."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hft_ray.compat.optuna import StudyProxy
from hft_ray.search.search_space import Space

MEMORY = "out_of_memory"
"""The fault of a trial for which there is not the memory, and the constraint that it breaks."""
Estimates = Mapping[int, Sequence[float]]
"""Trial number -> value of each objective."""


class ViewSampler(optuna.samplers.BaseSampler):
    """A sampler that sees the study through a :class:`StudyView`.

    Args:
        sampler: The sampler.
        look: Returns the study as it is to be seen now.
        fresh: One in so many trials is drawn at random, if any.
        seed: Of those.
    """

    def __init__(
        self,
        sampler: optuna.samplers.BaseSampler,
        look: Callable[[optuna.Study], StudyView],
        fresh: int | None = None,
        seed: int = 0,
    ) -> None:
        self._sampler, self._look, self._fresh = sampler, look, fresh
        self._random = optuna.samplers.RandomSampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Look at the study once for all parameters of a trial."""
        self._view = self._look(study)
        self._at_random = self._fresh is not None and trial.number % self._fresh == self._fresh - 1
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
        proposed = self._sampler.sample_relative(self._view, trial, search_space)
        self._at_random = self._view.knows(proposed)
        return {} if self._at_random else proposed

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
    """A study as it is at one moment, but for some trials.

    Those that were stopped are complete, with estimated values; a configuration with several seeds
    is its first trial, with their mean; one without the memory it needs is infeasible. Those that
    lie outside the space are hidden: Optuna stores only some of their parameters, and a sampler
    that models what all trials have in common would lose the others for good. All others were drawn
    from the space as it is now.

    Args:
        study: The study; all else is its own.
        estimates: Values that stand for a trial's own.
        hidden: The trials that are left out.
        space: The space.
        earlier: Trials of other sweeps, known beforehand.
    """

    def __init__(
        self,
        study: optuna.Study,
        estimates: Estimates,
        hidden: Container[int],
        space: Space,
        earlier: Sequence[FrozenTrial] = (),
    ) -> None:
        super().__init__(study)
        self._estimates, self._hidden = estimates, hidden
        self._space, self._earlier = space, earlier
        self._trials: list[FrozenTrial] | None = None

    def seen(self) -> list[FrozenTrial]:
        """See the base class."""
        if self._trials is None:
            trials = self._study.get_trials(deepcopy=False)
            own = (self._as_seen(t) for t in trials if t.number not in self._hidden)
            self._trials = [*self._earlier, *own]
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
            # Others that failed might succeed the next time; this one says where not to look.
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
