"""The strategies gradient and drift: orders by hand, what they need, what they refuse."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selection_random import catalogs, past, selections

from hft_ray.config import Selection
from hft_ray.selection import Catalog, History, Unit, draw, history_of, needs, pool

SIZES = {"0.q": 4, "0.up": 100, "1.q": 4, "1.up": 100}


def catalog() -> Catalog:
    kinds = {"q": "attention", "up": "feed_forward"}
    return Catalog(
        (
            Unit("embed", ("embed.weight",), "embedding", None, 1000),
            *(
                Unit(name, (f"{name}.weight",), kinds[name[2:]], int(name[0]), size)
                for name, size in SIZES.items()
            ),
        ),
        2,
    )


def drawn_names(selection: Selection, measures: dict[str, float], round: int = 1) -> set[str]:
    return {u.name for u in draw(catalog(), selection, round, History({}, measures)).units}


def choose(strategy: str, granularity: str, ratio: float, **more: object) -> Selection:
    settings = {"strategy": strategy, "granularity": granularity, "ratio": ratio}
    return Selection.model_validate({**settings, "embeddings": "frozen", **more})


# L2 norms; per square root of size 0.5, 0.3, 0.1 and 0.4.
GRADIENTS = {"0.q": 1.0, "0.up": 3.0, "1.q": 0.2, "1.up": 4.0}
DRIFTS = {"0.q": 0.9, "0.up": 0.1, "1.q": 0.3, "1.up": 0.2}


def test_gradient_draws_the_largest_norm_per_square_root_of_size():
    order = ["0.q", "1.up", "0.up", "1.q"]
    for k in range(1, 5):
        assert drawn_names(choose("gradient", "model", k / 4), GRADIENTS) == set(order[:k])


def test_source_draws_what_matters_least_and_freezes_what_matters_most():
    order = ["1.q", "0.up", "1.up", "0.q"]
    for k in range(1, 5):
        chosen = choose("source", "model", k / 4)
        assert drawn_names(chosen, GRADIENTS) == set(order[:k])
        # Whatever the round or the seed, but for ties.
        other = chosen.model_copy(update={"seed": 9})
        assert drawn_names(other, GRADIENTS, round=7) == set(order[:k])
    assert drawn_names(choose("source", "category", 0.5), GRADIENTS) == {"1.q", "0.up"}
    assert drawn_names(choose("source", "layer", 0.5), GRADIENTS) == {"0.q", "0.up"}


def test_gradient_of_a_layer_is_that_of_all_its_parameters():
    # sqrt(1 + 9) against sqrt(0.04 + 16), over the same size; the unit with the largest gradient
    # per parameter is in layer 0.
    assert drawn_names(choose("gradient", "layer", 0.5), GRADIENTS) == {"1.q", "1.up"}
    assert drawn_names(choose("gradient", "layer", 0.5), {**GRADIENTS, "0.q": 2.8}) == {
        "0.q",
        "0.up",
    }


def test_gradient_at_category_granularity_is_within_categories():
    assert drawn_names(choose("gradient", "category", 0.5), GRADIENTS) == {"0.q", "1.up"}


def test_gradient_gives_what_is_left_over_to_the_larger_category():
    # 1.4 of 4 units, 0.7 of each category: one unit, of the category with the larger gradient.
    # Mean squares: (1 + 0.04) / 8 = 0.13 against (9 + 16) / 200 = 0.125, or (9 + 25) / 200 = 0.17.
    chosen = choose("gradient", "category", 0.35)
    assert drawn_names(chosen, GRADIENTS) == {"0.q"}
    assert drawn_names(chosen, {**GRADIENTS, "1.up": 5.0}) == {"1.up"}


@pytest.mark.parametrize(
    ("strategy", "order"),
    [
        ("least_drifted", ["0.up", "1.up", "1.q", "0.q"]),
        ("most_drifted", ["0.q", "1.q", "1.up", "0.up"]),
    ],
)
def test_drift_keeps_away_from_what_moved_or_goes_there(strategy: str, order: list[str]):
    for k in range(1, 5):
        chosen = choose(strategy, "model", k / 4)
        assert drawn_names(chosen, DRIFTS) == set(order[:k])


def test_drift_of_a_layer_is_weighted_by_size():
    # Layer 0: 4 * 0.81 + 100 * 0.01 = 4.24; layer 1: 4 * 0.09 + 100 * 0.04 = 4.36.
    assert drawn_names(choose("least_drifted", "layer", 0.5), DRIFTS) == {"0.q", "0.up"}
    assert drawn_names(choose("most_drifted", "layer", 0.5), DRIFTS) == {"1.q", "1.up"}


@settings(max_examples=60, deadline=None)
@given(catalogs(), selections(), st.integers(0, 1000))
def test_before_anything_is_known_ties_are_broken_as_random(
    model: Catalog, selection: Selection, round: int
):
    plain = selection.model_copy(update={"strategy": "random"})
    for strategy in ("cyclic", "gradient", "least_drifted", "source"):
        chosen = selection.model_copy(update={"strategy": strategy})
        assert draw(model, chosen, 0) == draw(model, plain, 0)
        still = History({}, {unit.name: 0.0 for unit in model.units})
        assert draw(model, chosen, round, still) == draw(model, plain, round)


@settings(max_examples=100, deadline=None)
@given(catalogs(), selections(), st.integers(0, 2**32), st.sampled_from([2.0**-40, 1.0, 2.0**60]))
def test_only_the_proportions_of_measures_count_and_not_their_order(
    model: Catalog, selection: Selection, seed: int, scale: float
):
    history = past(model, seed)
    shuffled = list(history.measures)
    random.Random(seed).shuffle(shuffled)
    scaled = {name: history.measures[name] * scale for name in shuffled}
    again = History(dict(reversed(history.times_drawn.items())), scaled)
    assert draw(model, selection, 3, again) == draw(model, selection, 3, history)


def test_what_strategies_need():
    for strategy in ("random", "cyclic", "weighted"):
        assert needs(Selection(strategy=strategy)) == "nothing"
    assert needs(Selection(strategy="gradient")) == "gradient"
    assert needs(Selection(strategy="least_drifted")) == "drift"
    assert needs(Selection(strategy="source")) == "importance"
    # Everything is drawn whatever is measured.
    assert needs(Selection(strategy="gradient", ratio=1)) == "nothing"
    assert len(draw(catalog(), Selection(strategy="gradient", ratio=1), 5).units) == 5


@pytest.mark.parametrize("strategy", ["gradient", "least_drifted", "most_drifted", "source"])
def test_missing_and_meaningless_measures_are_refused(strategy: str):
    chosen = choose(strategy, "model", 0.5)
    with pytest.raises(ValueError, match=f"round 1 of the strategy {strategy} lacks measures of 4"):
        draw(catalog(), chosen, 1)
    with pytest.raises(ValueError, match=r"round 0 .* lacks measures of 1 units: 1\.up"):
        drawn_names(chosen, {name: 1.0 for name in SIZES if name != "1.up"}, round=0)
    for bad in (math.nan, math.inf, -1.0):
        with pytest.raises(ValueError, match=r"the \w+ of 1\.q must be a finite number"):
            drawn_names(chosen, {**DRIFTS, "1.q": bad})
    with pytest.raises(ValueError, match=f"strategy {strategy} depend on measures"):
        history_of(catalog(), chosen, 1)
    assert history_of(catalog(), chosen, 0) == History()


def test_only_what_is_drawn_from_has_to_be_measured():
    assert {unit.name for unit in pool(catalog(), Selection())} == SIZES.keys()
    selected = Selection(strategy="least_drifted", embeddings="selected")
    assert pool(catalog(), selected) == catalog().units
    with pytest.raises(ValueError, match="lacks measures of 1 units: embed"):
        draw(catalog(), selected, 1, History({}, DRIFTS))


def test_a_history_goes_on():
    units = catalog().units
    history = History({"0.q": 2}, DRIFTS).after(units[:2]).after(units[1:3])
    assert history.times_drawn == {"0.q": 4, "embed": 1, "0.up": 1}
    assert history.measures == {}
