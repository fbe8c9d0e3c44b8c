"""The strategy weighted: exact totals, ratios of categories by hand, chances of units."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from functools import cache
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selection_models import ARCHITECTURES
from selection_random import CATEGORIES, RATIOS, catalogs, selections

from hft_ray.config import ConfigError, Selection, Weights
from hft_ray.config.keys import searchable_keys
from hft_ray.config.load import validate
from hft_ray.selection import Catalog, Draw, Unit, build_catalog, draw
from hft_ray.selection.category_weights import water_filling

RAW = {"name": "n", "model": "m", "data": {"train": "d.jsonl"}}


@cache
def llama() -> Catalog:
    return build_catalog(ARCHITECTURES["llama"].build("meta"))


def counts(drawn: Draw) -> tuple[int, int, int]:
    """Return how many units of attention, feed-forward and norms in layers are drawn."""
    found = Counter(unit.category for unit in drawn.units if unit.layer is not None)
    return found["attention"], found["feed_forward"], found["norm"]


@settings(max_examples=200, deadline=None)
@given(
    RATIOS.map(lambda ratio: Fraction(str(ratio))),
    st.lists(
        st.tuples(st.integers(1, 10_000), st.fractions(0, 100)).map(tuple), min_size=1, max_size=6
    ).filter(lambda pairs: any(weight for _, weight in pairs)),
)
def test_water_filling(ratio: Fraction, pairs: list[tuple[int, Fraction]]):
    sizes = {str(i): size for i, (size, _) in enumerate(pairs)}
    weights = {str(i): weight for i, (_, weight) in enumerate(pairs)}
    ratios = water_filling(ratio, sizes, weights)
    assert sum(ratios[each] * sizes[each] for each in sizes) == ratio * sum(sizes.values())
    assert all(0 <= each <= 1 for each in ratios.values())
    positive = [each for each in sizes if weights[each]]
    unfilled = [each for each in positive if ratios[each] < 1]
    level = {ratios[each] / weights[each] for each in unfilled}
    assert len(level) <= 1
    for full in set(positive) - set(unfilled):
        assert all(weights[full] * each >= 1 for each in level)
    if unfilled:
        assert not any(ratios[each] for each in sizes if not weights[each])


@pytest.mark.parametrize(
    ("ratio", "weights", "expected"),
    [
        # 16 attention, 12 feed-forward, 8 norms. 9 = x (3*16 + 12 + 8): 6.35, 1.59, 1.06.
        (0.25, {"attention": 3}, (6, 2, 1)),
        # 18 = x (9*16 + 12 + 8) would take 17.6 of attention; its 16 leave 2 to 20: 1.2, 0.8.
        (0.5, {"attention": 9}, (16, 1, 1)),
        (0.5, {"attention": 0}, (0, 11, 7)),
        # 27 are more than feed-forward and norms hold; attention takes the rest, 7 of 16.
        (0.75, {"attention": 0}, (7, 12, 8)),
        # All norms, and 1 shared by 16 and 12: 0.57, 0.43.
        (0.25, {"attention": 0, "feed_forward": 0}, (1, 0, 8)),
        (1.0, {"attention": 0, "norm": 50}, (16, 12, 8)),
    ],
)
def test_counts_by_hand(ratio: float, weights: dict[str, float], expected: tuple[int, int, int]):
    selection = Selection(strategy="weighted", ratio=ratio, weights=weights)
    for seed in range(5):
        drawn = draw(llama(), selection.model_copy(update={"seed": seed}), 0)
        assert sum(counts(drawn)) == math.floor(ratio * 36 + 0.5)
        assert counts(drawn) == expected


@pytest.mark.parametrize("granularity", ["category", "model"])
@pytest.mark.parametrize("budget", ["matrices", "parameters"])
@pytest.mark.parametrize("weightless", [0, 1, 2])
def test_weight_zero_is_not_drawn_while_others_are_there(
    granularity: str, budget: str, weightless: int
):
    # A fifth of the parameters, so that attention alone holds enough.
    selection = Selection(
        strategy="weighted",
        ratio=0.2,
        granularity=granularity,
        budget=budget,
        weights={("attention", "feed_forward", "norm")[weightless]: 0},
    )
    found = [counts(draw(llama(), selection, round)) for round in range(30)]
    totals = [sum(each) for each in zip(*found, strict=True)]
    assert totals[weightless] == 0
    assert totals.count(0) == 1


def test_weight_zero_does_not_take_up_what_others_leave():
    # The target is 45: nearer to nothing than to the one unit of weight, and what is missing must
    # not go to the small units of weight 0. At least one unit is drawn.
    large = Unit("q", ("q.weight",), "attention", 0, 100)
    small = [Unit(f"up.{i}", (f"up.{i}.weight",), "feed_forward", 0, 10) for i in range(20)]
    selection = Selection(
        strategy="weighted", ratio=0.15, budget="parameters", weights={"feed_forward": 0}
    )
    assert draw(Catalog((large, *small), 1), selection, 0).units == (large,)


@settings(max_examples=100, deadline=None)
@given(
    catalogs(),
    selections(strategy="weighted").filter(lambda each: each.embeddings != "selected"),
    st.floats(1e-3, 1e3),
    st.integers(0, 100),
)
def test_equal_weights_are_the_random_draw(
    catalog: Catalog, selection: Selection, weight: float, round: int
):
    equal = selection.model_copy(update={"weights": Weights(**dict.fromkeys(CATEGORIES, weight))})
    plain = selection.model_copy(update={"strategy": "random"})
    assert draw(catalog, equal, round) == draw(catalog, plain, round)


@settings(max_examples=50, deadline=None)
@given(catalogs(), selections(strategy="weighted", embeddings="selected", weights=Weights()))
def test_what_lies_outside_the_layers_weighs_one(catalog: Catalog, selection: Selection):
    plain = selection.model_copy(update={"strategy": "random"})
    assert draw(catalog, selection, 0) == draw(catalog, plain, 0)


WEIGHTS = {"attention": 4.0, "feed_forward": 2.0, "norm": 1.0, "expert": 0.5, "router": 0.0}


def one_of_each() -> Catalog:
    units = (Unit(each, (f"{each}.weight",), each, 0, 10) for each in CATEGORIES)
    return Catalog(tuple(units), 1)


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_units_are_drawn_as_if_one_after_the_other_by_weight(taken: int):
    # Sampling without replacement by hand: each next one with the chance of its weight among what
    # is left. 5 standard errors of a binomial share.
    total, draws = sum(WEIGHTS.values()), 2500
    chance: Counter[str] = Counter()
    for order in permutations((each for each in WEIGHTS if WEIGHTS[each]), taken):
        share, left = 1.0, total
        for each in order:
            share, left = share * WEIGHTS[each] / left, left - WEIGHTS[each]
        chance.update(dict.fromkeys(order, share))
    selection = Selection(
        strategy="weighted", granularity="model", ratio=taken / 5, weights=WEIGHTS, seed=11
    )
    catalog = one_of_each()
    seen = Counter(u.name for k in range(draws) for u in draw(catalog, selection, k).units)
    assert seen.total() == taken * draws
    for name in CATEGORIES:
        error = 5 * math.sqrt(chance[name] * (1 - chance[name]) / draws)
        assert abs(seen[name] / draws - chance[name]) <= error, name


def test_units_of_one_category_are_drawn_equally_often_and_rounds_differ():
    catalog, draws = llama(), 600
    selection = Selection(strategy="weighted", ratio=0.25, weights={"attention": 3}, seed=2)
    drawn = [draw(catalog, selection, round) for round in range(draws)]
    assert len({each.hash for each in drawn}) > draws // 2
    seen = Counter(unit for each in drawn for unit in each.units)
    for category, share in {"attention": 6 / 16, "feed_forward": 2 / 12, "norm": 1 / 8}.items():
        error = 5 * math.sqrt(share * (1 - share) / draws)
        for unit in catalog.block:
            if unit.category == category:
                assert abs(seen[unit] / draws - share) < error, unit.name


def test_weights_of_absent_categories_alone_are_refused():
    weights = {"attention": 0, "feed_forward": 0, "norm": 0}
    for granularity in ("model", "category"):
        selection = Selection(strategy="weighted", granularity=granularity, weights=weights)
        with pytest.raises(ConfigError, match=r"selection\.weights: .*attention, feed_forward, no"):
            draw(llama(), selection, 0)


@pytest.mark.parametrize(
    ("selection", "problem"),
    [
        (
            {"strategy": "weighted", "granularity": "layer"},
            "selection: strategy weighted weighs categories, and a layer has all of them",
        ),
        ({"weights": dict.fromkeys(CATEGORIES, 0)}, "selection.weights: all weights are 0"),
        ({"weights": {"norm": -1}}, "selection.weights.norm: should be greater than or equal to 0"),
        ({"weights": {"norm": math.inf}}, "selection.weights.norm: should be a finite number"),
        ({"weights": {"head": 1}}, "selection.weights.head: unknown key"),
    ],
)
def test_what_the_configuration_refuses(selection: dict[str, object], problem: str):
    with pytest.raises(ConfigError) as caught:
        validate({**RAW, "selection": selection}, "FILE")
    assert problem in str(caught.value)


def test_weights_can_be_searched():
    keys = {f"selection.weights.{category}" for category in CATEGORIES}
    assert keys <= set(searchable_keys())
    search = {"space": {key: {"low": 0.1, "high": 10, "log": True} for key in keys}}
    config = validate({**RAW, "selection": {"strategy": "weighted"}, "search": search}, "FILE")
    assert config.search is not None
    with pytest.raises(ConfigError, match=r"search\.space\.selection\.granularity: .*layer"):
        validate(
            {
                **RAW,
                "selection": {"strategy": "weighted"},
                "search": {"space": {"selection.granularity": ["layer", "category"]}},
            },
            "FILE",
        )
