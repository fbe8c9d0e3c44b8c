"""The batches of a run: which examples a step has, and which of them are this rank's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from hft_ray.config import Training
from hft_ray.ranks import Ranks
from hft_ray.training.engine import micro_batch_size
from hft_ray.training.objective import Batch
from hft_ray.training.stages import Stage, stage_at


class Feed:
    """Gives every step its batches; a pure function of the step, so that a run can be resumed.

    Args:
        stages: The stages of the run.
        training: The section of FILE.
        ranks: The processes that train together.
        device: Where batches go.
    """

    def __init__(
        self, stages: Sequence[Stage], training: Training, ranks: Ranks, device: torch.device
    ) -> None:
        self._stages, self._training = stages, training
        self._ranks, self._device = ranks, device

    def units(self, step: int) -> int:
        """Return what the summed loss of a step is divided by, over all ranks."""
        stage = stage_at(self._stages, step)
        return stage.objective.units(stage.indices(step))

    def trained(self, step: int) -> int:
        """Return the tokens of a step that have a loss, over all ranks."""
        stage = stage_at(self._stages, step)
        return stage.objective.trained(stage.indices(step))

    def passes(self, step: int) -> Iterator[Batch]:
        """Yield this rank's micro-batches of a step."""
        stage = stage_at(self._stages, step)
        indices = stage.indices(step)
        micro = micro_batch_size(self._training, self._ranks.size)
        stride = micro * self._ranks.size
        for start in range(self._ranks.rank * micro, self._training.batch_size, stride):
            yield self._batch(stage, indices[start : start + micro])

    def coming(self, step: int, count: int) -> list[Callable[[nn.Module], Tensor]]:
        """Return the losses per unit of the next ``count`` examples of the stage of ``step``.

        Returns:
            Functions of the model, one for each example from ``step`` on; the same on every rank.
        """
        stage = stage_at(self._stages, step)
        steps = range(step, step + math.ceil(count / self._training.batch_size))
        indices = [index for at in steps for index in stage.indices(at)]
        return [partial(self._loss, stage, index) for index in indices[:count]]

    def _loss(self, stage: Stage, index: int, model: nn.Module) -> Tensor:
        loss = stage.objective.loss(model, self._batch(stage, [index]))
        return loss.value / stage.objective.units([index])

    def _batch(self, stage: Stage, indices: Sequence[int]) -> Batch:
        batch = stage.objective.batch(indices)
        return {key: value.to(self._device) for key, value in batch.items()}
