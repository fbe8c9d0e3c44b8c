"""The pre-trained values of trained parameters: to measure the distance from them and restore them.

A copy is taken on the CPU when a parameter becomes trainable for the first time. Where every rank
holds the whole parameter, rank 0 alone keeps the copy; under ZeRO-3 each rank keeps its own part.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hft_ray.ranks import Ranks
from hft_ray.selection import Catalog
from hft_ray.training.partitioned import at_rest, held, is_partitioned
from hft_ray.weight_space import Shares, between

_BLOCK = 1 << 20


class BaseSnapshot:
    """Copies of the pre-trained values of parameters, and distances from them.

    Args:
        model: The model, still as it was loaded.
        catalog: Its units.
        ranks: The processes that train together; every method is a collective.
    """

    def __init__(self, model: nn.Module, catalog: Catalog, ranks: Ranks) -> None:
        self._catalog = catalog
        self._ranks = ranks
        self._parameters = dict(model.named_parameters())
        self._copies: dict[str, Tensor] = {}
        self._squares = self._summed({name: _square(x) for name, x in self._held().items()})

    def remember(self, names: Iterable[str]) -> None:
        """Copy the parameters that are not copied yet; they must still be as they were loaded."""
        for name in names:
            parameter = self._parameters[name]
            if name not in self._copies and (self._ranks.main or is_partitioned(parameter)):
                self._copies[name] = held(parameter).to("cpu", copy=True)

    def put_back(self, names: Iterable[str]) -> None:
        """Give parameters their pre-trained values again; no engine may be on the model."""
        self._set(names, lambda name: self._copies[name])

    def on_device(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Return the pre-trained values of whole parameters, on every rank's device."""
        found = {}
        for name in names:
            parameter = self._parameters[name]
            value = torch.empty_like(parameter.data)
            if name in self._copies:
                value.copy_(self._copies[name])
            if self._ranks.size > 1:
                dist.broadcast(value, src=0)
            found[name] = value
        return found

    def tuned(self) -> dict[str, Tensor]:
        """Return copies, on the CPU, of the present values of what :meth:`remember` has copied."""
        return {name: held(self._parameters[name]).to("cpu", copy=True) for name in self._copies}

    def blend(self, tuned: Mapping[str, Tensor], shares: Shares, names: Iterable[str]) -> None:
        """Set parameters between their pre-trained and their tuned values.

        No engine may be on the model. To the bit what ``hft_ray.weights`` makes of the two models.

        Args:
            tuned: What :meth:`tuned` returned.
            shares: How far from the pre-trained values each is.
            names: The parameters; they are among those that :meth:`remember` has copied.
        """
        self._set(names, lambda name: between(tuned[name], self._copies[name], shares(name)))

    def _set(self, names: Iterable[str], value: Callable[[str], Tensor]) -> None:
        """Set parameters; a rank computes the values of those whose copies it holds."""
        for name in names:
            parameter = self._parameters[name]
            held_here = at_rest(parameter)
            if name in self._copies:
                held_here.copy_(value(name))
            if self._ranks.size > 1 and not is_partitioned(parameter):
                dist.broadcast(held_here, src=0)

    def drifts(self) -> dict[str, float]:
        """Return unit name -> L2 distance from the pre-trained values, relative to their norm."""
        squares = self._distances()
        return {unit.name: self._relative(unit.parameters, squares) for unit in self._catalog.units}

    def distances(self) -> dict[str, float]:
        """Return category, and ``all``, -> relative L2 distance from the pre-trained values.

        The paper's analysis of how far each kind of parameter moves (arXiv 2404.18466).
        """
        squares = self._distances()
        parts: dict[str, list[str]] = defaultdict(list)
        for unit in self._catalog.units:
            for part in (unit.category, "all"):
                parts[part].extend(unit.parameters)
        return {part: self._relative(names, squares) for part, names in sorted(parts.items())}

    def _relative(self, names: Iterable[str], squares: dict[str, float]) -> float:
        names = list(names)
        moved = math.sqrt(math.fsum(squares.get(name, 0.0) for name in names))
        whole = math.sqrt(math.fsum(self._squares[name] for name in names))
        # A bias that starts at zero has no norm of its own: its distance stands as it is.
        return moved / whole if whole else moved

    def _distances(self) -> dict[str, float]:
        """Return parameter -> squared L2 distance from its copy; what has none has not moved."""
        squares = {}
        for name, copy in self._copies.items():
            value = held(self._parameters[name])
            parts = zip(_blocks(value), _blocks(copy), strict=True)
            squares[name] = math.fsum(
                _square(now.float() - then.to(now.device, torch.float32)) for now, then in parts
            )
        return self._summed(squares)

    def _held(self) -> dict[str, Tensor]:
        """Return what this rank counts: all on rank 0, else its parts of partitioned ones."""
        return {
            name: held(parameter)
            for name, parameter in self._parameters.items()
            if self._ranks.main or is_partitioned(parameter)
        }

    def _summed(self, squares: dict[str, float]) -> dict[str, float]:
        """Return the sums over the ranks' parts, the same numbers on every rank."""
        total: dict[str, float] = defaultdict(float)
        for each in self._ranks.gather(squares):
            for name, square in each.items():
                total[name] += square
        return dict(total)


def _blocks(tensor: Tensor) -> tuple[Tensor, ...]:
    """Cut a tensor into parts whose differences stay in a processor's caches.

    Sums over a whole embedding in fp32 would also lose digits.
    """
    return tensor.flatten().split(_BLOCK)


def _square(tensor: Tensor) -> float:
    norms = (torch.linalg.vector_norm(part, dtype=torch.float32) for part in _blocks(tensor))
    return math.fsum(float(norm) ** 2 for norm in norms)
