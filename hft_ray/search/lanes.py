"""Arms run in lanes: each trial is proposed, and compared, with those of its own arm alone.

Trials are dealt in turn, so that number n belongs to lane n modulo their number: equal budgets, and
the same deal whoever starts the sweep again. A sweep without arms has one lane.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hft_ray.config import Config
from hft_ray.config.rules.by_arm import by_arm, fixed_settings
from hft_ray.search.known import configuration_of
from hft_ray.search.learned import Learned
from hft_ray.search.prior_trials import FRESH, Warm, as_trials
from hft_ray.search.rungs import make_rungs
from hft_ray.search.samplers import make_sampler
from hft_ray.search.search_space import Space
from hft_ray.search.study_view import SamplerOnView, View


class Lane:
    """The search of one arm.

    Args:
        config: FILE of the arm, its space and its share of the trials.
        fixed: What the arm fixes, dotted key -> value; empty without arms.
        place: Its number among ``places`` lanes.
        trials: The study's trials.
        warm: What earlier sweeps give.
    """

    def __init__(
        self,
        config: Config,
        fixed: Mapping[str, Any],
        place: int,
        places: int,
        trials: Sequence[FrozenTrial],
        warm: Warm,
    ) -> None:
        assert config.search is not None
        self.config, self.search = config, config.search
        self.fixed = dict(fixed)
        self.rungs = make_rungs(config)
        self.learned = Learned(list(config.search.objectives))
        self.hidden = Hidden(place, places)
        # Optuna wants one meaning for each name, and arms may search the same key otherwise.
        prefix = f"{config.arm}/" if fixed else ""
        self.space = Space(config.search.space, trials, prefix)
        self._earlier = as_trials(warm.known, self.space)
        own = [trial for trial in trials if trial.number % places == place]
        finished = sum(trial.state.is_finished() for trial in own)
        sampler = make_sampler(config.search, finished, prefix)
        fresh, seed = FRESH if warm else None, config.search.seed + finished
        self.sampler = SamplerOnView(sampler, self._look, fresh, seed)

    def _look(self, study: optuna.Study) -> View:
        """Return the study as the sampler is to see it."""
        return View(study, self.learned.estimates(), self.hidden, self.space, self._earlier)

    def suggest(self, trial: optuna.Trial, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a trial: what the arm fixes, what is asked for, the rest drawn."""
        given = {**self.fixed, **asked}
        return self.space.suggest(trial, given, self.config)

    def see(self, trial: FrozenTrial) -> None:
        """Hide a trial from the sampler that lies outside the space, or is a further seed."""
        attributes = trial.user_attrs
        inside = all(self.space.fits(attributes.get(kind, {})) for kind in ("asked", "params"))
        if not inside or configuration_of(trial) != trial.number:
            self.hidden.add(trial.number)


class Hidden:
    """Numbers of the trials that a lane's sampler does not see: others', and some of its own."""

    def __init__(self, place: int, places: int) -> None:
        self._place, self._places = place, places
        self._own: set[int] = set()

    def add(self, number: int) -> None:
        """Hide a trial of the lane itself."""
        self._own.add(number)

    def __contains__(self, number: object) -> bool:
        assert isinstance(number, int)
        return number % self._places != self._place or number in self._own


def make_lanes(config: Config, trials: Sequence[FrozenTrial], warm: Warm) -> list[Lane]:
    """Return the lanes of a sweep.

    Args:
        config: FILE with ``search``.
        trials: The study's trials.
        warm: What earlier sweeps give.
    """
    assert config.search is not None
    arms = by_arm(config)
    given = config.search.arms or {}
    count = len(arms)
    return [
        Lane(
            one,
            fixed_settings(name, given[name]) if name else {},
            place,
            count,
            trials,
            warm,
        )
        for place, (name, one) in enumerate(arms.items())
    ]


class LaneSampler(optuna.samplers.BaseSampler):
    """Asks the sampler of each trial's own lane.

    Args:
        of: Returns the sampler of a trial's number.
    """

    def __init__(self, of: Callable[[int], optuna.samplers.BaseSampler]) -> None:
        self._of = of

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """See the base class, here and below."""
        self._of(trial.number).before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        """See the base class."""
        return self._of(trial.number).infer_relative_search_space(study, trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> Any:
        """See the base class."""
        return self._of(trial.number).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """See the base class."""
        sampler = self._of(trial.number)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """See the base class."""
        self._of(trial.number).after_trial(study, trial, state, values)
