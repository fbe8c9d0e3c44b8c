"""The Optuna study of a sweep in its file: trials, their attributes, and when they are on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hft_ray.compat.optuna import fixed_params, set_constraint, set_fixed_params
from hft_ray.config import Config, ConfigError, Problem
from hft_ray.search.journal_file import JournalFile

_SECONDS = "seconds"
_STATES = {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL}


class StudyStorage:
    """Opens the study of a sweep, or creates it.

    Args:
        config: FILE with ``search``.
        path: The file (see :class:`JournalFile`); written by this process alone.

    Attributes:
        study: The study.

    Raises:
        ConfigError: The file holds a study with other objectives.
    """

    def __init__(self, config: Config, path: Path) -> None:
        assert config.search is not None
        directions = [f"{each}imize" for each in config.search.objectives.values()]
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._journal = JournalFile(path)
        self._storage = optuna.storages.JournalStorage(self._journal)
        self.study = optuna.create_study(
            study_name=config.name,
            storage=self._storage,
            directions=directions,
            load_if_exists=True,
        )
        self._id = self._storage.get_study_id_from_name(config.name)
        stored = [direction.name.lower() for direction in self.study.directions]
        if stored != directions:
            problem = f"the sweep was started with the directions {stored}; take another name"
            raise ConfigError(Problem("search.objectives", problem, directions))

    def trials(self) -> list[FrozenTrial]:
        """Return all trials. They are the study's own and not to be changed: copies are slow."""
        trials: list[FrozenTrial] = self.study.get_trials(deepcopy=False)
        return trials

    def trial(self, number: int) -> FrozenTrial:
        """Return the trial of this number."""
        return self._storage.get_trial(self._trial_id(number))

    def enqueue(self, params: Mapping[str, Any], attributes: Mapping[str, Any]) -> int:
        """Queue a trial; return its number.

        Args:
            params: Optuna's name of a parameter -> value.
            attributes: User attributes of the trial.
        """
        self.study.enqueue_trial(dict(params), user_attrs=dict(attributes))
        return len(self.trials()) - 1  # this process alone adds trials

    def start(self, number: int) -> None:
        """Mark a queued trial as running."""
        self._storage.set_trial_state_values(self._trial_id(number), state=TrialState.RUNNING)

    def resume(self, number: int, params: Mapping[str, Any] | None) -> optuna.Trial:
        """Return a stored trial, of which the parameters can be suggested.

        Args:
            number: Its number.
            params: Values that the trial was queued with, None if it was not queued.
        """
        if params is not None and params != fixed_params(self.trial(number)):
            set_fixed_params(self._storage, self._trial_id(number), params)
        return optuna.Trial(self.study, self._trial_id(number))

    def set_attribute(self, number: int, key: str, value: Any) -> None:
        """Set a user attribute of a trial."""
        self._storage.set_trial_user_attr(self._trial_id(number), key, value)

    def finish(
        self,
        number: int,
        result: Mapping[str, Any],
        objectives: Sequence[str],
        violations: Mapping[str, float],
    ) -> None:
        """End a trial with its result.

        Args:
            number: Its number.
            result: See :func:`result_of`.
            objectives: Metrics that ``result`` has values of if the trial is complete.
            violations: Constraint -> amount of the violation.
        """
        for constraint, amount in violations.items():
            set_constraint(self._storage, self._trial_id(number), constraint, amount)
        self.set_attribute(number, "result", result)
        state = _STATES.get(result["state"], TrialState.PRUNED)
        complete = state == TrialState.COMPLETE
        ends = [result["values"][name] for name in objectives] if complete else None
        self.study.tell(number, ends, state=state)

    @property
    def seconds(self) -> float:
        """Run time of the sweep, over all commands, as it was saved last."""
        return float(self.study.user_attrs.get(_SECONDS, 0.0))

    def save_seconds(self, seconds: float) -> None:
        """Save the run time of the sweep."""
        self.study.set_user_attr(_SECONDS, seconds)

    def sync(self) -> None:
        """Wait until every change is on disk."""
        self._journal.sync()

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)
