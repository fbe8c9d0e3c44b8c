"""Arms of a sweep: fronts of their own, and the table at the same task score, by hand."""

from __future__ import annotations

import json
import re

import matplotlib.image
import pytest

from hft_ray.pareto import Point, arm_fronts, arm_table, build_front
from hft_ray.report import front_json
from hft_ray.report.formatting import value_text, with_interval
from hft_ray.report.front_html import render_html
from hft_ray.report.front_png import render_png
from hft_ray.report.rows import arm_rows, front_rows

KINDS = {"alpha": "averaging", "reset": "half_reset"}
OBJECTIVES = {"task/score": "max", "forgetting/mean": "min"}


def point(trial, arm, score, lost, variant=None, state="complete", **params):
    return Point(
        trial,
        variant,
        None,
        state,
        10,
        {"arm": arm, "selection.ratio": 1.0, **params},
        {"task/score": score, "forgetting/mean": lost},
        {"forgetting/mean": 0.02},
        arm=KINDS.get((variant or "").split("-")[0], arm),
    )


POINTS = [
    point("t0000", "full", 0.90, 0.50),
    point("t0000", "full", 0.70, 0.20, "alpha-0.5"),
    point("t0000", "full", 0.60, 0.30, "reset-0.5"),
    point("t0000", "full", 0.50, 0.40, "step-5"),
    point("t0001", "hft", 0.80, 0.40),
    point("t0002", "lora", 0.60, 0.10),
    point("t0003", "full", 0.95, 0.60),
    point("t0004", "hft", 0.85, 0.30),
    point("t0005", "lora", 0.40, 0.05),
    point("t0006", "hft", 0.99, 0.01, state="failed"),
]


def front_of(points, objectives=OBJECTIVES):
    reference = {"task/score": 0.0, "forgetting/mean": 1.0}
    return build_front(
        "arms", objectives, points, {"task/score": 0.1}, {k: reference[k] for k in objectives}
    )


def test_each_arm_has_the_front_of_its_own_points_and_variants_are_arms():
    fronts = arm_fronts(front_of(POINTS))
    members = {name: [each.label for each in front.members] for name, front in fronts.items()}
    assert members == {
        "full": ["t0003", "t0000", "t0000 step-5"],
        "hft": ["t0004"],
        "lora": ["t0002", "t0005"],
        "averaging": ["t0000 alpha-0.5"],
        "half_reset": ["t0000 reset-0.5"],
    }
    assert list(fronts) == list(members)
    # By hand: the boxes from (0, 1) to the one point, or staircase of points.
    assert fronts["hft"].hypervolume == pytest.approx(0.85 * 0.7)
    assert fronts["lora"].hypervolume == pytest.approx(0.4 * 0.95 + 0.2 * 0.9)


def test_the_table_is_each_arms_least_forgetting_at_the_arms_best_scores():
    # The best scores are 0.95, 0.85, 0.6, 0.7, 0.6: four different ones.
    table = arm_table(front_of(POINTS))
    (match,) = table.matches
    rows = {row.pop("arm"): row for row in arm_rows(table, match, value_text)}
    assert list(rows["full"])[2:] == [f"task/score ≥ {x}" for x in (0.95, 0.85, 0.7, 0.6)]
    shown = {arm: list(row.values())[2:] for arm, row in rows.items()}
    none = "not reached"
    assert shown == {
        "full": ["0.600 ± 0.020", "0.500 ± 0.020", "0.500 ± 0.020", "0.500 ± 0.020"],
        "hft": [none, "0.300 ± 0.020", "0.300 ± 0.020", "0.300 ± 0.020"],
        "lora": [none, none, none, "0.100 ± 0.020"],
        "averaging": [none, none, "0.200 ± 0.020", "0.200 ± 0.020"],
        "half_reset": [none, none, none, "0.300 ± 0.020"],
    }
    assert [row["points"] for row in rows.values()] == ["3", "2", "2", "1", "1"]


def test_cells_tell_the_interval_where_an_error_is_known():
    assert with_interval(POINTS[0], "forgetting/mean") == "0.500 [0.461, 0.539] (t0000)"
    assert with_interval(POINTS[1], "task/score") == "0.7 (t0000 alpha-0.5)"


def test_json_has_the_arm_of_each_point_and_the_arms_side_by_side():
    front = front_of(POINTS)
    content = json.loads(front_json(front))
    assert [each["arm"] for each in content["points"]][:4] == [
        *("full", "averaging", "half_reset", "full")
    ]
    arms = {each["arm"]: each for each in content["arms"]}
    assert arms["hft"] | {"matched": None} == {
        "arm": "hft",
        "points": 2,
        "front_size": 1,
        "hypervolume": pytest.approx(0.595),
        "matched": None,
    }
    unreached, reached, *_ = arms["hft"]["matched"]
    assert unreached["trial"] is None
    assert unreached["level"] == 0.95
    assert reached == {
        "at": "task/score",
        "level": 0.85,
        "objective": "forgetting/mean",
        "trial": "t0004",
        "variant": None,
        "value": 0.3,
        "error": 0.02,
        "interval": [pytest.approx(0.2608, abs=1e-4), pytest.approx(0.3392, abs=1e-4)],
        "difference": {
            "against": "full",
            "value": pytest.approx(-0.2),
            "interval": [pytest.approx(-0.2554, abs=1e-4), pytest.approx(-0.1446, abs=1e-4)],
        },
    }


def test_several_seeds_of_a_configuration_are_their_mean():
    seeds = [
        point(f"t{n}", "hft", score, 0.3, **{"selection.seed": n})
        for n, score in enumerate((0.7, 0.9))
    ]
    table = arm_table(front_of(seeds))
    assert [each.values["task/score"] for each in table.fronts[0].members] == [pytest.approx(0.8)]


def test_without_arms_there_is_no_table():
    plain = Point("t0", None, None, "complete", 1, {}, {"task/score": 1, "forgetting/mean": 0})
    assert arm_table(front_of([plain])) is None
    assert json.loads(front_json(front_of([plain])))["arms"] == []


def test_with_one_objective_there_is_nothing_to_match():
    assert arm_table(front_of(POINTS, {"task/score": "max"})).matches == ()


def test_pictures_show_each_arm_by_name_and_the_table(tmp_path):
    front = front_of([*POINTS, point("t0007", "<b>own</b>", 0.3, 0.2)])
    page = render_html(front)
    for arm in arm_fronts(front):
        assert arm.replace("<", "&lt;").replace(">", "&gt;") in page
    assert "<b>own</b></td>" not in page
    assert "forgetting/mean at the same task/score" in page
    assert '"name":"half_reset"' in page
    # Full fine-tuning is an arm with a name and has no label beside it.
    assert ">full fine-tuning<" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)
    render_png(front, tmp_path / "front.png")
    assert matplotlib.image.imread(tmp_path / "front.png").shape == (1080, 1680, 4)


def test_the_full_arm_alone_is_full_fine_tuning_and_arms_come_first_in_the_table():
    front = front_of(POINTS)
    assert {p.label for p in front.points if p.full_fine_tuning} == {
        *("t0000", "t0000 step-5", "t0003")
    }
    rows = {row["trial"].removesuffix(" (knee)"): row for row in front_rows(front)}
    assert list(rows["t0003"])[:4] == ["trial", *OBJECTIVES, "arm"]
    assert rows["t0000 alpha-0.5"]["arm"] == "averaging"
