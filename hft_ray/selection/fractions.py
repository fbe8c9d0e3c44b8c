"""The trainable share of a model, counted in three ways (tied weights once)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hft_ray.selection.catalog import Catalog, Unit


@dataclass(frozen=True)
class Fractions:
    """Shares in [0, 1].

    Attributes:
        matrices: Of the units inside the layers, how many are drawn.
        block_parameters: Of the parameters inside the layers.
        model_parameters: Of all parameters, embeddings and head included.
    """

    matrices: float
    block_parameters: float
    model_parameters: float


def realised(catalog: Catalog, units: Iterable[Unit]) -> Fractions:
    """Return the fractions of ``catalog`` that the drawn ``units`` make up."""
    drawn = list(units)
    block = [unit for unit in drawn if unit.layer is not None]
    return Fractions(
        len(block) / catalog.matrices,
        sum(unit.size for unit in block) / catalog.block_parameters,
        sum(unit.size for unit in drawn) / catalog.parameters,
    )
