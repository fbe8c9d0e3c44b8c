"""Properties of draws over random catalogues, whose layers have different numbers of units."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from selection_random import catalogs, past, selections

from hft_ray.config import Selection
from hft_ray.selection import Catalog, draw

ANY = selections()
ROUNDS, PASTS = st.integers(0, 1000), st.integers(0, 2**32)


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


@settings(max_examples=400, deadline=None)
@given(catalogs(), ANY, ROUNDS, PASTS)
def test_budgets_hold(catalog: Catalog, selection: Selection, round: int, seed: int):
    drawn = draw(catalog, selection, round, past(catalog, seed))
    ratio = Fraction(str(selection.ratio))
    selected = selection.embeddings == "selected"
    pool = catalog.units if selected else catalog.block
    counted = [u for u in drawn.units if selected or u.layer is not None]
    cells = [unit.layer if unit.layer is not None else unit.name for unit in pool]
    if selection.granularity == "layer":
        got = {unit.layer if unit.layer is not None else unit.name for unit in counted}
        assert len(counted) == sum(cell in got for cell in cells)
        items = Counter()
        for unit, cell in zip(pool, cells, strict=True):
            items[cell] += unit.size
    else:
        got = {unit.name for unit in counted}
        items = Counter({unit.name: unit.size for unit in pool})
    if selection.budget == "matrices":
        assert len(got) == max(1, half_up(ratio * len(items)))
    else:
        target = ratio * sum(items.values())
        error = abs(sum(items[each] for each in got) - target)
        assert error <= max(items.values())
        # Away from the ends the nearest prefix is within half a unit.
        if len(got) > 1:
            assert error <= Fraction(max(items.values()), 2)


@settings(max_examples=200, deadline=None)
@given(catalogs(), ANY, ROUNDS, PASTS)
def test_draws_are_pure_and_well_formed(
    catalog: Catalog, selection: Selection, round: int, seed: int
):
    history = past(catalog, seed)
    drawn = draw(catalog, selection, round, history)
    assert drawn == draw(Catalog(catalog.units, catalog.layers), selection, round, history)
    # Only the names count, not the order in which a model lists its modules.
    reversed_catalog = Catalog(catalog.units[::-1], catalog.layers)
    assert draw(reversed_catalog, selection, round, history).hash == drawn.hash
    assert list(drawn.parameters) == sorted(set(drawn.parameters))
    outer = {unit for unit in drawn.units if unit.layer is None}
    if selection.embeddings == "trained":
        assert outer == set(catalog.outside)
    if selection.embeddings == "frozen":
        assert not outer
    fractions = drawn.fractions
    for share in (fractions.matrices, fractions.block_parameters, fractions.model_parameters):
        assert 0 <= share <= 1


@settings(max_examples=200, deadline=None)
@given(
    catalogs(),
    selections(granularity="category", budget="matrices").filter(
        lambda each: each.strategy != "weighted"
    ),
    ROUNDS,
    PASTS,
)
def test_category_granularity_is_even_over_layers(
    catalog: Catalog, selection: Selection, round: int, seed: int
):
    drawn = draw(catalog, selection, round, past(catalog, seed))
    ratio = Fraction(str(selection.ratio))
    there = Counter((unit.category, unit.layer) for unit in catalog.block)
    counts = Counter((unit.category, unit.layer) for unit in drawn.units)
    for cell, number in there.items():
        ideal = ratio * number
        assert math.floor(ideal) <= counts[cell] <= math.ceil(ideal)
