"""How the draws of successive tasks relate: independent, disjoint, nested."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from selection_random import catalogs, rounds_of, selections

from hft_ray.config import Selection
from hft_ray.selection import draw, history_of, pool


def related(selection, tasks, **changes):
    raw = selection.model_dump() | {"reselect": "task", "across_tasks": tasks} | changes
    return Selection.model_validate(raw)


def drawn(catalog, selection, rounds):
    """Return what each round draws of what is drawn from."""
    those = set(pool(catalog, selection))
    return [those.intersection(each.units) for each in rounds_of(catalog, selection, rounds)]


@settings(max_examples=60, deadline=None)
@given(catalogs(), selections(strategy="random"), st.integers(0, 3))
def test_disjoint_takes_what_was_never_drawn_first(catalog, selection, seed):
    """At model granularity two rounds at a ratio of up to 1/2 have nothing in common."""
    changes = {"granularity": "model", "budget": "matrices", "ratio": 0.5, "seed": seed}
    selection = related(selection, "disjoint", **changes)
    units = pool(catalog, selection)
    first, second = drawn(catalog, selection, 2)
    assert len(first & second) == max(0, len(first) + len(second) - len(units))


@settings(max_examples=60, deadline=None)
@given(catalogs(), selections(strategy="random"))
def test_nested_draws_lie_in_one_another(catalog, selection):
    selection = related(selection, "nested")
    found = drawn(catalog, selection, 4)
    for earlier, later in pairwise(found):
        assert later
        assert later <= earlier
    if selection.ratio == 1:
        assert found[0] == found[3]


@settings(max_examples=30, deadline=None)
@given(catalogs(), selections(strategy="random"), st.sampled_from(["disjoint", "nested"]))
def test_a_draw_follows_from_seed_and_round_alone(catalog, selection, tasks):
    selection = related(selection, tasks)
    history = history_of(catalog, selection, 3)
    assert draw(catalog, selection, 3) == draw(catalog, selection, 3, history)


def test_relations_need_a_draw_for_each_task():
    with pytest.raises(ValidationError, match="tasks nested needs reselect task"):
        Selection(across_tasks="nested")
