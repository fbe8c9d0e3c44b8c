"""Checksums of frozen parameters, which show at the end of a round that these did not change."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

_BLOCK = 4096


def _data(parameter: nn.Parameter) -> Tensor:
    return parameter.data


class Checksums:
    """Checksums of the frozen parameters of a model, in this process.

    Args:
        model: The model.
        held: Returns the part of a parameter that this process holds; by default all of it.
    """

    def __init__(self, model: nn.Module, held: Callable[[nn.Parameter], Tensor] = _data) -> None:
        self._parameters = dict(model.named_parameters())
        self._held = held
        self._sums: dict[str, Tensor] = {}

    def start(self, trained: Collection[str]) -> None:
        """Compute the checksums of all parameters except the ``trained`` ones, as a round starts.

        Parameters that were frozen, and checked, in the round before are not read again.
        """
        chosen = set(trained)
        self._sums = {
            name: self._sums[name] if name in self._sums else checksum(self._held(parameter))
            for name, parameter in self._parameters.items()
            if name not in chosen
        }

    def changed(self) -> list[str]:
        """Return the names of the frozen parameters that have changed since :meth:`start`."""
        return [
            name
            for name, noted in self._sums.items()
            if not torch.equal(noted, checksum(self._held(self._parameters[name])))
        ]


class FrozenChangedError(RuntimeError):
    """Parameters that were frozen have changed; the message names them."""


def changed_message(names: Collection[str]) -> str:
    """Return the error message about frozen parameters that have changed."""
    return f"{len(names)} frozen parameters changed while they were frozen: " + ", ".join(
        sorted(names)[:5]
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
