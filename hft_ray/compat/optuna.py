"""Private names of Optuna, which hold in 5.0.

===================================  ==========================================================
``fixed_params``                     The system attribute with the values of a queued trial:
                                     ``enqueue_trial`` writes it once, and nothing public changes it
``constraints:NAME``                 The system attributes of constraints: ``Trial.set_constraint``
                                     needs a ``Trial``, whose constructor asks the sampler
``Study._get_trials``                What samplers call to read the trials of a study
===================================  ==========================================================
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

_FIXED = "fixed_params"
_CONSTRAINT = "constraints:"


def fixed_params(trial: FrozenTrial) -> dict[str, Any] | None:
    """Return the values that a queued trial is to have, None if it was not queued."""
    fixed: dict[str, Any] | None = trial.system_attrs.get(_FIXED)
    return fixed


def set_fixed_params(storage: BaseStorage, trial_id: int, params: Mapping[str, Any]) -> None:
    """Change the values that a queued trial is to have.

    Args:
        storage: The study's storage.
        trial_id: Id of the trial in ``storage``.
        params: Optuna's name of a parameter -> value.
    """
    storage.set_trial_system_attr(trial_id, _FIXED, dict(params))


def set_constraint(storage: BaseStorage, trial_id: int, name: str, violation: float) -> None:
    """Store by how much a trial violates a constraint; 0 or less: it holds.

    Args:
        storage: The study's storage.
        trial_id: Id of the trial in ``storage``.
        name: Name of the constraint.
        violation: The amount.
    """
    storage.set_trial_system_attr(trial_id, f"{_CONSTRAINT}{name}", violation)


class StudyProxy(ABC):
    """A study that shows a sampler other trials than it has; all else is the study's own.

    Subclasses define :meth:`seen`.

    Args:
        study: The study.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    @abstractmethod
    def seen(self) -> list[FrozenTrial]:
        """Return the trials that a sampler sees, not to be changed."""

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials as ``optuna.Study.get_trials`` does."""
        chosen = [each for each in self.seen() if states is None or each.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return self.get_trials(deepcopy, states)
