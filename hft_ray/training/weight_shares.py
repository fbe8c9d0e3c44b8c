"""Values of parameters that a run holds beside its weights, each rank a share of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hft_ray.ranks import Ranks
from hft_ray.training.partitioned import share
from hft_ray.training.tensor_parts import part_name

KIND = "average"
"""Kind of their parts in a checkpoint."""


class WeightShares:
    """Values of parameters. No parameter may be partitioned, as under ZeRO-3.

    Args:
        model: The model.
        ranks: The processes that train together.
        dtype: Type of the values; None for that of the parameters.
    """

    def __init__(self, model: nn.Module, ranks: Ranks, dtype: torch.dtype | None = None) -> None:
        self._parameters = dict(model.named_parameters())
        self._ranks, self._dtype = ranks, dtype
        self._shares: dict[str, Tensor] = {}

    def follow(self, names: Iterable[str]) -> None:
        """Hold the values that parameters have now, of those of which none are held yet."""
        for name in names:
            if name not in self._shares:
                own = self._own(name)
                self._shares[name] = own.to(self._dtype or own.dtype, copy=True)

    def forget(self, names: Iterable[str]) -> None:
        """Hold nothing of parameters any more: they were given the base's values."""
        for name in names:
            self._shares.pop(name, None)

    def whole(self, name: str) -> Tensor:
        """Return all of a parameter's values that are held (a collective)."""
        parameter, own = self._parameters[name], self._shares[name]
        flat = torch.empty(parameter.numel(), dtype=own.dtype, device=own.device)
        self._part(flat, self._ranks).copy_(own)
        self._exchange(flat)
        return flat.view(parameter.shape)

    def parts(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what a checkpoint needs, as :meth:`Engine.parts`."""
        for name, own in self._shares.items():
            if len(own):
                start = share(self._parameters[name].numel(), self._ranks).start
                yield part_name(f"{KIND}/{name}", start), own

    def restore(self, whole: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`parts` gave: ``KIND/PARAMETER`` -> all of its flattened numbers."""
        for key, numbers in whole.items():
            name = key.removeprefix(f"{KIND}/")
            own = self._part(numbers, self._ranks)
            self._shares[name] = own.to(self._parameters[name].device, copy=True)

    def _own(self, name: str) -> Tensor:
        """Return this rank's share of a parameter's numbers, to be written to."""
        return self._part(self._parameters[name].data.view(-1), self._ranks)

    def _exchange(self, flat: Tensor) -> None:
        """Give every rank the shares of all (a collective)."""
        size = self._ranks.size
        for rank in range(size) if size > 1 else ():
            if len(part := self._part(flat, Ranks(rank, size))):
                dist.broadcast(part, src=rank)

    def _part(self, flat: Tensor, rank: Ranks) -> Tensor:
        places = share(flat.numel(), rank)
        return flat[places.start : places.stop]
