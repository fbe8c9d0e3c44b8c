"""The order of trials: those to resume, queued ones, further seeds, then new configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hft_ray.config import Config
from hft_ray.config.keys import FULL_FINE_TUNING, settings
from hft_ray.pareto import ItemInfluences
from hft_ray.search.arm_search import ArmSearch
from hft_ray.search.prior_trials import WarmStart
from hft_ray.search.race import further_seed
from hft_ray.search.stopping_criteria import StoppingCriteria
from hft_ray.search.study_storage import StudyStorage
from hft_ray.search.trial_snapshot import is_further_seed, snapshot_of


class TrialQueue:
    """Starts the trials of a sweep in their order.

    Args:
        config: FILE with ``search``.
        storage: The study.
        searches: The searches of the arms.
        criteria: End the sweep early.
        warm: Results of earlier sweeps.
        answers: Trial -> its scores of single items, where they are known.
    """

    def __init__(
        self,
        config: Config,
        storage: StudyStorage,
        searches: Sequence[ArmSearch],
        criteria: StoppingCriteria,
        warm: WarmStart,
        answers: Callable[[str], ItemInfluences | None],
    ) -> None:
        assert config.search is not None
        self._config, self._search = config, config.search
        self._storage, self._searches = storage, searches
        self._criteria, self._answers = criteria, answers
        trials = storage.trials()
        self._to_resume = [t for t in trials if t.state == TrialState.RUNNING]
        self._waiting = {
            t.number: is_further_seed(t) for t in trials if t.state == TrialState.WAITING
        }
        """Number of a queued trial -> whether it is a further seed."""
        self._started = len(trials) - len(self._waiting)
        self._explored = sum(
            t.state != TrialState.WAITING and not is_further_seed(t) for t in trials
        )
        """Trials that have started; of these, those that are not further seeds."""
        asked, stored = self._first_trials(), len(trials)
        # The driver may have been killed while it queued them.
        for params in asked[stored:]:
            self._enqueue(params, {"asked": params})
        for each in warm.points[max(0, stored - len(asked)) :]:
            self._enqueue(each.params, {"earlier": each.source, "wanted": each.params})

    def _first_trials(self) -> list[dict[str, Any]]:
        if self._search.arms:
            return []
        asked = [dict(assignments) for assignments in self._search.first]
        has_full = any(each.get("selection.ratio") == 1.0 for each in asked)
        return asked if has_full else [dict(FULL_FINE_TUNING), *asked]

    def _enqueue(self, params: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        space = self._searches[0].space  # nothing is queued in a sweep with arms
        number = self._storage.enqueue(space.parameters(params), attributes)
        self._waiting[number] = "configuration" in attributes

    def start_next(self) -> optuna.Trial | None:
        """Start the next trial, or resume one; None when none is due now."""
        if self._to_resume:
            return self._resume(self._to_resume.pop(0))
        if self._is_over():
            return None
        exploring = self._left_to_explore() > 0
        queued = self._queued(exploring)
        if queued is None:
            further = self._further_seed(exploring)
            if further is not None:
                self._enqueue_seed(*further)
                queued = self._queued(exploring)
        if queued is None:
            return self._ask() if exploring else None
        # Optuna would start the trial that was queued first, which may no longer be due.
        self._storage.start(queued)
        self._count(self._waiting.pop(queued))
        return self._resume(self._storage.trial(queued))

    def _ask(self) -> optuna.Trial:
        trial = self._storage.study.ask()
        self._count(further=False)
        return trial

    def _count(self, further: bool) -> None:
        self._started += 1
        self._explored += not further

    def _resume(self, trial: FrozenTrial) -> optuna.Trial:
        """Return a stored trial; the values that it was queued with follow the present space."""
        wanted = trial.user_attrs.get("asked") or trial.user_attrs.get("wanted")
        space = self._searches[trial.number % len(self._searches)].space
        params = None if wanted is None else space.parameters(wanted)
        return self._storage.resume(trial.number, params)

    def _queued(self, exploring: bool) -> int | None:
        """Return the queued trial that is due: a further seed, or any while exploring."""
        seeds = [number for number, further in self._waiting.items() if further]
        return next(iter(seeds or (self._waiting if exploring else [])), None)

    def _further_seed(self, exploring: bool) -> tuple[int, int] | None:
        """See :func:`further_seed`."""
        if self._search.seeds == 1:
            return None
        started = [t for t in self._storage.trials() if t.state != TrialState.WAITING]
        return further_seed(started, self._search, exploring, self._answers)

    def _enqueue_seed(self, number: int, given: int) -> None:
        """Queue the configuration of trial ``number`` with its next seeds."""
        params: dict[str, Any] = dict(self._storage.trial(number).user_attrs["params"])
        defaults = settings(self._config)
        for key in self._search.seed_keys:
            params[key] = params.get(key, defaults[key]) + given
        self._enqueue(params, {"asked": params, "configuration": number})

    def _is_over(self) -> bool:
        """Update the stopping criteria; return whether no trial may start any more."""
        if self._search.budget or self._search.plateau:
            ended = [trial for trial in self._storage.trials() if trial.state.is_finished()]
            ended.sort(key=lambda trial: trial.datetime_complete)
            self._criteria.update([snapshot_of(trial) for trial in ended])
        return self._criteria.spent is not None

    def _left_to_explore(self) -> int:
        if self._criteria.reason is not None:
            return 0
        return max(0, self._search.trials - self._explored)

    def next_new(self) -> int | None:
        """Return the number of the next trial if its settings are still to be drawn."""
        if self._waiting or self._to_resume or not self._left_to_explore():
            return None
        return self._started

    def left(self) -> int:
        """Return an upper bound of the number of trials that are still to be finished."""
        over = self._is_over()
        ended = sum(trial.state.is_finished() for trial in self._storage.trials())
        running = self._started - ended
        if over:
            return running
        exploring = self._left_to_explore()
        left = running + exploring
        if self._search.seeds > 1 and (left or self._further_seed(exploring=False)):
            left += self._search.seeds * (self._started + exploring)
        return left

    def planned(self) -> int:
        """Return the number of trials that the sweep will have, as far as it is known."""
        return self._started + self._left_to_explore()
