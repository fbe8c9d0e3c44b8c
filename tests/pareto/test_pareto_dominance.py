"""Dominance: where values are missing or not a number, and the ranks of fronts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hft_ray.pareto.dominance import dominates, front_ranks, is_dominated

TWO = {"gain": "max", "lost": "min"}


@pytest.mark.parametrize(
    ("ours", "others", "expected"),
    [
        ({"gain": 1.0, "lost": 1.0}, [], False),
        ({"gain": 1.0, "lost": 1.0}, [{"gain": 1.0, "lost": 1.0}], False),
        ({"gain": 1.0, "lost": 1.0}, [{"gain": 1.0, "lost": 0.5}], True),
        ({"gain": 1.0, "lost": 1.0}, [{"gain": 2.0, "lost": 1.5}], False),
        (
            {"gain": 1.0, "lost": 1.0},
            [{"gain": 2.0, "lost": 2.0}, {"gain": 2.0, "lost": 0.0}],
            True,
        ),
        ({"gain": 1.0}, [{"gain": 1.0, "lost": 9.0}], True),
        ({"gain": 1.0, "lost": 9.0}, [{"gain": 2.0}], False),
        ({"gain": math.nan, "lost": 1.0}, [{"gain": 1.0, "lost": 0.0}], False),
        ({"gain": 1.0, "lost": 1.0}, [{"gain": math.nan, "lost": 0.0}], False),
    ],
)
def test_a_model_is_dominated_by_one_that_is_nowhere_worse(ours, others, expected):
    assert is_dominated(ours, iter(others), TWO) is expected


def test_front_ranks_are_those_of_sorting_front_by_front():
    costs = np.array([[0.0, 3.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [1.0, 1.0]])
    assert front_ranks(costs).tolist() == [0, 0, 1, 2, 0]


def test_dominates_compares_whole_arrays():
    costs = np.array([[0.0, 1.0, 1.0], [3.0, 1.0, 1.0]])
    table = dominates(costs[:, :, None], costs[:, None, :])
    assert not table.any()
    assert dominates(costs, costs + np.array([[0.0], [1.0]])).all()
