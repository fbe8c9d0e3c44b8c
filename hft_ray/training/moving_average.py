"""An exponential moving average of the weights, which is the model that is scored and kept.

    a_t = d a_(t-1) + (1 - d) theta_t,   a_0 = theta_0

with theta_t the weights after t optimizer steps, d the decay and theta_0 the base; as
``get_ema_multi_avg_fn`` of ``torch.optim.swa_utils`` computes it. What was never trained is its own
average, so that one is held of the other parameters alone, in fp32: in bf16 its small steps would
be lost. Each rank holds a share of it. Training goes on from theta.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hft_ray.ranks import Ranks
from hft_ray.training.partitioned import share
from hft_ray.training.tensor_parts import part_name

KIND = "average"
"""Kind of its parts in a checkpoint."""


class MovingAverage:
    """The average of a run. No parameter may be partitioned, as under ZeRO-3.

    Args:
        model: The model.
        decay: d.
        ranks: The processes that train together.
    """

    def __init__(self, model: nn.Module, decay: float, ranks: Ranks) -> None:
        self._parameters = dict(model.named_parameters())
        self._decay, self._ranks = decay, ranks
        self._shares: dict[str, Tensor] = {}

    def follow(self, names: Iterable[str]) -> None:
        """Average parameters from now on, from the values that they have, if it does not yet."""
        for name in names:
            if name not in self._shares:
                self._shares[name] = self._own(name).to(torch.float32, copy=True)

    def forget(self, names: Iterable[str]) -> None:
        """Take parameters as they are again: they were given the base's values."""
        for name in names:
            self._shares.pop(name, None)

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
        size = self._ranks.size
        for name in sorted(self._shares):
            self._own(name).copy_(self._shares[name])
            for rank in range(size) if size > 1 else ():
                if len(part := self._share_of(name, Ranks(rank, size))):
                    dist.broadcast(part, src=rank)

    def parts(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what a checkpoint needs, as :meth:`Engine.parts`."""
        for name, average in self._shares.items():
            if len(average):
                start = self._places(name, self._ranks).start
                yield part_name(f"{KIND}/{name}", start), average

    def restore(self, whole: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`parts` gave: ``KIND/PARAMETER`` -> all of its flattened numbers."""
        for key, numbers in whole.items():
            name = key.removeprefix(f"{KIND}/")
            places = self._places(name, self._ranks)
            own = numbers[places.start : places.stop]
            self._shares[name] = own.to(self._parameters[name].device, copy=True)

    def _own(self, name: str) -> Tensor:
        """Return this rank's share of a parameter's numbers, to be written to."""
        return self._share_of(name, self._ranks)

    def _share_of(self, name: str, rank: Ranks) -> Tensor:
        places = self._places(name, rank)
        return self._parameters[name].data.view(-1)[places.start : places.stop]

    def _places(self, name: str, rank: Ranks) -> range:
        return share(self._parameters[name].numel(), rank)
