"""The sweep's memory: an Optuna study that knows every trial, through crashes and restarts.

The study alone says which trials there are and how each ended. A driver that is started again asks
it what is left: trials that were under way are handed out once more under their own number.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from hft_ray.config import Config, ConfigError, Problem
from hft_ray.search.samplers import make_sampler
from hft_ray.search.space import contains, parameter, suggest

FULL = {"selection.ratio": 1.0}
"""The baseline that every sweep has: full fine-tuning."""

State = Literal["waiting", "running", "complete", "pruned", "failed"]
_STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Known:
    """One trial as the study knows it.

    Attributes:
        trial: Its id, ``t0007`` for the study's number 7.
        state: Where it stands.
        params: Dotted key -> value, what it was asked to try.
        result: What :meth:`Study.tell` was given: step, values, errors, reason.
    """

    trial: str
    state: State
    params: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)


class Study:
    """The Optuna study of one sweep, stored in one SQLite file.

    Args:
        config: FILE with ``search``.
        storage: The SQLite file; written by this process alone.

    Raises:
        ConfigError: The file holds a study with other objectives.
    """

    def __init__(self, config: Config, storage: Path) -> None:
        assert config.search is not None
        self.config, self.search = config, config.search
        self.objectives = list(self.search.objectives)
        directions = [f"{each}imize" for each in self.search.objectives.values()]
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            study_name=config.name,
            storage=f"sqlite:///{storage}",
            directions=directions,
            load_if_exists=True,
        )
        stored = [direction.name.lower() for direction in self._study.directions]
        if stored != directions:
            problem = f"the sweep was started with the directions {stored}; take another name"
            raise ConfigError(Problem("search.objectives", problem, directions))
        self._lock = threading.RLock()
        finished = sum(trial.state.is_finished() for trial in self._study.trials)
        self._study.sampler = make_sampler(self.search, finished)
        # A driver may have died while it queued them.
        for assignments in self._first_trials()[len(self._study.trials) :]:
            self._enqueue(assignments)
        self._orphans = [t for t in self._study.trials if t.state == TrialState.RUNNING]

    def _first_trials(self) -> list[dict[str, Any]]:
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
            return self._next_trial()

    def _next_trial(self) -> Known | None:
        if self._orphans:
            # A parameter that is stored already is not drawn again.
            orphan = self._orphans.pop(0)
            trial = optuna.Trial(self._study, orphan._trial_id)
        else:
            states = [trial.state for trial in self._study.trials]
            if len(states) - states.count(TrialState.WAITING) >= self.search.trials:
                return None
            trial = self._study.ask()
        asked = trial.user_attrs.get("asked", {})
        params = suggest(trial, self.search.space, asked, self.config)
        trial.set_user_attr("params", params)
        return Known(_id(trial.number), "running", params)

    def left(self) -> int:
        """Return how many trials are still to be finished."""
        finished = sum(trial.state.is_finished() for trial in self._study.trials)
        return max(0, self.search.trials - finished)

    def tell(self, trial: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
        """End a trial in the study; a trial that has ended is left as it is.

        Args:
            trial: Its id.
            outcome: ``state`` (complete, failed, or else stopped early), ``step``, ``values``
                (metric -> number) and ``reason``. A complete trial without a finite value for every
                objective is failed: it could not be compared, and left open it would never end.

        Returns:
            How it ended: ``state``, ``step``, ``values`` and ``reason``.
        """
        number = int(trial[1:])
        result = {key: outcome[key] for key in ("state", "step", "reason") if key in outcome}
        values = dict(outcome.get("values") or {})
        objectives = [values.get(name, math.nan) for name in self.objectives]
        if result["state"] == "complete" and not all(map(math.isfinite, objectives)):
            lacking = [
                name for name in self.objectives if not math.isfinite(values.get(name, math.nan))
            ]
            result |= {"state": "failed", "reason": f"no finite value for {', '.join(lacking)}"}
        # Optuna's own attributes hold JSON, which has no NaN.
        result["values"] = {name: value for name, value in values.items() if math.isfinite(value)}
        with self._lock:
            frozen = self._study.trials[number]
            if frozen.state.is_finished():
                return _known(frozen).result
            self._study._storage.set_trial_user_attr(frozen._trial_id, "result", result)
            match result["state"]:
                case "complete":
                    self._study.tell(number, objectives)
                case "failed":
                    self._study.tell(number, state=TrialState.FAIL)
                case _:
                    self._study.tell(number, state=TrialState.PRUNED)
        return result

    def trials(self) -> list[Known]:
        """Return every trial that was handed out so far, in order."""
        return [_known(t) for t in self._study.trials if t.state != TrialState.WAITING]


def _id(number: int) -> str:
    return f"t{number:04d}"


def _known(trial: FrozenTrial) -> Known:
    attributes = trial.user_attrs
    return Known(
        _id(trial.number),
        _STATES[trial.state],
        attributes.get("params", {}),
        attributes.get("result", {}),
    )
