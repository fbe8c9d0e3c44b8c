"""Comparisons worked out by hand: reference point, differences, matched scores, seeds, page."""

from __future__ import annotations

import json
import math

import matplotlib.image
import numpy as np
import pytest

from hft_ray.config.sections.constraints import Constraint
from hft_ray.pareto import Point, build_front, compare
from hft_ray.pareto.replicates import merged, runs
from hft_ray.report import comparison_json
from hft_ray.report.comparison_html import render_comparison_html
from hft_ray.report.comparison_png import render_comparison_png
from hft_ray.report.rows import difference_rows, distance_rows, match_rows, side_rows

TWO = {"task/score": "max", "forgetting/mean": "min"}
EVIL = "<script>alert('x')</script>$a_1$%{x}"


def point(trial, score, lost, error=None, state="complete", **params):
    errors = {} if error is None else {"task/score": error, "forgetting/mean": error}
    values = {"task/score": score, "forgetting/mean": lost}
    return Point(trial, None, f"run-{trial}", state, 9, params, values, errors)


def front(name, points, worst=(0.0, 1.0), objectives=TWO):
    reference = dict(zip(("task/score", "forgetting/mean"), worst, strict=True))
    return build_front(name, objectives, points, {"task/score": 0.1}, reference)


def two(error=None):
    a = front("a", [point("t1", 0.9, 0.5, error), point("t2", 0.5, 0.1, error)], (0.0, 0.8))
    b = front("b", [point("t7", 0.8, 0.3, error), point("t8", 0.7, 0.6, error)], (0.2, 1.0))
    return compare([a, b], ["said"])


def test_hypervolumes_have_a_common_reference_point():
    found = two()
    assert found.reference_point == {"task/score": 0.0, "forgetting/mean": 1.0}
    a, b = found.sides
    assert a.front.hypervolume == pytest.approx(0.5 * 0.9 + 0.4 * 0.5)
    assert b.front.hypervolume == pytest.approx(0.8 * 0.7)
    assert [len(side.front.members) for side in found.sides] == [2, 1]
    assert a.hypervolume is None  # no error is known, so no interval


def test_difference_and_distances_by_hand():
    (found,) = two().differences
    assert found.hypervolume == pytest.approx(0.65 - 0.56)
    # b's point (0.8, 0.3) is 0.2 ahead of (0.9, 0.5) in forgetting and 0.3 ahead of (0.5, 0.1)
    assert found.epsilon == pytest.approx(0.2)
    assert found.igd_plus == pytest.approx(0.2)
    # a's points are 0.1 ahead in the score, and 0.2 ahead in forgetting
    assert found.epsilon_back == pytest.approx(0.2)
    assert found.igd_plus_back == pytest.approx((0.1 + 0.2) / 2)
    assert found.estimate is None


def test_matched_scores_by_hand():
    found = two()
    (match,) = found.matches
    assert (match.at, match.objective) == ("task/score", "forgetting/mean")
    assert match.levels == (0.9, 0.8, 0.5)
    trials = [[cell and cell.trial for cell in cells] for cells in match.cells]
    # at 0.9 b is not there; at 0.8 a needs t1, which has 0.9; at 0.5 its t2 is enough
    assert trials == [["t1", None], ["t1", "t7"], ["t2", "t7"]]
    assert match_rows(found, match)[0] == {
        "task/score": "≥ 0.9",
        "a": "0.5 (t1)",
        "b": "not reached",
    }


def test_known_errors_give_intervals_and_a_verdict():
    near, clear = two(error=0.05), two(error=0.001)
    assert difference_rows(near)[0]["larger"] == "not decided"
    assert difference_rows(clear)[0]["larger"] == "a"
    low, high = clear.differences[0].estimate.interval()
    assert low < 0.09 < high
    assert high - low < 0.01
    assert clear.sides[0].probabilities == {"t1": 1.0, "t2": 1.0}
    assert side_rows(clear)[0]["bias-corrected [95 % CI]"].startswith("0.65")
    assert [row["is behind"] for row in distance_rows(clear)] == ["b", "a"]


def test_three_objectives_and_ties():
    objectives = {"up": "max", "down": "min", "cost": "min"}
    rows = {"a": [(2, 1, 2), (1, 1, 1), (1, 1, 1)], "b": [(1, 0, 2), (1, 1, 1)]}
    fronts = [
        build_front(
            name,
            objectives,
            [
                Point(
                    str(i),
                    None,
                    None,
                    "complete",
                    1,
                    {"x": i},
                    dict(zip(objectives, row, strict=True)),
                )
                for i, row in enumerate(given)
            ],
            {},
            {"up": 0.0, "down": 2.0, "cost": 3.0},
        )
        for name, given in rows.items()
    ]
    found = compare(fronts)
    # boxes: a: 2 + 2 - 1 shared; b: 2 + 2 - 1 shared
    assert [side.front.hypervolume for side in found.sides] == pytest.approx([3, 3])
    (difference,) = found.differences
    assert difference.hypervolume == pytest.approx(0)
    # b's (1, 0, 2) against a: (2, 1, 2) and (1, 1, 1) are 1 behind in the second objective
    assert difference.epsilon == pytest.approx(1)
    assert difference.igd_plus == pytest.approx((1 + 0) / 2)
    # a's (2, 1, 2), and twice (1, 1, 1), which b has
    assert difference.igd_plus_back == pytest.approx((1 + 0 + 0) / 3)
    assert [match.objective for match in found.matches] == ["down", "cost"]


