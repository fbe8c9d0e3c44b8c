"""An exponential moving average of the weights, which is the model that is scored and kept.

    a_t = d a_(t-1) + (1 - d) theta_t,   a_0 = theta_0

with theta_t the weights after t optimizer steps, d the decay and theta_0 the base; as
``get_ema_multi_avg_fn`` of ``torch.optim.swa_utils`` computes it. What was never trained is its own
average, so that one is held of the other parameters alone, in fp32: in bf16 its small steps would
be lost. Each rank holds a share of it. Training goes on from theta.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from hft_ray.ranks import Ranks
from hft_ray.training.weight_shares import WeightShares


class MovingAverage(WeightShares):
    """The average of a run.

    Args:
        model: The model.
        decay: d.
        ranks: The processes that train together.
    """

    def __init__(self, model: nn.Module, decay: float, ranks: Ranks) -> None:
        super().__init__(model, ranks, torch.float32)
        self._decay = decay

    def update(self) -> None:
        """Take the weights after an optimizer step."""
        for name, average in self._shares.items():
            average.lerp_(self._own(name).float(), 1 - self._decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Make the average the model's weights for as long as it lasts (a collective)."""
        kept = {name: self._parameters[name].data.to("cpu", copy=True) for name in self._shares}
        self.put()
        try:
            yield
        finally:
            for name, values in kept.items():
                self._parameters[name].data.copy_(values)

    def put(self) -> None:
        """Make the average the model's weights (a collective)."""
        for name in sorted(self._shares):
            self._own(name).copy_(self._shares[name])
            self._exchange(self._parameters[name].data.view(-1))
