"""Epsilon, IGD+ and attainment: worked out by hand, from their definitions, and by moocore."""

from __future__ import annotations

import math

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hft_ray.pareto.attainment import attained
from hft_ray.pareto.indicators import epsilon, igd_plus


def costs(*rows):
    return np.array(rows, dtype=float)


def test_two_objectives_by_hand():
    a, b = costs((1, 5), (2, 3), (4, 1)), costs((1, 4), (3, 1))
    # a against b: (1, 4) is nearest (1, 5) or (2, 3): 1; (3, 1) is nearest (4, 1): 1
    assert epsilon(a, b) == 1
    # b against a: (1, 5) has (1, 4): 0; (2, 3) has (1, 4): 1 or (3, 1): 1; (4, 1) has (3, 1): 0
    assert epsilon(b, a) == 1
    assert igd_plus(a, b) == pytest.approx((1 + 1) / 2)
    assert igd_plus(b, a) == pytest.approx((0 + 1 + 0) / 3)


def test_three_objectives_by_hand():
    a, b = costs((0, 2, 2), (2, 0, 2)), costs((1, 1, 1))
    # both points of a are 1 behind in two objectives and 1 ahead in the third
    assert epsilon(a, b) == 1
    assert igd_plus(a, b) == pytest.approx(math.sqrt(2))
    # (1, 1, 1) is 1 behind each of a in one objective
    assert epsilon(b, a) == 1
    assert igd_plus(b, a) == pytest.approx(1)


def test_ties_and_duplicates_change_nothing():
    a = costs((1, 2), (2, 1))
    twice = np.concatenate([a, a])
    assert epsilon(twice, a) == epsilon(a, twice) == 0
    assert igd_plus(twice, a) == igd_plus(a, twice) == 0


def test_who_dominates_has_a_negative_epsilon_and_nothing_behind():
    better, worse = costs((1, 1)), costs((1.5, 2), (3, 1.25))
    assert epsilon(better, worse) == -0.25
    assert igd_plus(better, worse) == 0


def test_fronts_without_points():
    a, none = costs((1, 1)), np.zeros((0, 2))
    assert epsilon(none, a) == igd_plus(none, a) == math.inf
    assert math.isnan(epsilon(a, none))
    assert math.isnan(igd_plus(a, none))


def test_attainment_by_hand():
    runs = [costs((1, 5), (2, 2), (5, 1)), costs((2, 5), (2, 3), (6, 1))]
    # what both reached is the worse of the two everywhere
    np.testing.assert_array_equal(attained(runs, 1.0), costs((2, 3), (6, 1)))
    # what any of them reached is the first run, which dominates the second
    np.testing.assert_array_equal(attained(runs, 0.5), runs[0])


@pytest.mark.parametrize("objectives", [2, 3])
def test_attainment_agrees_with_its_definition(objectives):
    rng = np.random.default_rng(objectives)
    runs = [rng.integers(0, 5, (4, objectives)).astype(float) for _ in range(5)]
    surface = attained(runs, 0.6)
    grid = np.stack(np.meshgrid(*[np.arange(6.0)] * objectives), -1).reshape(-1, objectives)
    reached = [[(run <= cell).all(1).any() for run in runs] for cell in grid]
    inside = [(surface <= cell).all(1).any() for cell in grid]
    assert inside == [np.mean(each) >= 0.6 for each in reached]
    assert moocore.is_nondominated(surface).all()


def rows(objectives):
    return st.lists(st.tuples(*[st.integers(0, 5).map(float)] * objectives), min_size=1, max_size=7)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 3).flatmap(lambda m: st.tuples(rows(m), rows(m))))
def test_indicators_agree_with_their_definitions(sets):
    a, b = map(np.array, sets)
    behind = a[None] - b[:, None]
    assert epsilon(a, b) == behind.max(2).min(1).max()
    lost = np.linalg.norm(np.maximum(behind, 0), axis=2).min(1)
    assert igd_plus(a, b) == pytest.approx(lost.mean())
    assert (epsilon(a, b) <= 0) == (igd_plus(a, b) == 0)