def test_other_objectives_are_refused():
    other = front("b", [], objectives={"task/score": "max", "forgetting/mean": "max"})
    with pytest.raises(ValueError, match="different objectives"):
        compare([front("a", []), other])


def test_sweeps_without_a_front_can_be_compared():
    found = compare([front("a", []), front("b", [point("t", 0.5, 0.5, 0.01)])])
    content = json.loads(comparison_json(found))
    assert content["differences"][0]["epsilon"] is None
    assert content["differences"][0]["epsilon_back"] is None
    assert content["sweeps"][0]["hypervolume"] == 0
    assert "not reached" in render_comparison_html(found)


def seeded():
    """Two configurations with three and two seeds, one with one, one that has failed."""
    rows = [("x", 0.5, 0.50), ("y", 0.7, 0.70), ("x", 0.5, 0.56), ("x", 0.5, 0.56)]
    rows += [("y", 0.7, 0.78), ("z", 0.9, 0.9)]
    points = [
        point(f"t{i}", score, 0.25, None, **{"data.kind": kind, "training.seed": i})
        for i, (kind, _, score) in enumerate(rows)
    ]
    return [*points, point("t9", 1.0, 0.0, state="failed")]


def test_seeds_become_their_mean_with_a_pooled_error():
    found = {each.params["data.kind"]: each for each in merged(seeded())}
    assert [each.trial for each in found.values()] == ["t0", "t1", "t5"]
    assert found["x"].values["task/score"] == pytest.approx(0.54)
    # squares: x 0.0016 + 2 * 0.0004, y 2 * 0.0016; degrees of freedom 2 + 1
    deviation = math.sqrt((0.0024 + 0.0032) / 3)
    assert found["x"].errors["task/score"] == pytest.approx(deviation / math.sqrt(3))
    assert found["y"].errors["task/score"] == pytest.approx(deviation / math.sqrt(2))
    assert found["z"].errors["task/score"] == pytest.approx(deviation)
    assert found["x"].errors["forgetting/mean"] == 0


def test_equal_seeds_are_no_replicates():
    same = [point(f"t{i}", 0.5, 0.1 * i, 0.02, **{"training.seed": 3}) for i in range(2)]
    assert merged(same) == same
    plain = [point(f"t{i}", 0.5, 0.1 * i, 0.02) for i in range(2)]
    assert merged(plain) == plain
    assert len(runs(plain)) == 1


def test_a_run_per_seed_and_what_some_of_them_reached():
    assert [[p.trial for p in run] for run in runs(seeded())] == [
        ["t0", "t1", "t5"],
        ["t2", "t4"],
        ["t3"],
    ]
    side = compare([front("a", seeded()), two().sides[0].front]).sides[0]
    np.testing.assert_allclose(side.anywhere, [[-0.9, 0.25]])
    np.testing.assert_allclose(side.everywhere, [[-0.56, 0.25]])
    np.testing.assert_allclose(side.median, [[-0.78, 0.25]])


def evil():
    points = [point(EVIL, 0.9 - i / 20, 0.5 - i / 12, 0.01, **{EVIL: EVIL}) for i in range(5)]
    sweeps = [front(f"{'long-' * 18}{i}-{EVIL}", points[i % 3 :]) for i in range(9)]
    return compare(sweeps, [f"different models: {EVIL}"])


def test_the_page_escapes_loads_nothing_and_has_everything():
    page = render_comparison_html(evil())
    assert "<script>alert" not in page
    assert "default-src 'none'" in page
    assert "9 sweeps" in page
    assert page.count("plotly.js v") == 1
    plain = render_comparison_html(two(error=0.01))
    for text in ("<h1>a, b</h1>", "Note: said.", "not reached", "is behind", "base model"):
        assert text in plain


def test_the_picture_is_drawn(tmp_path):
    for name, comparison in {"two": two(), "evil": evil()}.items():
        render_comparison_png(comparison, tmp_path / f"{name}.png")
        image = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert image.shape[1] == 1680
        assert image.std() > 0.01


def test_limits_hold_for_the_means_over_seeds():
    """The first seed keeps the limit, their mean does not."""
    seeds = [
        Point(f"t{k}", None, None, "complete", 9, {"training.seed": k}, values, {}, True, "t0")
        for k, values in enumerate(
            [
                {"task/score": 0.9, "forgetting/mean": 0.1},
                {"task/score": 0.9, "forgetting/mean": 0.5},
            ]
        )
    ]
    limit = Constraint("forgetting/mean", "<=", 0.2, False)
    reference = {"task/score": 0.0, "forgetting/mean": 1.0}
    limited = build_front("a", TWO, seeds, {}, reference, [limit])
    found = compare([limited, front("b", [point("t7", 0.8, 0.3)])])
    assert found.sides[0].front.members == []
    assert found.sides[0].front.hypervolume == limited.hypervolume == 0
