"""A draw: the trainable parameters of one round, a pure function of model, selection and history.

Strategies without measurements need no stored history: their earlier draws follow from the seed, so
that a resumed run has nothing to store.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from math import isfinite

from hft_ray.config import ConfigError, Problem, Selection
from hft_ray.selection.catalog import Catalog, Unit
from hft_ray.selection.category_weights import weight
from hft_ray.selection.fractions import Fractions, realised
from hft_ray.selection.granularity import pick
from hft_ray.selection.history import History
from hft_ray.selection.strategies import disjoint, needs, ranking


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


def draw(
    catalog: Catalog, selection: Selection, round: int, history: History | None = None
) -> Draw:
    """Draw what is trainable in ``round``; the same on every rank, platform and process.

    What lies outside the layers (embeddings, head, final norm, projections) follows
    ``selection.embeddings``: trained, frozen, or selected. Selected, it joins the units inside the
    layers, and the ratio is one of both together: at model granularity as units like any other, at
    layer granularity each as a layer of its own, at category granularity as categories of their
    own.

    Args:
        catalog: The units of the model.
        selection: How to draw.
        round: Number of the round, from 0.
        history: The rounds before and what was measured; None to compute the rounds before from
            the seed (see :func:`history_of`), which draws each of them again where needed. Round
            0 needs no measures: ties are then broken by hash.

    Raises:
        ConfigError: The weights are 0 for every category that the model has.
        ValueError: Measures are missing, or are not finite numbers of at least 0.
    """
    if history is None:
        history = history_of(catalog, selection, _rounds_that_matter(selection, round))
    drawn_from = _left(pool(catalog, selection), selection, round, history)
    _check_measures(drawn_from, selection, round, history)
    _check_weights(drawn_from, selection)
    rank = ranking(selection, round, history)
    if selection.across_tasks == "disjoint":
        rank = disjoint(rank, history)
    drawn = set(pick(drawn_from, selection, rank))
    if selection.embeddings == "trained":
        drawn.update(catalog.outside)
    units = tuple(unit for unit in catalog.units if unit in drawn)
    parameters = tuple(sorted(name for unit in units for name in unit.parameters))
    digest = sha256("\n".join(parameters).encode()).hexdigest()
    return Draw(round, parameters, units, digest, realised(catalog, units))


def pool(catalog: Catalog, selection: Selection) -> tuple[Unit, ...]:
    """Return the units that are drawn from, and so those whose measures a strategy needs."""
    return catalog.units if selection.embeddings == "selected" else catalog.block


def history_of(catalog: Catalog, selection: Selection, rounds: int) -> History:
    """Return the history after ``rounds`` rounds, by drawing them all again.

    Raises:
        ValueError: The strategy draws by measures, which cannot be repeated.
    """
    if rounds and needs(selection) != "nothing":
        raise ValueError(
            f"rounds of the strategy {selection.strategy} depend on measures; their history cannot "
            "be computed from the seed"
        )
    history = History()
    for round in range(rounds):
        history = history.after(draw(catalog, selection, round, history).units)
    return history


def _rounds_that_matter(selection: Selection, round: int) -> int:
    return round if selection.strategy == "cyclic" or selection.across_tasks != "independent" else 0


def _left(
    units: tuple[Unit, ...], selection: Selection, round: int, history: History
) -> tuple[Unit, ...]:
    """Return the units that may be drawn: with nested draws, those that all earlier rounds drew."""
    if selection.across_tasks != "nested":
        return units
    return tuple(unit for unit in units if history.times_drawn.get(unit.name, 0) == round)


def _check_measures(
    units: tuple[Unit, ...], selection: Selection, round: int, history: History
) -> None:
    measured = history.measures
    if needs(selection) == "nothing" or (round == 0 and not measured):
        return
    missing = [unit.name for unit in units if unit.name not in measured]
    if missing:
        raise ValueError(
            f"round {round} of the strategy {selection.strategy} lacks measures of "
            f"{len(missing)} units: {', '.join(missing[:5])}"
        )
    for unit in units:
        if not (isfinite(measured[unit.name]) and measured[unit.name] >= 0):
            raise ValueError(
                f"the {needs(selection)} of {unit.name} must be a finite number of at least 0, "
                f"not {measured[unit.name]}"
            )


def _check_weights(units: tuple[Unit, ...], selection: Selection) -> None:
    if selection.strategy == "weighted" and not any(weight(unit, selection) for unit in units):
        there = ", ".join(sorted({unit.category for unit in units}))
        problem = f"of the categories that the model has ({there}) one must weigh more than 0"
        raise ConfigError(Problem("selection.weights", problem, selection.weights.model_dump()))
