"""``--select``: which point each rule chooses."""

from __future__ import annotations

import pytest

from hft_ray.pareto import ChoiceError, Point, build_front, choose

TWO = {"task/score": "max", "forgetting/mean": "min"}

METRICS = [*TWO, "cost/seconds"]


def sweep(objectives=TWO):
    #           score, forgetting, seconds; d is dominated by b, f is not complete
    rows = {
        "a": (0.95, 0.6, 90),
        "b": (0.9, 0.2, 50),
        "c": (0.5, 0.05, 10),
        "d": (0.9, 0.3, 20),
        "e": (0.2, 0.4, 5),
    }
    points = [
        Point(trial, None, None, "complete", 9, {}, dict(zip(METRICS, row, strict=True)))
        for trial, row in rows.items()
    ]
    points.append(Point("f", None, None, "pruned", 9, {}, {"task/score": 1, "forgetting/mean": 0}))
    worst = {"task/score": 0.0, "forgetting/mean": 1.0, "cost/seconds": 100.0}
    return build_front("s", objectives, points, {}, {name: worst[name] for name in objectives})


@pytest.mark.parametrize(
    ("rule", "trial"),
    [
        ("knee", "b"),
        ("best:task/score", "a"),
        ("best:forgetting/mean", "c"),
        ("trial:d", "d"),
        ("task/score>=0.9", "b"),
        ("task/score >= 0.91", "a"),
        ("forgetting/mean<=0.1", "c"),
        ("forgetting/mean<=0.3", "b"),
        # a budget that is not an objective: the knee of what it leaves; of two the first
        ("cost/seconds<=20", "c"),
        ("cost/seconds<=9", "e"),
        ("cost/seconds<=20,forgetting/mean<=0.1", "c"),
        ("task/score>=0.4, forgetting/mean<=0.5", "b"),
    ],
)
def test_rules(rule, trial):
    assert choose(sweep(), rule).trial == trial


def test_with_three_objectives_a_bound_leaves_the_knee_of_the_others():
    front = sweep({**TWO, "cost/seconds": "min"})
    # a, b and d reach 0.9; forgetting and cost are a (0.6, 90), b (0.2, 50), d (0.3, 20): a is out
    assert choose(front, "task/score>=0.9").trial == "b"
    assert choose(front, "task/score>=0.9,forgetting/mean<=0.4").trial == "d"
    assert choose(front, "best:cost/seconds").trial == "e"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("elbow", "must be knee, best:METRIC"),
        ("best:task/scor", "'task/scor' is not an objective"),
        ("trial:g", "no complete trial 'g'"),
        ("trial:f", "no complete trial 'f'"),
        ("task/score>=1.5", "no trial has task/score >= 1.5.*nearest is 0.95 of a"),
        ("cost/second<=3", "'cost/second' is not measured; there are cost/seconds"),
        ("task/score>=much", "'much' is not a number"),
        ("task/score>0.5", "must be knee"),
        ("cost/seconds<=20,task/score>=0.95", "no trial has task/score >= 0.95"),
    ],
)
def test_what_is_refused(rule, said):
    with pytest.raises(ChoiceError, match=said):
        choose(sweep(), rule)


def test_a_sweep_without_a_complete_trial_has_nothing_to_choose():
    empty = build_front("s", TWO, [], {}, {"task/score": 0.0, "forgetting/mean": 1.0})
    with pytest.raises(ChoiceError, match="no trial is complete"):
        choose(empty, "knee")
