"""The content of front.json: how sure the front is, with and without seeds and errors."""

from __future__ import annotations

import json

import pytest

from hft_ray.pareto import Point, build_front
from hft_ray.report import front_json

OBJECTIVES = {"task/score": "max", "forgetting/mean": "min"}
REFERENCE = {"task/score": 0.0, "forgetting/mean": 1.0}


def point(trial, score, lost, error=None, configuration=None, state="complete"):
    values = {"task/score": score, "forgetting/mean": lost} if state == "complete" else {}
    errors = {} if error is None else dict.fromkeys(values, error)
    return Point(trial, None, None, state, 1, {}, values, errors, configuration=configuration)


def content(points):
    return json.loads(front_json(build_front("sweep", OBJECTIVES, points, {}, REFERENCE)))


def test_points_of_a_front_have_probabilities_and_others_have_none():
    found = content(
        [
            point("t0000", 0.9, 0.5, 0.01),
            point("t0001", 0.5, 0.1, 0.01),
            point("t0002", 0.4, 0.6, 0.01),
            point("t0003", 0.0, 0.0, 0.01, state="failed"),
        ]
    )
    chances = [(each["probability"], each["knee_probability"]) for each in found["points"]]
    assert [one for one, _ in chances] == [1.0, 1.0, None, None]
    assert chances[0][1] + chances[1][1] == pytest.approx(1.0)
    assert chances[2:] == [(None, None)] * 2
    low, high = found["hypervolume_interval"]
    assert low < found["hypervolume_estimate"] < high
    assert "configurations" not in found


@pytest.mark.parametrize(
    "points",
    [
        [],
        [point("t0000", 0.9, 0.5, state="failed")],
        [point("t0000", 0.9, 0.5)],
        [point("t0000", 0.9, 0.5), point("t0001", 0.9, 0.5)],
    ],
    ids=["none", "failed", "one", "equal"],
)
def test_where_nothing_is_known_of_the_noise_nothing_is_said(points):
    found = content(points)
    assert found["hypervolume_estimate"] is None
    assert found["hypervolume_interval"] is None
    assert all(each["probability"] is each["knee_probability"] is None for each in found["points"])


def test_a_sweep_with_seeds_has_probabilities_of_its_configurations():
    found = content(
        [
            point("t0000", 0.90, 0.5, 0.01, "t0000"),
            point("t0001", 0.50, 0.1, 0.01, "t0001"),
            point("t0002", 0.92, 0.5, 0.01, "t0000"),
            point("t0003", 0.10, 0.9, 0.01, "t0003"),
        ]
    )
    first, second, third = found["configurations"]
    assert first["trials"] == ["t0000", "t0002"]
    assert first["values"]["task/score"] == pytest.approx(0.91)
    assert [each["probability"] for each in (first, second, third)] == [1.0, 1.0, None]
    assert first["knee_probability"] + second["knee_probability"] == pytest.approx(1.0)
    assert all("probability" not in each for each in found["points"])
