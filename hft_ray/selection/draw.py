"""A draw: what is trainable in one round, a pure function of (model, selection, round)."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from hft_ray.config import Selection
from hft_ray.selection.catalog import Catalog, Unit
from hft_ray.selection.fractions import Fractions, realised
from hft_ray.selection.granularity import pick
from hft_ray.selection.strategies import STRATEGIES


@dataclass(frozen=True)
class Draw:
    """The trainable part of a model in one round.

    Attributes:
        round: Number of the round, from 0.
        parameters: Sorted names of the trainable parameters.
        units: The trainable units, in the catalogue's order.
        hash: SHA-256 (hexadecimal) of ``parameters`` joined by newlines.
        fractions: How much of the model this is.
    """

    round: int
    parameters: tuple[str, ...]
    units: tuple[Unit, ...]
    hash: str
    fractions: Fractions


def draw(catalog: Catalog, selection: Selection, round: int) -> Draw:
    """Draw what is trainable in ``round``; the same on every rank, platform and process.

    What lies outside the layers (embeddings, head, final norm, projections) follows
    ``selection.embeddings``: trained, frozen, or selected. Selected, it joins the units inside the
    layers, and the ratio is one of both together: at model granularity as units like any other, at
    layer granularity each as a layer of its own, at category granularity as categories of their
    own.
    """
    rank = STRATEGIES[selection.strategy](selection.seed, round)
    pool = catalog.units if selection.embeddings == "selected" else catalog.block
    drawn = set(pick(pool, selection, rank))
    if selection.embeddings == "trained":
        drawn.update(catalog.outside)
    units = tuple(unit for unit in catalog.units if unit in drawn)
    parameters = tuple(sorted(name for unit in units for name in unit.parameters))
    digest = sha256("\n".join(parameters).encode()).hexdigest()
    return Draw(round, parameters, units, digest, realised(catalog, units))
