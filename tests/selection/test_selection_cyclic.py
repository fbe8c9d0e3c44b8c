"""The strategy cyclic: what sweeps through everything, and how evenly, round by round."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from selection_models import ARCHITECTURES
from selection_random import catalogs, even_catalogs, rounds_of, selections

from hft_ray.config import Selection
from hft_ray.selection import Catalog, Draw, Touched, Unit, build_catalog, draw, history_of, pool


def times(drawn: Iterable[Draw]) -> Counter[Unit]:
    return Counter(unit for each in drawn for unit in each.units)


def spreads(units: Iterable[Unit], counts: Counter[Unit], parts: tuple[str, ...]) -> list[int]:
    """Return greatest minus smallest count in each group of units that agree in ``parts``."""
    groups: dict[Hashable, list[int]] = {}
    for unit in units:
        groups.setdefault(tuple(getattr(unit, part) for part in parts), []).append(counts[unit])
    return [max(group) - min(group) for group in groups.values()]


@settings(max_examples=60, deadline=None)
@given(
    catalogs(),
    selections(strategy="cyclic").filter(lambda each: each.granularity != "category"),
    st.integers(1, 12),
)
def test_any_two_units_are_drawn_equally_often_but_for_one(
    catalog: Catalog, selection: Selection, rounds: int
):
    counts = times(rounds_of(catalog, selection, rounds))
    assert all(each <= 1 for each in spreads(pool(catalog, selection), counts, ()))


@settings(max_examples=60, deadline=None)
@given(
    catalogs(),
    selections(strategy="cyclic", budget="matrices").filter(
        lambda each: each.granularity != "category" and each.ratio >= 0.05
    ),
)
def test_everything_is_drawn_before_anything_returns(catalog: Catalog, selection: Selection):
    there = pool(catalog, selection)
    by_layer = selection.granularity == "layer"
    of = {unit: unit.name if unit.layer is None or not by_layer else unit.layer for unit in there}
    candidates = len(set(of.values()))
    ideal = Fraction(str(selection.ratio)) * candidates
    per_round = max(1, math.floor(ideal + Fraction(1, 2)))
    sweep = math.ceil(candidates / per_round)
    if ideal.denominator == 1:
        assert sweep == math.ceil(1 / Fraction(str(selection.ratio)))
    *before, last = rounds_of(catalog, selection, sweep)
    early = times(before)
    assert all(early[unit] <= 1 for unit in there)
    assert set(there) <= early.keys() | set(last.units)


@settings(max_examples=60, deadline=None)
@given(catalogs(), selections(strategy="cyclic", granularity="category"), st.integers(1, 12))
def test_within_a_category_of_a_layer_counts_differ_by_at_most_one(
    catalog: Catalog, selection: Selection, rounds: int
):
    counts = times(rounds_of(catalog, selection, rounds))
    there = pool(catalog, selection)
    assert all(each <= 1 for each in spreads(there, counts, ("category", "layer")))


@settings(max_examples=60, deadline=None)
@given(
    even_catalogs(),
    selections(strategy="cyclic", granularity="category", budget="matrices"),
    st.integers(1, 12),
)
def test_within_a_category_counts_differ_by_at_most_one_where_layers_are_alike(
    catalog: Catalog, selection: Selection, rounds: int
):
    counts = times(rounds_of(catalog, selection, rounds))
    assert all(each <= 1 for each in spreads(catalog.block, counts, ("category",)))


@settings(max_examples=120, deadline=None)
@given(
    catalogs(),
    selections(strategy="cyclic", granularity="category", budget="matrices", ratio=0.5),
)
def test_at_one_half_the_complement_comes_next(catalog: Catalog, selection: Selection):
    there = set(pool(catalog, selection))
    first, second = (there & set(each.units) for each in rounds_of(catalog, selection, 2))
    assert first | second == there
    assert len(first & second) == len(there) % 2


def test_a_small_category_has_its_turn():
    # 0.8 of 4 units, 0.6 of attention and 0.2 of the norm: one unit per round. By largest remainder
    # the norm would never be drawn.
    kinds = {"q": "attention", "k": "attention", "v": "attention", "n": "norm"}
    units = (Unit(name, (f"{name}.weight",), kind, 0, 10) for name, kind in kinds.items())
    catalog = Catalog(tuple(units), 1)
    for seed in range(10):
        selection = Selection(strategy="cyclic", ratio=0.2, seed=seed)
        counts = times(rounds_of(catalog, selection, 4))
        assert set(counts.values()) == {1}
        assert set(counts) == set(catalog.units)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3_text", "mixtral"])
@pytest.mark.parametrize("granularity", ["model", "layer", "category"])
def test_sweeps_of_models_at_one_half(name: str, granularity: str):
    catalog = build_catalog(ARCHITECTURES[name].build("meta"))
    selection = Selection(strategy="cyclic", granularity=granularity, embeddings="frozen", seed=3)
    drawn = list(rounds_of(catalog, selection, 8))
    for k in range(0, 8, 2):
        first, second = set(drawn[k].units), set(drawn[k + 1].units)
        assert first | second == set(catalog.block)
        assert not first & second
    # A new sweep goes through everything in another order.
    assert len({each.hash for each in drawn[::2]}) > 1


def test_touched_is_everything_after_four_quarters():
    catalog = build_catalog(ARCHITECTURES["llama"].build("meta"))
    touched = Touched(catalog)
    shares = []
    for drawn in rounds_of(catalog, Selection(strategy="cyclic", ratio=0.25), 4):
        touched.add(drawn)
        shares.append(touched.fraction)
    assert shares == sorted(set(shares))
    assert shares[-1] == 1


@settings(max_examples=60, deadline=None)
@given(catalogs(), selections(), st.integers(0, 6))
def test_the_past_follows_from_the_seed(catalog: Catalog, selection: Selection, rounds: int):
    assume(selection.strategy in ("random", "cyclic", "weighted"))
    drawn = list(rounds_of(catalog, selection, rounds + 1))
    history = history_of(catalog, selection, rounds)
    assert history.times_drawn == {unit.name: n for unit, n in times(drawn[:-1]).items()}
    # A resumed run, with or without the history worked out once.
    assert draw(catalog, selection, rounds, history) == drawn[-1]
    assert draw(catalog, selection, rounds) == drawn[-1]
