"""The sweep's memory: an Optuna study that knows every trial, through crashes and restarts.

The study alone says which trials there are and how each ended. A driver that is started again asks
it what is left: trials that were under way are handed out once more under their own number.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hft_ray.compat.optuna import fixed_params, set_constraint, set_fixed_params
from hft_ray.config import Config, ConfigError, Problem
from hft_ray.config.keys import FULL_FINE_TUNING, settings
from hft_ray.pareto import ItemInfluences
from hft_ray.search.journal_file import Journal
from hft_ray.search.known import Known, configuration_of, finite, known_of, trial_id
from hft_ray.search.lanes import Lane, LaneSampler, make_lanes
from hft_ray.search.prior_trials import Warm
from hft_ray.search.race import further_seed
from hft_ray.search.rungs import Verdict
from hft_ray.search.stopping_criteria import Ending
from hft_ray.search.study_view import MEMORY

log = logging.getLogger(__name__)
RUNG = "rung:"
SECONDS = "seconds"
SAVE_SECONDS = 10.0
TRAINED = "trained"
"""What is kept of a trial that has made its last step, and not ended yet: its step and scores."""
KEPT = ("state", "step", "reason", "fault", SECONDS)
"""What the study keeps of how a trial ended, beside its values and variants."""


class Study:
    """The Optuna study of one sweep, stored in one file.

    Args:
        config: FILE with ``search``.
        storage: The file (see :class:`Journal`); written by this process alone.
        warm: What earlier sweeps give; the same whenever this one goes on.

    Raises:
        ConfigError: The file holds a study with other objectives.
    """

    def __init__(self, config: Config, storage: Path, warm: Warm | None = None) -> None:
        assert config.search is not None
        self.config, self.search = config, config.search
        self.objectives = list(self.search.objectives)
        directions = [f"{each}imize" for each in self.search.objectives.values()]
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._journal = Journal(storage)
        self._storage = optuna.storages.JournalStorage(self._journal)
        self._study = optuna.create_study(
            study_name=config.name,
            storage=self._storage,
            directions=directions,
            load_if_exists=True,
        )
        self._id = self._storage.get_study_id_from_name(config.name)
        stored = [direction.name.lower() for direction in self._study.directions]
        if stored != directions:
            problem = f"the sweep was started with the directions {stored}; take another name"
            raise ConfigError(Problem("search.objectives", problem, directions))
        self._lock = threading.RLock()
        self.answers: Callable[[str], ItemInfluences | None] = lambda trial: None
        self._base: dict[str, float] = {}
        trials = self._trials()
        warm = warm or Warm()
        self._lanes = make_lanes(config, trials, warm)
        self._study.sampler = LaneSampler(lambda number: self._lane(number).sampler)
        before = self._study.user_attrs.get(SECONDS, 0.0)
        self._ending = Ending(self.search, config.cluster.workers, before)
        self._saved = before
        self._recall(trials)
        asked, first = self._first_trials(), len(trials)
        # A driver may have died while it queued them.
        for params in asked[first:]:
            self._enqueue(params, {"asked": params})
        for each in warm.points[max(0, first - len(asked)) :]:
            self._enqueue(each.params, {"earlier": each.source, "wanted": each.params})
        self._orphans = [t for t in trials if t.state == TrialState.RUNNING]

    def know_base(self, values: Mapping[str, float], reference: Mapping[str, float]) -> None:
        """Take the untouched model's scores, of which constraints may be shares.

        Args:
            values: Metric -> score.
            reference: Objective -> worst value that counts for the hypervolume.

        Raises:
            ConfigError: A score that is needed is missing.
        """
        bounds = self.search.bounds
        lacking = {each.metric for each in bounds if each.of_base} - finite(values).keys()
        if lacking:
            problem = f"there is no score of the untouched model in {', '.join(sorted(lacking))}"
            raise ConfigError(Problem("search.constraints", problem))
        self._base = dict(values)
        if all(name in finite(reference) for name in self.objectives):
            self._ending.reference = dict(reference)

    def at(self, seconds: float) -> None:
        """Take the time since this command began."""
        self._ending.at(seconds)
        if self.search.budget is not None and self._ending.seconds - self._saved >= SAVE_SECONDS:
            # A command that is killed has taken its time all the same.
            with self._lock:
                self._save_seconds()

    def _save_seconds(self) -> None:
        self._saved = self._ending.seconds
        self._study.set_user_attr(SECONDS, self._saved)

    @property
    def ended_early(self) -> str | None:
        """Why the sweep begins no more of its trials, if so."""
        return self._ending.reason

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
            attributes, lane = trial.user_attrs, self._lane(trial.number)
            lane.see(trial)
            mine = [each for key, each in attributes.items() if key.startswith(RUNG)]
            for each in sorted(mine, key=lambda each: each["rung"]):
                lane.learned.saw(trial.number, each["rung"], each["values"])
            verdicts[trial.number % len(self._lanes)] += mine
            if trial.state.is_finished():
                result = attributes.get("result", {})
                lane.learned.ended(trial.number, configuration_of(trial), result)
        for lane, decided in zip(self._lanes, verdicts, strict=True):
            if lane.rungs is not None:
                lane.rungs.restore(decided)

    def _first_trials(self) -> list[dict[str, Any]]:
        if self.search.arms:
            return []
        asked = [dict(assignments) for assignments in self.search.first]
        known = any(each.get("selection.ratio") == 1.0 for each in asked)
        return asked if known else [dict(FULL_FINE_TUNING), *asked]

    def _enqueue(self, params: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        """Queue a trial; Optuna is told of what lies inside the space."""
        space = self._lanes[0].space  # with arms nothing is queued
        self._study.enqueue_trial(space.parameters(params), user_attrs=dict(attributes))

    def next_trial(self) -> Known | None:
        """Return the next trial to run; None when there is none, or none before others end."""
        with self._lock:
            known = self._next_trial()
            self._journal.sync()
        return known

    def _next_trial(self) -> Known | None:
        if self._orphans:
            # A parameter that is stored already is not drawn again.
            trial = self._resumed(self._orphans.pop(0))
            known = trial.user_attrs.get("params")
        else:
            if (begun := self._begin()) is None:
                return None
            trial, known = begun, None
        asked = trial.user_attrs.get("asked", {})
        lane = self._lane(trial.number)
        params = known or lane.suggest(trial, asked)
        trial.set_user_attr("params", params)
        frozen = self._frozen(trial_id(trial.number))
        lane.see(frozen)
        return known_of(frozen)

    def _begin(self) -> optuna.Trial | None:
        """Begin a trial that is queued, a further seed or a new one; None when none is due."""
        if self._look_at_end():
            return None
        exploring = self._left_to_explore() > 0
        queued = self._queued(exploring)
        if queued is None:
            further = further_seed(self._begun(), self.search, exploring, self.answers)
            if further is not None:
                self._enqueue_seed(*further)
                queued = self._queued(exploring)
        if queued is None:
            return self._study.ask() if exploring else None
        # Optuna would take what was queued first, which is no longer due when nothing is explored.
        number = self._trial_id(queued.number)
        self._storage.set_trial_state_values(number, state=TrialState.RUNNING)
        return self._resumed(queued)

    def _resumed(self, trial: FrozenTrial) -> optuna.Trial:
        """Return a trial that is stored, with what it was queued for as the space has it now."""
        number = self._trial_id(trial.number)
        wanted = trial.user_attrs.get("asked") or trial.user_attrs.get("wanted")
        if wanted is not None:
            now = self._lane(trial.number).space.parameters(wanted)
            if now != fixed_params(trial):
                set_fixed_params(self._storage, number, now)
        return optuna.Trial(self._study, number)

    def _queued(self, exploring: bool) -> FrozenTrial | None:
        """Return the queued trial that is due: a further seed, or while exploring any."""
        waiting = [trial for trial in self._trials() if trial.state == TrialState.WAITING]
        seeds = [trial for trial in waiting if configuration_of(trial) != trial.number]
        return next(iter(seeds or (waiting if exploring else [])), None)

    def _look_at_end(self) -> bool:
        """Look whether the budget or the front ends the sweep; say whether nothing may begin."""
        ended = [trial for trial in self._trials() if trial.state.is_finished()]
        if self.search.budget or self.search.plateau:
            ended.sort(key=lambda trial: trial.datetime_complete)
            self._ending.look([known_of(trial) for trial in ended])
        return self._ending.spent is not None

    def _begun(self) -> list[FrozenTrial]:
        return [trial for trial in self._trials() if trial.state != TrialState.WAITING]

    def _left_to_explore(self) -> int:
        if self._ending.reason is not None:
            return 0
        explored = sum(configuration_of(trial) == trial.number for trial in self._begun())
        return max(0, self.search.trials - explored)

    def _enqueue_seed(self, number: int, given: int) -> None:
        """Queue the configuration of trial ``number`` with its next seeds."""
        params: dict[str, Any] = dict(self._trials()[number].user_attrs["params"])
        defaults = settings(self.config)
        for key in self.search.seed_keys:
            params[key] = params.get(key, defaults[key]) + given
        self._enqueue(params, {"asked": params, "configuration": number})

    def left(self) -> int:
        """Return how many trials are still to be finished, at most; 0 when there are none."""
        spent = self._look_at_end()
        begun = self._begun()
        running = sum(not trial.state.is_finished() for trial in begun)
        if spent:
            return running
        exploring = self._left_to_explore()
        left = running + exploring
        if self.search.seeds > 1 and (
            left or further_seed(begun, self.search, False, self.answers)
        ):
            left += self.search.seeds * (len(begun) + exploring)
        return left

    def planned(self) -> int:
        """Return how many trials there will be, as far as one can tell."""
        return len(self._begun()) + self._left_to_explore()

    def judge(
        self, trial: str, step: int, values: Mapping[str, float], *, last: bool = False
    ) -> Verdict | None:
        """Take the scores of a trial that is under way; say whether it goes on.

        Args:
            trial: Its id.
            step: Its step.
            values: Metric -> value.
            last: Whether it has no step left.

        Returns:
            The decision when the trial came to a rung, else None; the one that ends it, once there
            is that. Trials that were asked for (baselines, ``search.first``) are never stopped, nor
            is anyone after its last step; further seeds of a configuration are not compared.
        """
        lane = self._lane(int(trial[1:]))
        if lane.rungs is None:
            return None
        with self._lock:
            frozen = self._frozen(trial)
            for decided in lane.rungs.of(trial):
                if decided.stop:
                    # A driver that was killed may have kept it and told nobody; or the trial made
                    # its last step before it heard, and perhaps makes it once more.
                    return None if last or TRAINED in frozen.user_attrs else decided
            if configuration_of(frozen) != frozen.number:
                # Several seeds of the best would leave newcomers no place among the best.
                return None
            exempt = "asked" in frozen.user_attrs
            verdict = lane.rungs.report(
                trial, step, values, last=last, exempt=exempt, violation=self._violation(values)
            )
            if verdict is None or frozen.state.is_finished():
                return None
            key = f"{RUNG}{verdict.rung}"
            if key not in frozen.user_attrs:
                log.info("%s", verdict)
                lane.learned.saw(frozen.number, verdict.rung, verdict.values)
                self._keep(frozen, key, asdict(verdict))
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
        return self._storage.get_trial(self._trial_id(int(trial[1:])))

    def _trial_id(self, number: int) -> int:
        """Return the id under which Optuna's storage has the study's trial of this number."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def _keep(self, trial: FrozenTrial, key: str, value: Any) -> None:
        """Set an attribute of a trial."""
        self._storage.set_trial_user_attr(self._trial_id(trial.number), key, value)

    def trained(self, trial: str, step: int, values: Mapping[str, float]) -> None:
        """Keep the scores of a trial after its last step: it is complete, whatever follows.

        What follows are its variants, in which its workers or the driver may die.
        """
        with self._lock:
            frozen = self._frozen(trial)
            if not frozen.state.is_finished():
                kept = {"step": step, "values": finite(values)}
                self._keep(frozen, TRAINED, kept)
                self._journal.sync()

    def tell(self, trial: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
        """End a trial in the study; a trial that has ended is left as it is.

        Args:
            trial: Its id.
            outcome: ``state`` (complete, failed, or else stopped early), ``step``, ``values``
                (metric -> number), ``reason``, ``fault`` and ``variants``, which are only kept. A
                complete trial without a finite value for every objective is failed: it could not be
                compared, and left open it would never end. One that stopped because of a decision
                of :meth:`judge` is pruned. One that has made its last step (``last``, or see
                :meth:`trained`) is complete with the scores that it had then.

        Returns:
            How it ended: ``state``, ``step``, ``values``, ``reason`` and ``variants``.
        """
        number = int(trial[1:])
        with self._lock:
            frozen = self._frozen(trial)
            if frozen.state.is_finished():
                return known_of(frozen).result
            result = self._result(_after_training(outcome, frozen.user_attrs.get(TRAINED)))
            lane = self._lane(number)
            if result["state"] == "stopped" and lane.rungs is not None:
                decisive = [str(verdict) for verdict in lane.rungs.of(trial) if verdict.stop]
                if decisive:
                    result |= {"state": "pruned", "reason": decisive[-1]}
            lane.learned.ended(number, configuration_of(frozen), result)
            violations = self.violations(result["values"])
            if result.get("fault") == MEMORY:
                violations[MEMORY] = 1.0
            for text, violation in violations.items():
                set_constraint(self._storage, self._trial_id(number), text, violation)
            self._keep(frozen, "result", result)
            match result["state"]:
                case "complete":
                    ends = [result["values"][name] for name in self.objectives]
                    self._study.tell(number, ends)
                case "failed":
                    self._study.tell(number, state=TrialState.FAIL)
                case _:
                    self._study.tell(number, state=TrialState.PRUNED)
            self._save_seconds()
            self._journal.sync()
        return result

    def _result(self, outcome: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is kept of an outcome; failed if it lacks a value for an objective."""
        result = {key: outcome[key] for key in KEPT if key in outcome}
        result["values"] = finite(outcome.get("values") or {})
        lacking = [name for name in self.objectives if name not in result["values"]]
        if result["state"] == "complete" and lacking:
            reason = f"no finite value for {', '.join(lacking)}"
            result |= {"state": "failed", "reason": reason, "fault": "not_finite"}
        if variants := outcome.get("variants"):
            result["variants"] = [{**each, "values": finite(each["values"])} for each in variants]
        return result

    def configuration(self, trial: str) -> str:
        """Return the first trial with the settings of this one, seeds left out."""
        return trial_id(configuration_of(self._frozen(trial)))

    def trials(self) -> list[Known]:
        """Return every trial that was handed out so far, in order."""
        return [known_of(t) for t in self._trials() if t.state != TrialState.WAITING]


def _after_training(
    outcome: Mapping[str, Any], trained: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """Return how a trial ended, told that it had ended its training, if it had.

    Args:
        outcome: As :meth:`Study.tell` takes it.
        trained: What :meth:`Study.trained` took, if it did.
    """
    scored = outcome if outcome.get("last") else trained
    if outcome["state"] == "complete" or scored is None:
        return outcome
    return {
        **outcome,
        "state": "complete",
        "step": scored["step"],
        "values": scored["values"],
        "reason": f"not all variants were scored: {outcome.get('reason') or 'it was stopped'}",
        "fault": None,
    }
