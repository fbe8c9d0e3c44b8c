import json
import math

import numpy as np
import pytest

from hft_ray.evaluation import Score, Scores
from hft_ray.evaluation.score import estimate


@pytest.mark.parametrize(("right", "n"), [(3, 4), (0, 10), (10, 10), (1, 1), (250, 300)])
def test_standard_error_of_an_accuracy_is_that_of_jeffreys_posterior(right, n):
    score = Score.of("accuracy", [1.0] * right + [0.0] * (n - right), worst=0.0)
    a, b = right + 0.5, n - right + 0.5
    assert (score.value, score.n) == (right / n, n)
    assert score.stderr == pytest.approx(math.sqrt(a * b / ((a + b) ** 2 * (a + b + 1))))


def test_all_right_is_never_certain_whatever_the_share():
    for metric in ("exact_match", "token_f1", "acc_norm", "reward_accuracy"):
        score = Score.of(metric, [1.0] * 300, worst=0.0)
        assert 0.0015 < score.stderr < 0.003
        assert score.interval[0] < 0.995
    # 0 nats are what the base diverges from itself.
    assert Score.of("kl", [0.0] * 5, worst=9.0).stderr == 0.0


def test_standard_error_of_a_share_of_parts_by_hand():
    # 1/2, 1/2 and 1 with half an item each at 0 and 1: mean 5/8; squares 2/64 + 9/64 and half of
    # 25/64 + 9/64: 28/64; over 4 items and 5
    score = Score.of("token_f1", [0.5, 0.5, 1.0], worst=0.0)
    assert score.value == pytest.approx(2 / 3)
    assert score.stderr == pytest.approx(math.sqrt(28 / 64 / (4 * 5)))


def test_errors_of_many_items_are_those_of_the_sample():
    items = np.random.default_rng(2).random(2000)
    for values in (items, (items < 0.3).astype(float)):
        score = Score.of("rouge_l", values.tolist(), worst=0.0)
        assert score.stderr == pytest.approx(np.std(values, ddof=1) / math.sqrt(2000), rel=2e-3)


def test_groups_of_one_value_are_as_many_items_as_groups():
    """Three answers on each of four texts, alike on each: four draws, not twelve."""
    groups = np.repeat([0, 1, 2, 3], 3)
    values = np.repeat([2.0, 3.0, 2.5, 4.0], 3)
    for metric in ("cross_entropy", "exact_match"):
        clustered = Score.of(metric, values.tolist(), worst=9.0).grouped(groups.tolist())
        alone = Score.of(metric, [2.0, 3.0, 2.5, 4.0], worst=9.0)
        assert clustered.value == alone.value
        assert clustered.stderr == pytest.approx(alone.stderr)
    assert clustered.n == 12
    high = clustered.interval[1]
    assert high - clustered.value == pytest.approx(3.182446 * clustered.stderr)  # t of 3


def test_groups_of_unequal_size_by_hand():
    # Groups of 2 and 1: sums of residuals (1 - 2) + (2 - 2) and 3 - 2: 2 / 1 * (1 + 1) / 3^2
    score = Score.of("cross_entropy", [1.0, 3.0, 2.0], worst=9.0).grouped([0, 1, 0])
    assert score.stderr == pytest.approx(math.sqrt(2 * 2 / 9))


def test_a_group_for_each_item_changes_nothing():
    for metric, weights in (("token_f1", None), ("kl", [1.0, 2.0, 5.0])):
        score = Score.of(metric, [0.2, 0.9, 0.4], worst=9.0, weights=weights)
        assert score.grouped([2, 0, 1]).stderr == pytest.approx(score.stderr)


def test_one_group_of_nats_tells_nothing():
    assert math.isnan(Score.of("kl", [0.2, 0.9], worst=9.0).grouped([0, 0]).stderr)


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
    f1 = Score.of("token_f1", [0.5, 0.75], worst=0.0, chance=0.125).grouped([0, 1])
    return Scores(task={"a": accuracy}, general={"m": match, "l": f1})


def test_means_add_goodness():
    made = scores()
    means = made.means
    assert means["task/score"].value == 0.75
    assert means["general/score"].value == (0.5 + 0.625) / 2
    errors = [score.stderr for score in made.general.values()]
    assert means["general/score"].stderr == pytest.approx(math.hypot(*errors) / 2)
    assert Scores(task={}, general={}).means == {}
    losses = {name: Score.of(name, [2.0, 4.0], worst=6.0) for name in ("cross_entropy", "kl")}
    assert Scores(task=losses, general={}).means["task/score"].value == -3.0


def test_scores_of_several_units_have_no_mean():
    loss = Score.of("cross_entropy", [2.0, 4.0], worst=6.0)
    mixed = Scores(task={}, general={"nats": loss, **scores().general})
    assert mixed.means == {}


def test_json_round_trip():
    text = json.dumps(scores().to_json(), allow_nan=False)
    assert Scores.from_json(json.loads(text)) == scores()


def test_what_is_not_finite_is_null_in_json_and_nan_again():
    score = Score.of("cross_entropy", [math.inf], worst=6.0, weights=[2.0])
    text = json.dumps(score.to_json(), allow_nan=False)
    read = Score.from_json(json.loads(text))
    assert math.isnan(read.value) and math.isnan(read.stderr) and math.isnan(read.items[0])
    assert (read.n, read.weights) == (1, (2.0,))
