"""One trial as the study knows it."""

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


def trial_id(number: int) -> str:
    """Return the id of the study's trial of this number."""
    return f"t{number:04d}"


def known_of(trial: FrozenTrial) -> Known:
    """Return what a trial of Optuna's is to the rest of the project."""
    attributes = trial.user_attrs
    return Known(
        trial_id(trial.number),
        _STATES[trial.state],
        attributes.get("params", {}),
        attributes.get("result", {}),
    )


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Return the values that are numbers: Optuna's attributes hold JSON, which has no NaN."""
    return {name: value for name, value in values.items() if math.isfinite(value)}
