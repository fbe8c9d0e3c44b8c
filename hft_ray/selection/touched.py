"""The share of a model that has been trainable in any round so far."""

from __future__ import annotations

from collections.abc import Iterable

from hft_ray.selection.catalog import Catalog, Unit
from hft_ray.selection.draw import Draw
from hft_ray.selection.fractions import realised


class Touched:
    """The share of block parameters that any draw so far has made trainable.

    After K independent draws at ratio r it is about 1 - (1 - r)^K: frequent re-selection approaches
    full fine-tuning, which the fractions of a single draw do not show.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._units: set[Unit] = set()

    def add(self, draw: Draw) -> None:
        """Count the units of ``draw`` as touched."""
        self._units.update(draw.units)

    def restore(self, parameters: Iterable[str]) -> None:
        """Count the units of what :attr:`parameters` gave in an earlier process as touched."""
        names = set(parameters)
        self._units.update(each for each in self._catalog.units if names & set(each.parameters))

    @property
    def parameters(self) -> frozenset[str]:
        """Names of the parameters that any draw so far has made trainable."""
        return frozenset(name for unit in self._units for name in unit.parameters)

    def metrics(self, draw: Draw) -> dict[str, float]:
        """Return the metrics of a run that trains ``draw`` now: metric -> share, in [0, 1]."""
        return {
            "selection/trainable_fraction": draw.fractions.model_parameters,
            "selection/touched_fraction": self.fraction,
        }

    @property
    def fraction(self) -> float:
        """Share of block parameters, in [0, 1]."""
        return realised(self._catalog, self._units).block_parameters
