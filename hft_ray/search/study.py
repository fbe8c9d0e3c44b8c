"""The sweep's memory: an Optuna study that knows every trial, through crashes and restarts.

The study alone says which trials there are and how each ended. A driver that is started again asks
it what is left: trials that were under way are handed out once more under their own number.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hft_ray.config import Config, ConfigError, Problem
from hft_ray.config.keys import with_settings
from hft_ray.search.journal import Journal
from hft_ray.search.known import Known, finite, known_of, trial_id
from hft_ray.search.lanes import Lane, LaneSampler, make_lanes
from hft_ray.search.rungs import Verdict
from hft_ray.search.space import contains, parameter

log = logging.getLogger(__name__)
RUNG = "rung:"
KEPT = ("state", "step", "reason", "fault")
"""What the study keeps of how a trial ended, beside its values and variants."""
FULL = {"selection.ratio": 1.0}
"""The baseline that every sweep has: full fine-tuning."""


class Study:
    """The Optuna study of one sweep, stored in one file.

    Args:
        config: FILE with ``search``.
        storage: The file (see :class:`Journal`); written by this process alone.

    Raises:
        ConfigError: The file holds a study with other objectives.
    """

    def __init__(self, config: Config, storage: Path) -> None:
        assert config.search is not None
        self.config, self.search = config, config.search
        self.objectives = list(self.search.objectives)
        directions = [f"{each}imize" for each in self.search.objectives.values()]
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._journal = Journal(storage)
        self._study = optuna.create_study(
            study_name=config.name,
            storage=optuna.storages.JournalStorage(self._journal),
            directions=directions,
            load_if_exists=True,
        )
        stored = [direction.name.lower() for direction in self._study.directions]
        if stored != directions:
            problem = f"the sweep was started with the directions {stored}; take another name"
            raise ConfigError(Problem("search.objectives", problem, directions))
        self._lock = threading.RLock()
        self._base: dict[str, float] = {}
        trials = self._trials()
        finished = [trial.number for trial in trials if trial.state.is_finished()]
        self._lanes = make_lanes(config, finished)
        self._study.sampler = LaneSampler(lambda number: self._lane(number).sampler)
        self._steps: dict[str, int | None] = {}
        self._recall(trials)
        # A driver may have died while it queued them.
        for assignments in self._first_trials()[len(trials) :]:
            self._enqueue(assignments)
        self._orphans = [t for t in trials if t.state == TrialState.RUNNING]

    def know_base(self, values: Mapping[str, float]) -> None:
        """Take the untouched model's scores, of which constraints may be shares.

        Raises:
            ConfigError: One that is needed is missing.
        """
        bounds = self.search.bounds
        lacking = {each.metric for each in bounds if each.of_base} - finite(values).keys()
        if lacking:
            problem = f"there is no score of the untouched model in {', '.join(sorted(lacking))}"
            raise ConfigError(Problem("search.constraints", problem))
        self._base = dict(values)

    def violations(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return constraint -> by how much it is violated, 0 or less where it holds."""
        bounds = self.search.bounds
        return {str(each): each.violation(values, self._base) for each in bounds}

    def _trials(self) -> list[FrozenTrial]:
        """Return the study's own trials, not to be changed: copies take their time."""
        trials: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return trials

    def _lane(self, number: int) -> Lane:
        return self._lanes[number % len(self._lanes)]

    def _recall(self, trials: Iterable[FrozenTrial]) -> None:
        """Bring back what the rungs and the sampler know of trials that have begun."""
        verdicts: list[list[dict[str, Any]]] = [[] for _ in self._lanes]
        for trial in trials:
            attributes = trial.user_attrs
            self._lane(trial.number).see_asked(trial.number, attributes.get("asked", {}))
            mine = [each for key, each in attributes.items() if key.startswith(RUNG)]
            for each in sorted(mine, key=lambda each: each["rung"]):
                self._see_rung(trial.number, each["rung"], each["values"])
            verdicts[trial.number % len(self._lanes)] += mine
            if trial.state.is_finished():
                self._see_end(trial.number, attributes.get("result", {}))
        for lane, decided in zip(self._lanes, verdicts, strict=True):
            if lane.rungs is not None:
                lane.rungs.restore(decided)

    def _see_rung(self, number: int, rung: int, values: Mapping[str, float]) -> None:
        # An objective that is not compared may have no value while a trial trains.
        if all(name in values for name in self.objectives):
            seen = [values[name] for name in self.objectives]
            self._lane(number).extrapolation.saw(number, rung, seen)

    def _see_end(self, number: int, result: Mapping[str, Any]) -> None:
        extrapolation = self._lane(number).extrapolation
        if result.get("state") == "complete":
            ends = [result["values"][name] for name in self.objectives]
            extrapolation.completed(number, ends)
        elif result.get("state") in ("pruned", "stopped"):
            extrapolation.stopped(number)

    def _first_trials(self) -> list[dict[str, Any]]:
        if self.search.arms:
            return []
        asked = [dict(assignments) for assignments in self.search.first]
        known = any(each.get("selection.ratio") == 1.0 for each in asked)
        return asked if known else [dict(FULL), *asked]

    def _enqueue(self, assignments: Mapping[str, Any]) -> None:
        """Queue a trial; Optuna is told of what lies inside the space."""
        space = self.search.space
        params = {
            key: parameter(space[key], value)
            for key, value in assignments.items()
            if key in space and contains(space[key], value)
        }
        self._study.enqueue_trial(params, user_attrs={"asked": dict(assignments)})

    def next_trial(self) -> Known | None:
        """Return the next trial to run, or None when all of ``search.trials`` are handed out."""
        with self._lock:
            known = self._next_trial()
            self._journal.sync()
        return known

    def _next_trial(self) -> Known | None:
        if self._orphans:
            # A parameter that is stored already is not drawn again.
            orphan = self._orphans.pop(0)
            trial = optuna.Trial(self._study, orphan._trial_id)
        else:
            states = [trial.state for trial in self._trials()]
            if len(states) - states.count(TrialState.WAITING) >= self.search.trials:
                return None
            trial = self._study.ask()
        asked = trial.user_attrs.get("asked", {})
        lane = self._lane(trial.number)
        lane.see_asked(trial.number, asked)
        params = lane.suggest(trial, asked)
        trial.set_user_attr("params", params)
        if lane.rungs is not None:
            self._steps[trial_id(trial.number)] = with_settings(self.config, params).training.steps
        return Known(trial_id(trial.number), "running", params)

    def left(self) -> int:
        """Return how many trials are still to be finished."""
        finished = sum(trial.state.is_finished() for trial in self._trials())
        return max(0, self.search.trials - finished)

    def judge(
        self, trial: str, step: int, values: Mapping[str, float], last: bool | None = None
    ) -> Verdict | None:
        """Take the scores of a trial that is under way; say whether it goes on.

        Args:
            trial: Its id.
            step: Its step.
            values: Metric -> value.
            last: Whether it has no step left; by default as ``training.steps`` says.

        Returns:
            The decision when the trial came to a rung, else None. Trials that were asked for
            (baselines, ``search.first``) are never stopped, nor is anyone after its last step.
        """
        rungs = self._lane(int(trial[1:])).rungs
        if rungs is None:
            return None
        with self._lock:
            frozen = self._frozen(trial)
            last = step == self._steps.get(trial) if last is None else last
            exempt = "asked" in frozen.user_attrs
            verdict = rungs.report(
                trial, step, values, last=last, exempt=exempt, violation=self._violation(values)
            )
            if verdict is None or frozen.state.is_finished():
                return None
            key = f"{RUNG}{verdict.rung}"
            if key not in frozen.user_attrs:
                log.info("%s", verdict)
                self._see_rung(frozen.number, verdict.rung, verdict.values)
                self._study._storage.set_trial_user_attr(frozen._trial_id, key, asdict(verdict))
        return verdict

    def _violation(self, values: Mapping[str, float]) -> float:
        """Return the sum of the violations in the midst of training.

        What is not measured yet may still hold, and so may what the untouched model fails too: it
        is training that mends it.
        """
        counted = [
            each
            for each in self.search.bounds
            if each.metric in values
            and not (each.metric in self._base and each.violation(self._base, self._base) > 0)
        ]
        return sum(max(0.0, each.violation(values, self._base)) for each in counted)

    def _frozen(self, trial: str) -> FrozenTrial:
        storage = self._study._storage
        number = storage.get_trial_id_from_study_id_trial_number(
            self._study._study_id, int(trial[1:])
        )
        return storage.get_trial(number)

    def tell(self, trial: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
        """End a trial in the study; a trial that has ended is left as it is.

        Args:
            trial: Its id.
            outcome: ``state`` (complete, failed, or else stopped early), ``step``, ``values``
                (metric -> number), ``reason``, ``fault`` and ``variants``, which are only kept. A
                complete trial without a finite value for every objective is failed: it could not be
                compared, and left open it would never end. One that stopped because of a decision
                of :meth:`judge` is pruned.

        Returns:
            How it ended: ``state``, ``step``, ``values``, ``reason`` and ``variants``.
        """
        number = int(trial[1:])
        result = {key: outcome[key] for key in KEPT if key in outcome}
        values = dict(outcome.get("values") or {})
        objectives = [values.get(name, math.nan) for name in self.objectives]
        if result["state"] == "complete" and not all(map(math.isfinite, objectives)):
            lacking = [
                name for name in self.objectives if not math.isfinite(values.get(name, math.nan))
            ]
            reason = f"no finite value for {', '.join(lacking)}"
            result |= {"state": "failed", "reason": reason, "fault": "not_finite"}
        result["values"] = finite(values)
        if variants := outcome.get("variants"):
            result["variants"] = [{**each, "values": finite(each["values"])} for each in variants]
        with self._lock:
            frozen = self._frozen(trial)
            if frozen.state.is_finished():
                return known_of(frozen).result
            rungs = self._lane(number).rungs
            if result["state"] == "stopped" and rungs is not None:
                decisive = [str(verdict) for verdict in rungs.of(trial) if verdict.stop]
                if decisive:
                    result |= {"state": "pruned", "reason": decisive[-1]}
            self._see_end(number, result)
            storage, place = self._study._storage, frozen._trial_id
            for text, violation in self.violations(result["values"]).items():
                storage.set_trial_system_attr(place, f"constraints:{text}", violation)
            storage.set_trial_user_attr(place, "result", result)
            match result["state"]:
                case "complete":
                    self._study.tell(number, objectives)
                case "failed":
                    self._study.tell(number, state=TrialState.FAIL)
                case _:
                    self._study.tell(number, state=TrialState.PRUNED)
            self._journal.sync()
        return result

    def trials(self) -> list[Known]:
        """Return every trial that was handed out so far, in order."""
        return [known_of(t) for t in self._trials() if t.state != TrialState.WAITING]
