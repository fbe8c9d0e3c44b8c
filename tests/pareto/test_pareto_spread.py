"""Which averages are scored, and which models on the way are kept."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from hft_ray.pareto.spread import alpha_of, average_name, averages, least_needed, widest

TWO = {"gain": "max", "lost": "min"}


def curve_of(function, count, ends=((0.0, 0.0), (1.0, 1.0))):
    """Run the bisection on ``alpha -> (gain, lost)``; return the alphas in their order."""
    found = averages(
        count,
        tuple({"gain": gain, "lost": lost} for gain, lost in ends),
        TWO,
        lambda alpha: dict(zip(("gain", "lost"), function(alpha), strict=True)),
    )
    return [alpha for alpha, _ in found]


def test_bisection_begins_in_the_middle_and_goes_where_the_room_is():
    # Both change in the upper half alone: there is nothing to find below.
    late = curve_of(lambda alpha: (max(0, 2 * alpha - 1), max(0, 2 * alpha - 1)), 4)
    assert late == [0.5, 0.75, 0.875, 0.625]
    early = curve_of(lambda alpha: (min(1, 2 * alpha), min(1, 2 * alpha)), 3)
    assert early == [0.5, 0.25, 0.375]


def test_bisection_leaves_out_where_one_objective_is_flat():
    # The task is learned by alpha 0.5, forgetting comes after: no box has two sides but the ends'.
    assert curve_of(lambda alpha: (min(1, 2 * alpha), max(0, 2 * alpha - 1)), 1) == [0.5]
    # A step in both between 0.5 and 0.625 is closed in on.
    closing = curve_of(lambda alpha: (float(alpha > 0.6), float(alpha > 0.6)), 5)
    assert closing == [0.5, 0.75, 0.625, 0.5625, 0.59375]


def test_bisection_without_any_room_goes_next_to_the_trained_model():
    assert curve_of(lambda alpha: (0.0, 0.0), 4, ends=((0, 0), (0, 0))) == [0.5, 0.75, 0.25, 0.875]
    nothing = widest({0.0: {}, 1.0: {"gain": math.nan, "lost": 1.0}}, TWO)
    assert nothing == 0.5


def test_the_widest_box_is_chosen_among_many():
    rng = random.Random(3)
    for _ in range(200):
        alphas = sorted({0.0, 1.0, *(rng.random() for _ in range(rng.randint(0, 6)))})
        curve = {a: {"gain": rng.random(), "lost": rng.random()} for a in alphas}
        boxes = {
            (low + high) / 2: abs(curve[high]["gain"] - curve[low]["gain"])
            * abs(curve[high]["lost"] - curve[low]["lost"])
            for low, high in pairwise(alphas)
        }
        assert boxes[widest(curve, TWO)] == max(boxes.values())


def test_listed_alphas_are_scored_as_they_are():
    ends = ({"gain": 0.0}, {"gain": 1.0})
    found = list(averages([0.9, 0.1], ends, TWO, lambda alpha: {"gain": alpha}))
    assert found == [(0.9, {"gain": 0.9}), (0.1, {"gain": 0.1})]
    assert list(averages(0, ends, TWO, lambda alpha: {})) == []


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)], 1),
        ([(0.0, 0.0), (0.1, 0.1), (0.5, 0.5), (1.0, 1.0)], 1),
        ([(0.0, 0.0), (0.5, 0.5), (0.9, 0.9), (1.0, 1.0)], 2),
        ([(1.0, 1.0), (0.5, 0.5), (0.55, 0.55), (0.0, 0.0)], 2),
        ([(0.0, 0.0), (0.2, 0.9), (0.3, 0.3), (1.0, 1.0)], 1),
        ([(0.3, 0.3), (0.3, 0.3), (0.3, 0.3)], 1),
        ([(0.5, 0.5)], 0),
    ],
)
def test_the_least_needed_is_dominated_or_the_most_crowded(points, expected):
    values = [dict(zip(("gain", "lost"), point, strict=True)) for point in points]
    assert least_needed(values, TWO) == expected


@pytest.mark.parametrize("alpha", [0.5, 0.1, 1 / 3, 1e-9])
def test_the_name_of_an_average_holds_its_alpha(alpha):
    assert alpha_of(average_name(alpha)) == alpha
    assert alpha_of("step-5") is None
