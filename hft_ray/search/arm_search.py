"""The search of each arm: a trial is proposed from, and compared with, trials of its own arm alone.

Trials are assigned in turn: trial n belongs to arm n modulo the number of arms. So budgets are
equal, and a sweep that is resumed assigns trials as before. A sweep without arms has one search.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hft_ray.config import Config
from hft_ray.config.rules.by_arm import by_arm, fixed_settings
from hft_ray.pareto.spread import alpha_of
from hft_ray.search.ahead import Ahead
from hft_ray.search.bayes.domain import domain
from hft_ray.search.bayes.observed import Reading, ends
from hft_ray.search.botorch_sampler import BotorchSampler
from hft_ray.search.prior_trials import RANDOM_EVERY, WarmStart, as_trials
from hft_ray.search.rungs import Verdict, make_rungs
from hft_ray.search.samplers import make_sampler, sampler_of
from hft_ray.search.search_space import Space
from hft_ray.search.study_view import StudyView, ViewSampler
from hft_ray.search.trial_result import TRAINED
from hft_ray.search.trial_snapshot import configuration_of, is_further_seed, trial_id
from hft_ray.search.value_estimates import ValueEstimates

log = logging.getLogger(__name__)
Violations = Callable[[Mapping[str, float]], dict[str, float]]
RUNG = "rung:"
"""Attribute of a trial for the decision at a rung, followed by the rung's steps."""


