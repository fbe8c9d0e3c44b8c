"""The study of a sweep: hands out trials, takes their reports and results, and survives a crash.

The study alone knows which trials there are and how each ended. A driver that is started again
resumes from it: trials that were running are handed out once more under their own number.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from hft_ray.config import Config
from hft_ray.pareto import ItemInfluences
from hft_ray.search.arm_search import RUNG, ArmSampler, ArmSearch, make_arm_searches
from hft_ray.search.constraint_check import ConstraintCheck
from hft_ray.search.prior_trials import WarmStart
from hft_ray.search.rungs import Verdict
from hft_ray.search.stopping_criteria import StoppingCriteria
from hft_ray.search.study_storage import StudyStorage
from hft_ray.search.study_view import MEMORY
from hft_ray.search.trial_queue import TrialQueue
from hft_ray.search.trial_result import TRAINED, result_of
from hft_ray.search.trial_snapshot import (
    TrialSnapshot,
    configuration_of,
    finite,
    snapshot_of,
    trial_id,
    trial_number,
)

log = logging.getLogger(__name__)
SAVE_SECONDS = 10.0


class Study:
    """The study of one sweep, stored in one file.

    Args:
        config: FILE with ``search``.
        storage: The file (see :class:`StudyStorage`); written by this process alone.
        warm: Results of earlier sweeps; the same whenever this sweep is resumed.
        ahead: Whether the next trial is proposed before it is asked for, so that a proposal that
            takes seconds holds up no worker group. It may lack the results of the last seconds.

    Attributes:
        answers: Trial -> its scores of single items, where they are known.

    Raises:
        ConfigError: The file holds a study with other objectives.
    """

    def __init__(
        self, config: Config, storage: Path, warm: WarmStart | None = None, ahead: bool = False
    ) -> None:
        assert config.search is not None
        self.config, self.search = config, config.search
        self.objectives = list(self.search.objectives)
        self.answers: Callable[[str], ItemInfluences | None] = lambda trial: None
        self._lock = threading.RLock()
        self._storage = StudyStorage(config, storage)
        warm = warm or WarmStart()
        self._constraints = ConstraintCheck(self.search.bounds)
        trials = self._storage.trials()
        self._searches = make_arm_searches(config, trials, warm, self.violations, ahead)
        self._storage.study.sampler = ArmSampler(self._searches)
        self._saved = self._storage.seconds
        self._criteria = StoppingCriteria(self.search, config.cluster, self._saved, self.violations)
        self._queue = TrialQueue(
            config,
            self._storage,
            self._searches,
            self._criteria,
            warm,
            lambda trial: self.answers(trial),
        )

    def set_base_scores(
        self,
        values: Mapping[str, float],
        reference: Mapping[str, float],
        best: Mapping[str, float] | None = None,
    ) -> None:
        """Set the scores of the untouched model; see :meth:`ConstraintCheck.set_base_scores`.

        Args:
            values: Metric -> score.
            reference: Objective -> worst value that counts for the hypervolume.
            best: Metric -> value that cannot be surpassed, of those that have one.
        """
        self._constraints.set_base_scores(values)
        for search in self._searches:
            search.base, search.best = finite(values), dict(best or {})
        if all(name in finite(reference) for name in self.objectives):
            self._criteria.reference = dict(reference)
            for search in self._searches:
                search.reference = dict(reference)

    def set_elapsed(self, seconds: float) -> None:
        """Set the time since this command started."""
        self._criteria.set_elapsed(seconds)
        if self.search.budget and self._criteria.seconds - self._saved >= SAVE_SECONDS:
            # The time of a command that is killed counts too.
            with self._lock:
                self._save_seconds()

    def _save_seconds(self) -> None:
        self._saved = self._criteria.seconds
        self._storage.save_seconds(self._saved)

    @property
    def ended_early(self) -> str | None:
        """Why the sweep starts no more of its trials, None if it does."""
        return self._criteria.reason

    def violations(self, values: Mapping[str, float]) -> dict[str, float]:
        """See :meth:`ConstraintCheck.violations`."""
        return self._constraints.violations(values)

    def _arm(self, number: int) -> ArmSearch:
        return self._searches[number % len(self._searches)]

    def next_trial(self) -> TrialSnapshot | None:
        """Return the next trial to run; None when there is none, or none before others end."""
        with self._lock:
            if (trial := self._queue.start_next()) is None:
                return None
            arm = self._arm(trial.number)
            # The settings of a trial that is resumed are not drawn again.
            params = trial.user_attrs.get("params") or arm.suggest(
                trial, trial.user_attrs.get("asked", {})
            )
            self._storage.set_attribute(trial.number, "params", params)
            frozen = self._storage.trial(trial.number)
            arm.exclude_if_outside(frozen)
            self._storage.sync()
            self._prepare()
        return snapshot_of(frozen)

    def left(self) -> int:
        """See :meth:`TrialQueue.left`."""
        return self._queue.left()

    def planned(self) -> int:
        """See :meth:`TrialQueue.planned`."""
        return self._queue.planned()

    def on_report(
        self, trial: str, step: int, values: Mapping[str, float], *, last: bool = False
    ) -> Verdict | None:
        """Take a report of a running trial; decide whether it goes on.

        Args:
            trial: Its id.
            step: Its step.
            values: Metric -> value.
            last: Whether it has no step left.

        Returns:
            The decision when the trial reached a rung, else None; from the decision that stops it
            on, that one. Trials that were asked for (baselines, ``search.first``) are never
            stopped, nor is a trial after its last step. Further seeds of a configuration are not
            compared.
        """
        number = trial_number(trial)
        arm = self._arm(number)
        with self._lock:
            frozen = self._storage.trial(number)
            violation = self._constraints.violation_in_training(values)
            verdict = arm.decide(frozen, step, values, last=last, violation=violation)
            if verdict is not None and (key := f"{RUNG}{verdict.rung}") not in frozen.user_attrs:
                log.info("%s", verdict)
                arm.estimates.add_rung(number, verdict.rung, verdict.values)
                self._storage.set_attribute(number, key, asdict(verdict))
        return verdict

    def trained(self, trial: str, step: int, values: Mapping[str, float]) -> None:
        """Keep the scores of a trial after its last step: from here on it ends as complete.

        Its variants are scored afterwards, during which its workers or the driver may die.
        """
        number = trial_number(trial)
        with self._lock:
            if not self._storage.trial(number).state.is_finished():
                kept = {"step": step, "values": finite(values)}
                self._storage.set_attribute(number, TRAINED, kept)
                self._storage.sync()
                self._prepare()

    def tell(self, trial: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
        """End a trial; a trial that has ended already keeps its result.

        Args:
            trial: Its id.
            outcome: ``state`` (complete, failed or stopped), ``step``, ``values`` (metric ->
                value), ``reason``, ``fault`` and ``variants``. A trial that a rung stopped becomes
                pruned; see :func:`result_of` for the other rules.

        Returns:
            The result: ``state``, ``step``, ``values``, ``reason``, ``fault`` and ``variants``.
        """
        number = trial_number(trial)
        with self._lock:
            frozen = self._storage.trial(number)
            if frozen.state.is_finished():
                return snapshot_of(frozen).result
            result = result_of(outcome, frozen.user_attrs.get(TRAINED), self.objectives)
            arm = self._arm(number)
            decided = arm.rungs.stopping(trial) if arm.rungs is not None else None
            if result["state"] == "stopped" and decided is not None:
                result |= {"state": "pruned", "reason": str(decided)}
            arm.estimates.add_end(number, configuration_of(frozen), result)
            violations = self.violations(result["values"])
            if result.get("fault") == MEMORY:
                violations[MEMORY] = 1.0
            self._storage.finish(number, result, self.objectives, violations)
            self._save_seconds()
            self._storage.sync()
            self._prepare()
        return result

    def _prepare(self) -> None:
        """Have the trial proposed that is likely to be the next."""
        number = self._queue.next_new()
        if number is not None:
            self._arm(number).sampler.prepare(self._storage.study, number)

    def close(self) -> None:
        """End the background work; the study itself needs no end."""
        for search in self._searches:
            search.sampler.close()

    def configuration(self, trial: str) -> str:
        """Return the first trial with the settings of this one, seeds left out."""
        return trial_id(configuration_of(self._storage.trial(trial_number(trial))))

    def trials(self) -> list[TrialSnapshot]:
        """Return every trial that was handed out so far, in order."""
        trials = self._storage.trials()
        return [snapshot_of(trial) for trial in trials if trial.state != TrialState.WAITING]
