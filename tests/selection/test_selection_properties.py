"""Properties of draws over random catalogues, whose layers have different numbers of units."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from hft_ray.config import Selection
from hft_ray.selection import Catalog, Unit, draw

CATEGORIES = ("attention", "feed_forward", "norm", "expert", "router")
OUTSIDE = ("embedding", "head", "norm", "other")


@st.composite
def catalogs(make: st.DrawFn) -> Catalog:
    units = []
    layers = make(st.integers(1, 7))
    for layer in range(layers):
        kinds = make(st.lists(st.sampled_from(CATEGORIES), min_size=1, max_size=9))
        places = [(layer, kind) for kind in kinds]
        units += [(f"layers.{layer}.{i}", *place) for i, place in enumerate(places)]
    outer = make(st.lists(st.sampled_from(OUTSIDE), max_size=4))
    units += [(f"outer.{i}", None, kind) for i, kind in enumerate(outer)]
    sizes = make(st.lists(st.integers(1, 10_000), min_size=len(units), max_size=len(units)))
    return Catalog(
        tuple(
            Unit(name, (f"{name}.weight",), kind, layer, size)
            for (name, layer, kind), size in zip(units, sizes, strict=True)
        ),
        layers,
    )


selections = st.builds(
    Selection,
    ratio=st.one_of(
        st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]),
        st.floats(0.001, 1.0).map(lambda ratio: round(ratio, 4)),
    ),
    granularity=st.sampled_from(["model", "layer", "category"]),
    budget=st.sampled_from(["matrices", "parameters"]),
    embeddings=st.sampled_from(["trained", "frozen", "selected"]),
    seed=st.integers(0, 2**40),
)


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


@settings(max_examples=400, deadline=None)
@given(catalogs(), selections, st.integers(0, 1000))
def test_budgets_hold(catalog: Catalog, selection: Selection, round: int):
    drawn = draw(catalog, selection, round)
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
@given(catalogs(), selections, st.integers(0, 1000))
def test_draws_are_pure_and_well_formed(catalog: Catalog, selection: Selection, round: int):
    drawn = draw(catalog, selection, round)
    assert drawn == draw(Catalog(catalog.units, catalog.layers), selection, round)
    # Only the names count, not the order in which a model lists its modules.
    reversed_catalog = Catalog(catalog.units[::-1], catalog.layers)
    assert draw(reversed_catalog, selection, round).hash == drawn.hash
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
@given(catalogs(), selections, st.integers(0, 1000))
def test_category_granularity_is_even_over_layers(
    catalog: Catalog, selection: Selection, round: int
):
    selection = selection.model_copy(update={"granularity": "category", "budget": "matrices"})
    drawn = draw(catalog, selection, round)
    ratio = Fraction(str(selection.ratio))
    there = Counter((unit.category, unit.layer) for unit in catalog.block)
    counts = Counter((unit.category, unit.layer) for unit in drawn.units)
    for cell, number in there.items():
        ideal = ratio * number
        assert math.floor(ideal) <= counts[cell] <= math.ceil(ideal)
