"""When the selection is drawn again: optimizer steps to rounds."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from hft_ray.config.sections.selection import ReselectAt


@dataclass(frozen=True)
class Schedule:
    """The rounds of one training run.

    A step belongs to the epoch of its first example. So with ``epoch`` the round of epoch e, from
    0, begins at step ``ceil(e * steps_per_epoch)``, the first one that begins in that epoch, and E
    epochs have E rounds. With epochs shorter than a step, each step is a round.

    Attributes:
        reselect: never and task: one round; epoch: one round per epoch; N: one per N steps.
        steps_per_epoch: Optimizer steps of one epoch; a fraction where batches run across epochs.
    """

    reselect: ReselectAt | int
    steps_per_epoch: Fraction | int

    def round_of(self, step: int) -> int:
        """Return the round of the optimizer step with index ``step``, from 0."""
        if self.reselect in ("never", "task"):
            return 0
        length = self.steps_per_epoch if self.reselect == "epoch" else int(self.reselect)
        return int(step // max(1, length))

    def starts_round(self, step: int) -> bool:
        """Return whether a selection is drawn before the optimizer step ``step``."""
        return step == 0 or self.round_of(step) != self.round_of(step - 1)
