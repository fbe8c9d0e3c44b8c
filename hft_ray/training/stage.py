"""The stages of a run: what it trains on, one after another.

Steps are counted over the whole run. Each stage is a training run of its own as far as the learning
rate, the order of its data and Adam's moments go, which start empty (HFT, arXiv 2404.18466); what
the stages share is the model, and the selection as ``selection.reselect`` says.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from hft_ray.config import Training
from hft_ray.config.sections.selection import ReselectAt
from hft_ray.data import batch_indices
from hft_ray.selection import Schedule
from hft_ray.training.objective import Objective
from hft_ray.training.schedule import learning_rate


@dataclass(frozen=True)
class Stage:
    """A stretch of a run.

    Attributes:
        name: What it is called.
        objective: What it minimises.
        start: Its first optimizer step in the run.
        steps: Number of its steps.
        per_epoch: Steps of one epoch, see :class:`hft_ray.selection.Schedule`.
        training: The section of FILE with what the stage says otherwise.
        shuffled: Whether each pass over its data has an order of its own; a weighted mixture is
            trained on in the order that it has.
    """

    name: str
    objective: Objective
    start: int
    steps: int
    per_epoch: Fraction
    training: Training
    shuffled: bool = True

    @property
    def end(self) -> int:
        """The first step after it."""
        return self.start + self.steps

    @property
    def sequences(self) -> int:
        """Number of sequences that it trains on, counting repeats."""
        return self.steps * self.training.batch_size * self.objective.width

    def indices(self, step: int) -> list[int]:
        """Return the examples of the run's step ``step``."""
        number, n, size = step - self.start, len(self.objective), self.training.batch_size
        if self.shuffled:
            return batch_indices(number, n, size, self.training.seed)
        return [place % n for place in range(number * size, (number + 1) * size)]

    def rate(self, step: int, round_start: int) -> float:
        """Return the learning rate of the run's step ``step``, in a round since ``round_start``."""
        since = max(0, round_start - self.start)
        return learning_rate(step - self.start, self.steps, self.training, since)


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """Return the stage of a step; the last one for what comes after it."""
    starts = [stage.start for stage in stages]
    return stages[bisect_right(starts, step) - 1]


def identity(stages: Sequence[Stage]) -> str:
    """Return a hash of the data of all stages: of a single one, its own."""
    if len(stages) == 1:
        return stages[0].objective.identity
    parts = "\n".join(f"{stage.steps} {stage.objective.identity}" for stage in stages)
    return hashlib.sha256(parts.encode()).hexdigest()


class Rounds:
    """Which round of selection a step belongs to.

    ``never`` draws once in a run. Otherwise a stage begins a round, and ``epoch`` and a number of
    steps are counted from there.

    Args:
        reselect: ``selection.reselect``.
        stages: The stages of the run.
    """

    def __init__(self, reselect: ReselectAt | int, stages: Sequence[Stage]) -> None:
        self._starts: list[int] = []
        for stage in stages if reselect != "never" else stages[:1]:
            schedule = Schedule(reselect, stage.per_epoch)
            within = (step for step in range(stage.steps) if schedule.starts_round(step))
            self._starts += [stage.start + step for step in within]

    def number(self, step: int) -> int:
        """Return the round of a step, from 0."""
        return bisect_right(self._starts, step) - 1

    def starts(self, step: int) -> bool:
        """Whether a selection is drawn before this step."""
        return self._starts[self.number(step)] == step
