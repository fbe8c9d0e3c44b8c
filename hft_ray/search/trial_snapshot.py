"""One trial of the study, at one moment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

State = Literal["waiting", "running", "complete", "pruned", "failed"]
_STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class TrialSnapshot:
    """One trial of the study, at one moment.

    Attributes:
        trial: Its id, ``t0007`` for the study's number 7.
        state: Its state.
        params: Dotted key -> value of each setting that the trial tries.
        result: What :meth:`Study.tell` returned: state, step, values, reason; empty before.
        configuration: The first trial with the same settings but for seeds.
        feasible: Whether it is complete and satisfies the constraints.
    """

    trial: str
    state: State
    params: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    configuration: str = ""
    feasible: bool = False

    @property
    def first(self) -> bool:
        """Whether it is the first trial with its settings, not a further seed of another one."""
        return self.configuration in ("", self.trial)


def trial_id(number: int) -> str:
    """Return the id of the study's trial of this number."""
    return f"t{number:04d}"


def trial_number(trial: str) -> int:
    """Return the number of the study's trial of this id."""
    return int(trial[1:])


def snapshot_of(trial: FrozenTrial) -> TrialSnapshot:
    """Return a trial of Optuna as the rest of the project sees it."""
    attributes = trial.user_attrs
    return TrialSnapshot(
        trial_id(trial.number),
        _STATES[trial.state],
        attributes.get("params", {}),
        attributes.get("result", {}),
        trial_id(configuration_of(trial)),
        trial.state == TrialState.COMPLETE and all(x <= 0 for x in trial.constraints.values()),
    )


def configuration_of(trial: FrozenTrial) -> int:
    """Return the number of the first trial with the same settings but for seeds."""
    return int(trial.user_attrs.get("configuration", trial.number))


def is_further_seed(trial: FrozenTrial) -> bool:
    """Return whether a trial repeats an earlier one with other seeds."""
    return "configuration" in trial.user_attrs


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Return the finite values: Optuna's attributes are JSON, which does not have NaN."""
    return {name: value for name, value in values.items() if math.isfinite(value)}
