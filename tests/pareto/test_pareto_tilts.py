"""Averages by depth: their names, and where they are placed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hft_ray.config.sections.arms import Arm, arm_of
from hft_ray.pareto.spread import alpha_of
from hft_ray.pareto.tilts import tilt_name, tilt_of, tilts

TWO = {"gain": "max", "lost": "min"}


def values(gain, lost):
    return {"gain": gain, "lost": lost}


BENT = {
    0.0: values(0.0, 0.0),
    0.25: values(0.3, 0.2),
    0.5: values(0.9, 0.3),
    0.75: values(0.95, 0.6),
    1.0: values(1.0, 1.0),
}


def placed(count, worth, curve=BENT):
    """Return the tilts in their order; ``worth(a, b)`` is what they score."""
    return [tilt for tilt, _ in tilts(count, curve, TWO, lambda tilt: worth(*tilt))]


@given(a=st.floats(0, 1), b=st.floats(-1, 1))
def test_a_name_holds_both_numbers_with_all_digits(a, b):
    name = tilt_name((a, b))
    assert tilt_of(name) == (a, b)
    assert alpha_of(name) is None
    assert arm_of("full", name, {"depth": Arm()}) == "depth"


@pytest.mark.parametrize("name", ["alpha-0.5", "reset-0.5", "step-7"])
def test_other_variants_have_no_tilt(name):
    assert tilt_of(name) is None


def test_the_average_that_adds_most_is_tilted_first_and_both_ways():
    found = placed(2, lambda a, b: values(0.0, 1.0))
    assert found == [(0.75, -0.5), (0.25, 0.5)]


def test_the_way_that_gained_more_is_followed():
    rising = placed(4, lambda a, b: values(0.97, 0.25) if b > 0 else values(0.0, 1.0))
    assert [b > 0 for _, b in rising] == [False, True, True, True]
    falling = placed(4, lambda a, b: values(0.97, 0.25) if b < 0 else values(0.0, 1.0))
    assert [b > 0 for _, b in falling] == [False, True, False, False]


def test_there_are_two_for_each_average_at_most():
    found = placed(20, lambda a, b: values(0.5, 0.5))
    assert len(set(found)) == len(found) == 6
    assert all(0 <= a <= 1 and 0 <= a + b <= 1 for a, b in found)
    assert {round(a + b / 2, 9) for a, b in found} == {0.25, 0.5, 0.75}


def test_without_averages_the_middle_is_tilted():
    ends = {0.0: BENT[0.0], 1.0: BENT[1.0]}
    assert placed(5, lambda a, b: values(0.5, 0.5), ends) == [(0.75, -0.5), (0.25, 0.5)]
    assert placed(0, lambda a, b: values(0.5, 0.5), ends) == []


def test_what_is_not_finite_gains_nothing():
    found = placed(3, lambda a, b: values(math.nan, 0.1) if b < 0 else values(0.97, 0.25))
    assert [b > 0 for _, b in found] == [False, True, True]


def test_given_ones_are_scored_in_their_order():
    given_ones = [(0.25, 0.5), (1.0, -1.0)]
    assert placed(given_ones, lambda a, b: values(0.0, 0.0)) == given_ones
