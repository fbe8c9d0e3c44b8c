"""The batches of a run: which examples a step has, and which of them are this rank's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from hft_ray.config import Config
from hft_ray.data import on_device, share_out
from hft_ray.ranks import Ranks
from hft_ray.training.documents import Documents
from hft_ray.training.numerics import micro_batch_size
from hft_ray.training.objective import Batch
from hft_ray.training.stage import Stage, stage_at


class Feed:
    """Gives every step its batches; a pure function of the step, so that a run can be resumed.

    Args:
        stages: The stages of the run.
        config: FILE.
        ranks: The processes that train together.
        device: Where batches go.
        documents: Tells whether passes are packed.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        config: Config,
        ranks: Ranks,
        device: torch.device,
        documents: Documents,
    ) -> None:
        self._stages, self._batch_size = stages, config.training.batch_size
        self._micro = micro_batch_size(config.training, ranks.size)
        self._longest = config.data.max_length
        self._ranks, self._device, self._documents = ranks, device, documents

    def units(self, step: int) -> int:
        """Return what the summed loss of a step is divided by, over all ranks."""
        stage = stage_at(self._stages, step)
        return stage.objective.units(stage.indices(step))

    def trained(self, step: int) -> int:
        """Return the tokens of a step that have a loss, over all ranks."""
        stage = stage_at(self._stages, step)
        return stage.objective.trained(stage.indices(step))

    def tokens(self, step: int) -> int:
        """Return the tokens of a step over all ranks; padding does not count."""
        stage = stage_at(self._stages, step)
        return sum(stage.objective.lengths(stage.indices(step)))

    def passes(self, step: int) -> Iterator[Batch]:
        """Yield this rank's batches of a step, one for each forward pass."""
        stage = stage_at(self._stages, step)
        for indices in self._own(stage, stage.indices(step)):
            yield self._batch(stage, indices, self._documents.packed)

    def _own(self, stage: Stage, indices: Sequence[int]) -> Iterator[list[int]]:
        """Yield the examples of each of this rank's passes."""
        micro, ranks = self._micro, self._ranks
        if self._documents.packed:
            capacity = micro * stage.objective.width * self._longest
            shares = share_out(stage.objective.lengths(indices), ranks.size, micro, capacity)
            for places in shares[ranks.rank]:
                yield [indices[place] for place in places]
        else:
            for start in range(ranks.rank * micro, len(indices), micro * ranks.size):
                yield list(indices[start : start + micro])

    def coming(self, step: int, count: int) -> list[Callable[[nn.Module], Tensor]]:
        """Return the losses per unit of the next ``count`` examples of the stage of ``step``.

        Returns:
            Functions of the model, one for each example from ``step`` on; the same on every rank.
        """
        stage = stage_at(self._stages, step)
        steps = range(step, step + math.ceil(count / self._batch_size))
        indices = [index for at in steps for index in stage.indices(at)]
        return [partial(self._loss, stage, index) for index in indices[:count]]

    def _loss(self, stage: Stage, index: int, model: nn.Module) -> Tensor:
        # One example alone has nothing to be packed with.
        loss = stage.objective.loss(model, self._batch(stage, [index], packed=False))
        return loss.value / stage.objective.units([index])

    def _batch(self, stage: Stage, indices: Sequence[int], packed: bool) -> Batch:
        return on_device(stage.objective.batch(indices, packed), self._device)
