"""Limits and preferences: who may be on the front, and which point is its knee."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hft_ray.pareto import (
    ChoiceError,
    Limit,
    Point,
    Preferred,
    build_front,
    choose,
    front_rows,
    render_html,
    render_png,
)
from hft_ray.pareto.rules import knee

TWO = {"task/score": "max", "forgetting/mean": "min"}
REFERENCE = {"task/score": 0.0, "forgetting/mean": 1.0}
ROWS = {"a": (0.9, 0.5), "b": (0.8, 0.2), "c": (0.5, 0.1), "d": (0.7, 0.3)}
NO_MORE = Limit("forgetting/mean", "<=", 0.3)


def front_of(limits=(), preferred=None, **memory):
    points = [
        Point(
            trial,
            None,
            None,
            "complete",
            1,
            {},
            {"task/score": score, "forgetting/mean": lost, **memory.get(trial, {})},
            {"task/score": 0.02},
        )
        for trial, (score, lost) in ROWS.items()
    ]
    return build_front("s", TWO, points, {}, REFERENCE, limits, preferred)


def test_a_point_outside_the_limits_never_wins():
    front = front_of([NO_MORE])
    assert [point.trial for point in front.members] == ["b", "c"]
    assert [point.feasible for point in front.points] == [False, True, True, True]
    assert front.hypervolume == pytest.approx(0.1 * 0.5 + 0.8 * 0.8)
    assert set(front.certainty.probabilities) == {"b", "c"}
    assert choose(front, "best:task/score").trial == "b"
    assert choose(front, "task/score>=0.6").trial == "b"
    # Asked for by its name it is given.
    assert choose(front, "trial:a").trial == "a"


def test_a_limit_that_was_not_measured_is_not_kept():
    memory = Limit("cost/peak_memory_bytes", "<=", 70e9)
    front = front_of([memory], b={"cost/peak_memory_bytes": 60e9}, c={"cost/x": 1.0})
    assert [point.trial for point in front.members] == ["b"]


def test_nothing_is_on_the_front_when_nothing_keeps_the_limits():
    front = front_of([Limit("task/score", ">=", 0.95)])
    assert (front.members, front.hypervolume, front.knee) == ([], 0.0, None)
    assert front_rows(front) == []
    with pytest.raises(ChoiceError, match="no trial keeps"):
        choose(front, "knee")


def test_limits_and_preference_are_in_the_file():
    front = front_of([NO_MORE], Preferred(weights={"task/score": 3.0}))
    content = json.loads(front.to_json())
    assert [point["feasible"] for point in content["points"]] == [False, True, True, True]
    assert content["constraints"] == [{"metric": "forgetting/mean", "sign": "<=", "value": 0.3}]
    assert content["preference"] == {"weights": {"task/score": 3.0}, "target": None}


def test_the_pictures_draw_them_apart(tmp_path):
    front = front_of([NO_MORE])
    page = render_html(front)
    assert "outside the constraints" in page
    assert "forgetting/mean &lt;= 0.3" in page
    assert '"x-thin"' in page
    assert "outside the constraints" not in render_html(front_of())
    render_png(front, tmp_path / "with.png")
    render_png(front_of(), tmp_path / "without.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


COSTS = np.array([[-0.9, 0.5], [-0.8, 0.2], [-0.5, 0.1]])


@pytest.mark.parametrize(
    ("preferred", "row"),
    [
        (None, 1),
        (Preferred(weights={}), 1),
        (Preferred(weights={"task/score": 9.0}), 0),
        (Preferred(weights={"forgetting/mean": 9.0}), 2),
        (Preferred(weights={"task/score": 0.0}), 2),
        (Preferred(target={"task/score": 0.9, "forgetting/mean": 0.5}), 0),
        (Preferred(target={"task/score": 0.5, "forgetting/mean": 0.1}), 2),
        # Out of reach in the score, and no wish about the rest.
        (Preferred(target={"task/score": 1.0, "forgetting/mean": 0.9}), 0),
    ],
)
def test_the_knee_follows_the_preference(preferred, row):
    assert knee(COSTS, TWO, preferred) == row


def test_a_preference_does_not_depend_on_units():
    scaled = COSTS * [1000.0, 0.01] + [5.0, 7.0]
    weights = Preferred(weights={"task/score": 9.0})
    assert knee(scaled, TWO, weights) == knee(COSTS, TWO, weights) == 0


def test_bounds_of_select_leave_the_knee_to_the_preference():
    assert choose(front_of(preferred=Preferred(weights={"task/score": 9.0})), "knee").trial == "a"
    assert choose(front_of(), "knee").trial == "b"
