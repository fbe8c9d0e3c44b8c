"""When the selection is drawn again: optimizer steps to rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """The rounds of one training run.

    Attributes:
        reselect: never and task: one round; epoch: one round per epoch; N: one per N steps.
        steps_per_epoch: Optimizer steps of one epoch.
    """

    reselect: Literal["never", "task", "epoch"] | int
    steps_per_epoch: int

    def round_of(self, step: int) -> int:
        """Return the round of the optimizer step with index ``step``, from 0."""
        if self.reselect in ("never", "task"):
            return 0
        length = self.steps_per_epoch if self.reselect == "epoch" else int(self.reselect)
        return step // length

    def starts_round(self, step: int) -> bool:
        """Return whether a selection is drawn before the optimizer step ``step``."""
        return step == 0 or self.round_of(step) != self.round_of(step - 1)
