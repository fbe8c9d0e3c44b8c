import json
import math

import numpy as np
import pytest

from hft_ray.evaluation import Score, Scores
from hft_ray.evaluation.score import estimate


def test_standard_error_of_an_accuracy_by_hand():
    # mean 3/4; squares 3 * (1/4)^2 + (3/4)^2 = 3/4; variance 3/4 / 3 = 1/4; error sqrt(1/4 / 4)
    score = Score.of("accuracy", [1.0, 1.0, 0.0, 1.0], worst=0.0)
    assert (score.value, score.stderr, score.n) == (0.75, 0.25, 4)


def test_standard_error_of_a_ratio_by_hand():
    # R = (1*2 + 3*4) / 4 = 3.5; residuals w (x - R): 1 * -1.5 and 3 * 0.5; sum of squares 4.5
    found = estimate([2.0, 4.0], [1.0, 3.0])
    assert found.value == 3.5
    assert found.stderr == pytest.approx(math.sqrt(2 / 1 * 4.5) / 4)


def test_equal_weights_change_nothing():
    items = [0.5, 2.0, 1.0]
    weighted = estimate(items, [7.0] * 3)
    assert weighted.stderr == pytest.approx(estimate(items).stderr)
    assert estimate(items).stderr == pytest.approx(np.std(items, ddof=1) / math.sqrt(3))


def test_standard_errors_agree_with_the_spread_of_repeated_draws():
    """Documents of different lengths whose tokens are correlated: the error is over documents."""
    rng = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(1500):
        tokens = rng.integers(5, 100, size=150)
        level = rng.normal(2.0 + 0.005 * tokens, 0.5)
        losses = level + rng.normal(0, 1, size=150) / np.sqrt(tokens)
        found = estimate(losses.tolist(), tokens.astype(float).tolist())
        values.append(found.value)
        errors.append(found.stderr)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.05)
    covered = np.abs(np.array(values) - np.mean(values)) < 1.96 * np.array(errors)
    assert 0.93 < covered.mean() < 0.97


def scores():
    accuracy = Score.of("accuracy", [1.0, 0.0, 1.0, 1.0], worst=0.0)
    match = Score.of("exact_match", [0.0, 1.0], worst=0.0)
    loss = Score.of("cross_entropy", [2.0, 4.0], worst=6.0, weights=[1.0, 3.0])
    return Scores(task={"a": accuracy}, general={"m": match, "l": loss})


def test_means_add_goodness():
    made = scores()
    means = made.means
    assert means["task/score"].value == 0.75
    assert means["general/score"].value == (0.5 - 3.5) / 2
    errors = [score.stderr for score in made.general.values()]
    assert means["general/score"].stderr == pytest.approx(math.hypot(*errors) / 2)
    assert Scores(task={}, general={}).means == {}


def test_json_round_trip():
    text = json.dumps(scores().to_json(), allow_nan=False)
    assert Scores.from_json(json.loads(text)) == scores()


def test_what_is_not_finite_is_null_in_json_and_nan_again():
    score = Score.of("cross_entropy", [math.inf], worst=6.0, weights=[2.0])
    text = json.dumps(score.to_json(), allow_nan=False)
    read = Score.from_json(json.loads(text))
    assert math.isnan(read.value) and math.isnan(read.stderr) and math.isnan(read.items[0])
    assert (read.n, read.weights) == (1, (2.0,))
