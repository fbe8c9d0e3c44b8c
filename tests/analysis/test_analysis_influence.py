"""Importance and partial dependence of functions whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from hft_ray.analysis import Setting
from hft_ray.analysis.influence import influences
from hft_ray.analysis.settings import encoded
from hft_ray.pareto import Point, build_front
from hft_ray.report.front_html import render_html
from hft_ray.report.influence_html import influence_section

RATIO = Setting("selection.ratio", 0.0, 1.0)
RATE = Setting("training.learning_rate", 1e-5, 1e-1, log=True)
KIND = Setting("selection.granularity", choices=("model", "layer", "category"))
IDLE = Setting("selection.reselect", choices=("never", "20"))
SEED = Setting("training.seed", 0, 9)
SETTINGS = [RATIO, RATE, KIND, IDLE, SEED]
SHIFT = {"model": 0.0, "layer": 0.5, "category": -0.5}
EVIL = "<script>alert('x')</script>"


def points(count, function, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        params = {
            "selection.ratio": rng.random(),
            "training.learning_rate": 10 ** rng.uniform(-5, -1),
            "selection.granularity": str(rng.choice(list(SHIFT))),
            "selection.reselect": ["never", 20][rng.integers(2)],
            "training.seed": int(rng.integers(10)),
        }
        value = function(params) + noise * rng.standard_normal()
        state = "failed" if number % 9 == 8 else "complete"
        found.append(Point(f"t{number}", None, None, state, 1, params, {"task/score": value}))
    return found


def additive(params):
    """Variances over the space: ratio 4/12, rate 1/12, granularity 1/6: 0.571, 0.143, 0.286."""
    rate = (np.log10(params["training.learning_rate"]) + 5) / 4
    return 2 * params["selection.ratio"] + rate + SHIFT[params["selection.granularity"]]


def test_shares_of_a_sum_are_those_of_its_terms():
    (found,) = influences(points(80, additive, noise=0.02), SETTINGS, ["task/score"])
    assert found.configurations == 72
    assert found.explained > 0.98
    expected = {RATIO.key: 4 / 7, KIND.key: 2 / 7, RATE.key: 1 / 7, IDLE.key: 0.0}
    assert found.importance == pytest.approx(expected, abs=0.1)
    assert list(found.importance) == [RATIO.key, KIND.key, RATE.key, IDLE.key]


def test_curves_are_the_terms_of_a_sum():
    (found,) = influences(points(80, additive, noise=0.02), SETTINGS, ["task/score"])
    ratio, kind = found.curves[RATIO.key], found.curves[KIND.key]
    others = 0.5  # the mean of the rate's term; those of granularity have mean 0
    assert ratio.mean == pytest.approx(2 * ratio.places + others, abs=0.1)
    assert kind.mean == pytest.approx([1 + others + SHIFT[c] for c in KIND.choices], abs=0.1)
    inside = np.abs(ratio.mean - 2 * ratio.places - others) <= 3 * ratio.deviation + 0.02
    assert inside.mean() > 0.9


def test_what_acts_only_together_has_no_share_of_its_own():
    def product(params):
        rate = (np.log10(params["training.learning_rate"]) + 5) / 4
        return (params["selection.ratio"] - 0.5) * (rate - 0.5)

    (found,) = influences(points(120, product), SETTINGS, ["task/score"])
    assert found.explained > 0.8
    assert max(found.importance.values()) < 0.15


def test_noise_alone_is_not_explained():
    (found,) = influences(points(40, lambda _: 0.0, noise=1.0), SETTINGS, ["task/score"])
    assert found.explained < 0.3


def test_a_constant_metric_has_no_importance():
    (found,) = influences(points(20, lambda _: 0.5), SETTINGS, ["task/score"])
    assert found.importance == dict.fromkeys(found.importance, 0.0)
    assert found.curves[RATIO.key].mean == pytest.approx(0.5)


def test_few_trials_unplaced_values_and_no_settings_say_nothing():
    few = points(6, additive)
    assert influences(few[:5], SETTINGS, ["task/score"]) == []
    assert influences(points(30, additive), [SEED], ["task/score"]) == []
    assert influences(points(30, additive), SETTINGS, ["other/metric"]) == []
    elsewhere = Setting(KIND.key, choices=("other",))
    assert influences(points(30, additive), [elsewhere], ["task/score"]) == []
    assert np.isnan(encoded([RATIO, RATE], [{}, {RATE.key: -1.0}])).all()


def test_values_beyond_the_interval_are_used():
    """Full fine-tuning is always tried, whatever the space says."""
    narrow = Setting(RATIO.key, 0.1, 0.5)
    assert narrow.encode(1.0) == pytest.approx(2.25)
    assert RATE.encode(1e-3) == pytest.approx(0.5)
    assert RATE.decode(0.5) == pytest.approx(1e-3)
    (found,) = influences(points(40, additive), [narrow, RATE, KIND], ["task/score"])
    assert found.curves[narrow.key].mean[-1] - found.curves[narrow.key].mean[0] == pytest.approx(
        0.8, abs=0.15
    )


def test_the_section_is_on_the_page_and_escaped():
    space = [RATIO, RATE, KIND, Setting(f"data.{EVIL}", choices=("a", EVIL))]
    given = points(30, additive)
    for number, point in enumerate(given):
        point.params[f"data.{EVIL}"] = ["a", EVIL][number % 2]
    front = build_front("s", {"task/score": "max"}, given, {}, {"task/score": -1.0})
    section = influence_section(front, influences(given, space, ["task/score"]))
    assert section is not None
    page = render_html(front, sections=[section])
    assert "<script>alert" not in page
    assert "Influence of the settings" in page
    assert page.count("plotly.js v") == 1
    assert page.count('class="plotly-graph-div"') == 3
    assert influence_section(front, []) is None
