"""What is said of the forecast of forgetting, from points whose ranks are known."""

from __future__ import annotations

import json
import random

import pytest

from hft_ray.analysis.forecast_correlation import forecast_correlation
from hft_ray.pareto import Point, build_front
from hft_ray.report.front_html import render_html
from hft_ray.report.json_content import front_json

TWO = {"task/score": "max", "forgetting/mean": "min"}


def point(number, cheap, dear, metric="forgetting/mean", variant=None, state="complete"):
    values = {"task/score": 0.1 * number, "forecast/kl": cheap, metric: dear}
    return Point(f"t{number:04d}", variant, None, state, 9, {}, values)


def front_of(points):
    return build_front("s", TWO, points, {}, {"task/score": 0.0, "forgetting/mean": 1.0})


def rising(count):
    return [point(n, 0.1 * n**2, 0.01 * n) for n in range(count)]


def test_ranks_are_compared_not_values():
    found = forecast_correlation(front_of(rising(12)))
    assert (found.correlation, found.trials) == (pytest.approx(1), 12)
    assert 0.9 < found.interval[0] < found.interval[1] == found.correlation
    assert "rises with it" in found.sentence


def test_few_trials_do_not_look_certain():
    low = [forecast_correlation(front_of(rising(count))).interval[0] for count in (6, 8, 16)]
    assert low == sorted(low)
    assert low[0] < 0.7


def test_what_is_retained_counts_the_other_way():
    points = [point(n, n, 1 - 0.01 * n, "retention/mean") for n in range(8)]
    assert forecast_correlation(front_of(points)).correlation == pytest.approx(1)


def test_noise_cannot_be_told_from_chance():
    rng = random.Random(0)
    points = [point(n, rng.random(), rng.random()) for n in range(20)]
    found = forecast_correlation(front_of(points))
    assert found.interval[0] < 0 < found.interval[1]
    assert "cannot be told from chance" in found.sentence


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng, covered, truth = random.Random(1), 0, 0.786  # of normal numbers of correlation 0.8
    for _ in range(200):
        cheap = [rng.gauss(0, 1) for _ in range(30)]
        dear = [0.8 * x + 0.6 * rng.gauss(0, 1) for x in cheap]
        pairs = enumerate(zip(cheap, dear, strict=True))
        low, high = forecast_correlation(front_of([point(n, *each) for n, each in pairs])).interval
        covered += low <= truth <= high
    assert covered >= 180


@pytest.mark.parametrize(
    "points",
    [
        rising(5),
        [point(n, 0.5, 0.1 * n) for n in range(9)],
        [point(n, n, n, variant="alpha-0.5") for n in range(9)],
        [point(n, n, n, state="stopped") for n in range(9)],
    ],
    ids=["few", "constant", "variants", "stopped"],
)
def test_nothing_is_said_without_enough_trials(points):
    assert forecast_correlation(front_of(points)) is None


def test_the_report_says_it_in_a_sentence():
    front = front_of(rising(9))
    sentence = forecast_correlation(front).sentence
    assert sentence in render_html(front, {})
    told = json.loads(front_json(front))["forecast"]
    assert told["trials"] == 9 and told["metric"] == "forgetting/mean"
    assert json.loads(front_json(front_of(rising(3))))["forecast"] is None
