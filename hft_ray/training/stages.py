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
from typing import Literal

from hft_ray.config import Config, Training
from hft_ray.data import batch_indices, steps_per_epoch
from hft_ray.selection import Schedule
from hft_ray.training.objective import Objective, SupervisedFineTuning
from hft_ray.training.schedule import learning_rate, total_steps
from hft_ray.training.workspace import Workspace


@dataclass(frozen=True)
class Stage:
    """A stretch of a run.

    Attributes:
        name: What it is called.
        objective: What it minimises.
        start: Its first optimizer step in the run.
        steps: Number of its steps.
    """

    name: str
    objective: Objective
    start: int
    steps: int

    @property
    def end(self) -> int:
        """The first step after it."""
        return self.start + self.steps

    def indices(self, step: int, training: Training) -> list[int]:
        """Return the examples of the run's step ``step``."""
        number = step - self.start
        return batch_indices(number, len(self.objective), training.batch_size, training.seed)

    def rate(self, step: int, training: Training, round_start: int) -> float:
        """Return the learning rate of the run's step ``step``, in a round since ``round_start``."""
        since = max(0, round_start - self.start)
        return learning_rate(step - self.start, self.steps, training, since)


def make_stages(config: Config, workspace: Workspace) -> list[Stage]:
    """Return the stages of a run; encodes their data if that has not been done.

    Raises:
        ConfigError: Data cannot be read or has no example.
    """
    data = workspace.training_set(config.model, config.data)
    pad = workspace.tokenizer(config.model).pad_token_id
    objective = SupervisedFineTuning(data, pad)
    return [Stage("sft", objective, 0, total_steps(config.training, len(objective)))]


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
        batch_size: Examples of a step.
    """

    def __init__(
        self,
        reselect: Literal["never", "task", "epoch"] | int,
        stages: Sequence[Stage],
        batch_size: int,
    ) -> None:
        self._starts: list[int] = []
        for stage in stages if reselect != "never" else stages[:1]:
            schedule = Schedule(reselect, steps_per_epoch(len(stage.objective), batch_size))
            within = (step for step in range(stage.steps) if schedule.starts_round(step))
            self._starts += [stage.start + step for step in within]

    def number(self, step: int) -> int:
        """Return the round of a step, from 0."""
        return bisect_right(self._starts, step) - 1

    def starts(self, step: int) -> bool:
        """Whether a selection is drawn before this step."""
        return self._starts[self.number(step)] == step
