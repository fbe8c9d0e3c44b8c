"""Proof that what is frozen stays as it is: checksums at the start and at the end of a round."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from hft_ray.ranks import Ranks
from hft_ray.training.origin import held
from hft_ray.training.outcome import TrainingError

_BLOCK = 4096


class FrozenChangedError(TrainingError):
    """Parameters that were frozen have changed; the message names them."""


class Audit:
    """Checksums of the frozen parameters of a model.

    Args:
        model: The model.
        ranks: The processes that train together. Each looks at what it holds: the whole parameter,
            or its part under ZeRO-3.
    """

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        self._parameters = dict(model.named_parameters())
        self._ranks = ranks
        self._sums: dict[str, Tensor] = {}

    def start(self, trained: Collection[str]) -> None:
        """Note the checksums of all parameters but the ``trained`` ones, at the start of a round.

        What was frozen in the round before, and proved at its end, is not read again.
        """
        chosen = set(trained)
        self._sums = {
            name: self._sums[name] if name in self._sums else checksum(held(parameter))
            for name, parameter in self._parameters.items()
            if name not in chosen
        }

    def prove(self) -> None:
        """Compare with the checksums noted (a collective).

        Raises:
            FrozenChangedError: On every rank, when a frozen parameter changed on any.
        """
        changed = [
            name
            for name, noted in self._sums.items()
            if not torch.equal(noted, checksum(held(self._parameters[name])))
        ]
        names = sorted({name for each in self._ranks.gather(changed) for name in each})
        if names:
            raise FrozenChangedError(
                f"{len(names)} frozen parameters changed while they were frozen: "
                + ", ".join(names[:5])
            )


def checksum(tensor: Tensor) -> Tensor:
    """Return int64 sums of the bit patterns, one for each block of 4,096 numbers.

    Any change of one number, and any of several that do not cancel out within a block to the last
    bit, changes it. Costs one pass over the memory, where the tensor is.
    """
    bits = tensor.detach().flatten().view(_INTEGERS[tensor.element_size()])
    whole = bits.numel() // _BLOCK * _BLOCK
    sums = bits[:whole].view(-1, _BLOCK).sum(dim=1, dtype=torch.int64)
    return torch.cat([sums, bits[whole:].sum(dtype=torch.int64)[None]])


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
