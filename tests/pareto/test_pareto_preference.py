"""Limits and preferences: who may be on the front, and which point is its knee."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hft_ray.config.sections.constraints import Constraint, Preference
from hft_ray.pareto import ChoiceError, Point, build_front, choose
from hft_ray.pareto.knee import knee
from hft_ray.report import front_json
from hft_ray.report.front_html import render_html
from hft_ray.report.front_png import render_png
from hft_ray.report.rows import front_rows

TWO = {"task/score": "max", "forgetting/mean": "min"}
REFERENCE = {"task/score": 0.0, "forgetting/mean": 1.0}
ROWS = {"a": (0.9, 0.5), "b": (0.8, 0.2), "c": (0.5, 0.1), "d": (0.7, 0.3)}
NO_MORE = Constraint("forgetting/mean", "<=", 0.3, False)


def front_of(constraints=(), preference=None, **memory):
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
    return build_front("s", TWO, points, {}, REFERENCE, constraints, preference)


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
    memory = Constraint("cost/peak_memory_bytes", "<=", 70e9, False)
    front = front_of([memory], b={"cost/peak_memory_bytes": 60e9}, c={"cost/x": 1.0})
    assert [point.trial for point in front.members] == ["b"]


def test_nothing_is_on_the_front_when_nothing_keeps_the_limits():
    front = front_of([Constraint("task/score", ">=", 0.95, False)])
    assert (front.members, front.hypervolume, front.knee) == ([], 0.0, None)
    assert front_rows(front) == []
    with pytest.raises(ChoiceError, match="no trial keeps"):
        choose(front, "knee")


def test_limits_and_preference_are_in_the_file():
    front = front_of([NO_MORE], Preference(weights={"task/score": 3.0}))
    content = json.loads(front_json(front))
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
    ("preference", "row"),
    [
        (None, 1),
        (Preference(weights={"task/score": 1.0}), 1),
        (Preference(weights={"task/score": 9.0}), 0),
        (Preference(weights={"forgetting/mean": 9.0}), 2),
        (Preference(weights={"task/score": 0.0, "forgetting/mean": 1.0}), 2),
        (Preference(target={"task/score": 0.9, "forgetting/mean": 0.5}), 0),
        (Preference(target={"task/score": 0.5, "forgetting/mean": 0.1}), 2),
        # Out of reach in the score, and no wish about the rest.
        (Preference(target={"task/score": 1.0, "forgetting/mean": 0.9}), 0),
    ],
)
def test_the_knee_follows_the_preference(preference, row):
    assert knee(COSTS, TWO, preference) == row


def test_a_preference_does_not_depend_on_units():
    scaled = COSTS * [1000.0, 0.01] + [5.0, 7.0]
    weights = Preference(weights={"task/score": 9.0})
    assert knee(scaled, TWO, weights) == knee(COSTS, TWO, weights) == 0


def test_bounds_of_select_leave_the_knee_to_the_preference():
    assert choose(front_of(preference=Preference(weights={"task/score": 9.0})), "knee").trial == "a"
    assert choose(front_of(), "knee").trial == "b"