class ArmSearch:
    """The search of one arm.

    Args:
        config: FILE of the arm, its space and its share of the trials.
        fixed: Settings that the arm fixes, dotted key -> value; empty without arms.
        place: Index of the arm.
        places: Number of arms.
        trials: The study's trials.
        warm: Results of earlier sweeps.
        violations: Metric -> value, to constraint -> how far it is violated.
        ahead: Whether proposals are made before they are asked for.

    Attributes:
        reference: Objective -> worst value that counts for the hypervolume; those of FILE until the
            base is scored.
        base: Metric -> score of the untouched model; empty until it is scored.
        best: Metric -> value that cannot be surpassed, likewise.
    """

    def __init__(
        self,
        config: Config,
        fixed: Mapping[str, Any],
        place: int,
        places: int,
        trials: Sequence[FrozenTrial],
        warm: WarmStart,
        violations: Violations,
        ahead: bool,
    ) -> None:
        assert config.search is not None
        self._violations = violations
        self._config, self._fixed = config, dict(fixed)
        self.rungs = make_rungs(config)
        self.estimates = ValueEstimates(list(config.search.objectives))
        self._excluded = ExcludedTrials(place, places)
        # A parameter of Optuna has one distribution, and arms may search a key differently.
        prefix = f"{config.arm}/" if fixed else ""
        self.space = Space(config.search.space, trials, prefix)
        self._prior = as_trials(warm.known, self.space)
        own = [trial for trial in trials if trial.number % places == place]
        finished = sum(trial.state.is_finished() for trial in own)
        self.reference: Mapping[str, float] = config.search.reference_point or {}
        self.base: Mapping[str, float] = {}
        self.best: Mapping[str, float] = {}
        settings = domain(config, self.space)
        sampler = make_sampler(
            config.search,
            finished,
            prefix,
            settings,
            lambda: self.reference,
            lambda: self.base,
            lambda: self.best,
            self._readings,
        )
        if config.search.sampler == "auto":
            log.info("search.sampler: auto takes %s", sampler_of(config.search))
        random_every, seed = RANDOM_EVERY if warm else None, config.search.seed + finished
        prepared = Ahead(sampler.propose) if ahead and isinstance(sampler, BotorchSampler) else None
        self.sampler = ViewSampler(sampler, self._view, random_every, seed, prepared)
        self._restore(own)

    def _view(self, study: optuna.Study) -> StudyView:
        return StudyView(study, self.estimates.values(), self._excluded, self.space, self._prior)

    def _readings(self, trial: FrozenTrial) -> list[Reading]:
        """Return the values of a trial's model and of its averages with the base."""
        objectives = self.estimates.objectives
        found = ends(trial)
        for each in trial.user_attrs.get("result", {}).get("variants", ()):
            alpha, values = alpha_of(each["variant"]), each["values"]
            if alpha is not None and all(name in values for name in objectives):
                limits = self._violations(values)
                found.append(Reading([values[name] for name in objectives], limits, alpha))
        return found

    def _restore(self, trials: Sequence[FrozenTrial]) -> None:
        verdicts: list[dict[str, Any]] = []
        for trial in trials:
            attributes = trial.user_attrs
            self.exclude_if_outside(trial)
            own = [each for key, each in attributes.items() if key.startswith(RUNG)]
            for each in sorted(own, key=lambda each: each["rung"]):
                self.estimates.add_rung(trial.number, each["rung"], each["values"])
            verdicts += own
            if trial.state.is_finished():
                result = attributes.get("result", {})
                self.estimates.add_end(trial.number, configuration_of(trial), result)
        if self.rungs is not None:
            self.rungs.restore(verdicts)

    def suggest(self, trial: optuna.Trial, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a trial: those fixed by the arm, those asked for, others drawn."""
        return self.space.suggest(trial, {**self._fixed, **asked}, self._config)

    def exclude_if_outside(self, trial: FrozenTrial) -> None:
        """Exclude a trial from the sampler that is outside the space, or a further seed."""
        attributes = trial.user_attrs
        inside = all(self.space.fits(attributes.get(kind, {})) for kind in ("asked", "params"))
        if not inside or is_further_seed(trial):
            self._excluded.add(trial.number)

    def decide(
        self,
        trial: FrozenTrial,
        step: int,
        values: Mapping[str, float],
        *,
        last: bool,
        violation: float,
    ) -> Verdict | None:
        """Return the decision of the rungs about a report; see :meth:`Study.on_report`."""
        if self.rungs is None:
            return None
        name = trial_id(trial.number)
        if (decided := self.rungs.stopping(name)) is not None:
            # The driver was killed before it passed the decision on, or the trial made its last
            # step before the decision arrived, and may repeat that step.
            return None if last or TRAINED in trial.user_attrs else decided
        if is_further_seed(trial):
            # Several seeds of the best configuration would leave no room for new ones.
            return None
        exempt = "asked" in trial.user_attrs
        verdict = self.rungs.report(
            name, step, values, last=last, exempt=exempt, violation=violation
        )
        return None if trial.state.is_finished() else verdict


class ExcludedTrials:
    """Numbers of the trials that the sampler of an arm does not see: other arms', some of its own.

    Args:
        place: Index of the arm.
        places: Number of arms.
    """

    def __init__(self, place: int, places: int) -> None:
        self._place, self._places = place, places
        self._own: set[int] = set()

    def add(self, number: int) -> None:
        """Exclude a trial of the arm itself."""
        self._own.add(number)

    def __contains__(self, number: object) -> bool:
        assert isinstance(number, int)
        return number % self._places != self._place or number in self._own


def make_arm_searches(
    config: Config,
    trials: Sequence[FrozenTrial],
    warm: WarmStart,
    violations: Violations,
    ahead: bool = False,
) -> list[ArmSearch]:
    """Return the searches of a sweep, one for each arm.

    Args:
        config: FILE with ``search``.
        trials: The study's trials.
        warm: Results of earlier sweeps.
        violations: See :class:`ArmSearch`, here and below.
        ahead: See there.
    """
    assert config.search is not None
    arms, given = by_arm(config), config.search.arms or {}
    return [
        ArmSearch(
            one,
            fixed_settings(name, given[name]) if name else {},
            place,
            len(arms),
            trials,
            warm,
            violations,
            ahead,
        )
        for place, (name, one) in enumerate(arms.items())
    ]


class ArmSampler(optuna.samplers.BaseSampler):
    """Uses the sampler of each trial's own arm.

    Args:
        searches: The searches of the arms.
    """

    def __init__(self, searches: Sequence[ArmSearch]) -> None:
        self._searches = searches

    def _of(self, trial: FrozenTrial) -> optuna.samplers.BaseSampler:
        return self._searches[trial.number % len(self._searches)].sampler

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """See the base class, here and below."""
        self._of(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        """See the base class."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> Any:
        """See the base class."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """See the base class."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """See the base class."""
        self._of(trial).after_trial(study, trial, state, values)
