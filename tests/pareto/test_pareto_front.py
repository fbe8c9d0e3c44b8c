"""Fronts worked out by hand, in two and three objectives with mixed directions."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hft_ray.pareto import Point, build_front
from hft_ray.report import front_json

TWO = {"task/score": "max", "forgetting/mean": "min"}
REFERENCE = {"task/score": 0.0, "forgetting/mean": 1.0}


def point(trial, score, forgetting, state="complete", **params):
    values = {"task/score": score, "forgetting/mean": forgetting}
    return Point(trial, None, f"run-{trial}", state, 10, params, values, {"task/score": 0.01})


def front_of(points, objectives=TWO, reference=REFERENCE):
    return build_front("s", objectives, points, {"task/score": 0.1}, reference)


def names(front):
    return {p.trial for p, on in zip(front.points, front.on_front, strict=True) if on}


def test_two_objectives_with_mixed_directions():
    #        score up, forgetting down: b dominates d, a and c are the extremes
    points = [
        point("a", 0.9, 0.5),
        point("b", 0.8, 0.2),
        point("c", 0.5, 0.1),
        point("d", 0.7, 0.3),
    ]
    front = front_of(points)
    assert names(front) == {"a", "b", "c"}
    # by hand, slabs of forgetting: [0.1, 0.2) score 0.5, [0.2, 0.5) score 0.8, [0.5, 1) score 0.9
    assert front.hypervolume == pytest.approx(0.1 * 0.5 + 0.3 * 0.8 + 0.5 * 0.9)
    # scaled distance to the ideal (0.9, 0.1): a (0, 1), b (0.25, 0.25), c (1, 0)
    assert front.knee == "b"
    assert [p.trial for p in front.members] == ["a", "b", "c"]


def test_three_objectives_with_mixed_directions():
    objectives = {"up": "max", "down": "min", "cost": "min"}
    rows = {"a": (2, 1, 2), "b": (1, 1, 1), "c": (2, 2, 3), "d": (1, 0, 2)}
    points = [
        Point(k, None, None, "complete", 1, {}, dict(zip(objectives, map(float, v), strict=True)))
        for k, v in rows.items()
    ]
    front = build_front("s", objectives, points, {}, {"up": 0.0, "down": 2.0, "cost": 3.0})
    assert names(front) == {"a", "b", "d"}  # a dominates c
    # boxes to the reference: a 2*1*1 = 2, b 1*1*2 = 2, d 1*2*1 = 2; by inclusion and exclusion
    # a∩b 1, a∩d 1, b∩d 1, a∩b∩d 1
    assert front.hypervolume == pytest.approx(2 + 2 + 2 - 1 - 1 - 1 + 1)
    # ideal (2, 0, 1), nadir (1, 1, 2): a (0, 1, 1), b (1, 1, 0), d (1, 0, 1); a tie, the first wins
    assert front.knee == "a"


def test_duplicates_both_stay_and_weakly_dominated_go():
    points = [
        point("a", 0.8, 0.2),
        point("b", 0.8, 0.2),
        point("c", 0.8, 0.3),
        point("d", 0.7, 0.2),
    ]
    front = front_of(points)
    assert names(front) == {"a", "b"}
    assert front.hypervolume == pytest.approx(0.8 * 0.8)
    assert front.knee == "a"


@pytest.mark.parametrize("state", ["running", "pruned", "failed", "stopped"])
def test_unfinished_points_are_listed_and_never_on_the_front(state):
    front = front_of([point("best", 1.0, 0.0, state), point("a", 0.5, 0.5)])
    assert names(front) == {"a"}
    assert len(front.points) == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_points_without_finite_values_are_never_on_the_front(bad):
    lacking = Point("lacking", None, None, "complete", 1, {}, {"task/score": 1.0})
    front = front_of([point("bad", bad, 0.0), lacking, point("a", 0.5, 0.5)])
    assert names(front) == {"a"}


def test_no_points_and_one_point():
    empty = front_of([])
    assert (empty.hypervolume, empty.knee, empty.members) == (0.0, None, [])
    assert front_of([point("a", 0.5, 0.5)]).knee == "a"


def test_points_that_do_not_dominate_the_reference_add_nothing():
    inside = [point("a", 0.5, 0.5)]
    outside = [*inside, point("worse", 0.9, 1.2), point("edge", 0.6, 1.0)]
    assert front_of(outside).hypervolume == front_of(inside).hypervolume == pytest.approx(0.25)
    assert names(front_of(outside)) == {"a", "worse", "edge"}


def test_one_objective_in_which_all_are_equal_decides_nothing():
    front = front_of([point("a", 0.5, 0.3), point("b", 0.5, 0.3)])
    assert front.knee == "a"


def test_a_reference_point_that_lacks_an_objective_is_refused():
    with pytest.raises(ValueError, match="forgetting/mean"):
        front_of([], reference={"task/score": 0.0})


def test_json_is_the_contract():
    points = [point("a", 0.9, 0.5, ratio=0.5), point("b", math.nan, 0.2), point("c", 0.5, 0.1)]
    front = front_of(points)
    content = json.loads(front_json(front))
    assert list(content) == [
        *(
            "sweep",
            "objectives",
            "reference_point",
            "hypervolume",
            "knee",
            "knee_variant",
            "base",
            "arms",
            "constraints",
            "preference",
            "forecast",
            "points",
            "hypervolume_estimate",
            "hypervolume_interval",
        )
    ]
    assert content["points"][0] == {
        "trial": "a",
        "variant": None,
        "run_id": "run-a",
        "state": "complete",
        "step": 10,
        "params": {"ratio": 0.5},
        "values": {"task/score": 0.9, "forgetting/mean": 0.5},
        "errors": {"task/score": 0.01},
        "feasible": True,
        "configuration": None,
        "arm": None,
        "on_front": True,
        "probability": 1.0,
        "knee_probability": content["points"][0]["knee_probability"],
    }
    assert content["points"][1]["values"]["task/score"] is None


coordinates = st.integers(0, 6).map(float)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(coordinates, coordinates, coordinates), min_size=1, max_size=12))
def test_front_agrees_with_the_definition(rows):
    objectives = {"a": "max", "b": "min", "c": "max"}
    points = [
        Point(str(i), None, None, "complete", 1, {}, dict(zip(objectives, row, strict=True)))
        for i, row in enumerate(rows)
    ]
    front = build_front("s", objectives, points, {}, {"a": -1.0, "b": 7.0, "c": -1.0})
    costs = np.array(rows) * np.array([-1, 1, -1])
    dominated = [
        any((other <= row).all() and (other < row).any() for other in costs) for row in costs
    ]
    assert list(front.on_front) == [not each for each in dominated]
    # the volume counted cell by cell on the integer grid
    cells = np.stack(np.meshgrid(np.arange(-6, 1), np.arange(7), np.arange(-6, 1)), -1)
    covered = (cells[..., None, :] >= costs).all(-1).any(-1)
    assert front.hypervolume == pytest.approx(float(covered.sum()))
