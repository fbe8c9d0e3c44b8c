"""Nominal 95 % intervals hold the truth in 95 % of simulated evaluations."""

import math

import numpy as np
import pytest

from hft_ray.evaluation import Score, Scores, forgetting
from hft_ray.evaluation.intervals import paired_proportions, proportion, student


def test_wilson_by_hand():
    # 8 of 10: Wilson (1927) with z = 1.96 gives 0.4902 .. 0.9433
    assert proportion(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert proportion(10, 10)[1] == 1.0
    assert proportion(10, 10)[0] == pytest.approx(1 / (1 + 1.959964**2 / 10))
    assert proportion(0, 10)[0] == 0.0


def test_the_adjusted_wald_interval_by_hand():
    # 9 lost and 2 gained of 50: (10 - 3) / 52 +- 1.96 sqrt((13 / 52 - (7 / 52)^2) / 52)
    half = 1.959964 * math.sqrt((0.25 - (7 / 52) ** 2) / 52)
    assert paired_proportions(9, 2, 50) == pytest.approx((7 / 52 - half, 7 / 52 + half))


def test_students_t_from_the_table():
    assert student(1.0, 0.5, 10) == pytest.approx((1 - 0.5 * 2.262157, 1 + 0.5 * 2.262157))
    assert all(math.isnan(bound) for bound in student(1.0, math.nan, 1))


def accuracy(rng):
    share = rng.uniform(0.1, 0.9)
    items = (rng.random(rng.integers(40, 400)) < share).astype(float)
    return Score.of("accuracy", items.tolist(), worst=0.0).interval, share


def cross_entropy(rng):
    """Documents of different lengths whose tokens are alike; the truth is the ratio of means."""
    tokens = rng.integers(5, 100, size=60)
    losses = rng.normal(2.0 + 0.005 * tokens, 0.5)
    truth = np.mean(np.arange(5, 100) * (2.0 + 0.005 * np.arange(5, 100))) / np.mean(
        np.arange(5, 100)
    )
    score = Score.of("cross_entropy", losses.tolist(), worst=9.0, weights=tokens.tolist())
    return score.interval, truth


def overlap(rng):
    """A share per item, as ROUGE-L is."""
    items = rng.beta(0.6, 0.9, size=50)
    return Score.of("rouge_l", items.tolist(), worst=0.0).interval, 0.4


def lost(base, tuned, metric, weights=None):
    before, after = (
        Scores(task={}, general={"g": Score.of(metric, list(each), worst=0.0, weights=weights)})
        for each in (base, tuned)
    )
    return forgetting(before, after)["g"].interval


def forgotten_accuracy(rng):
    """The same items before and after; most are right both times."""
    knew = rng.random(200) < 0.8
    kept = np.where(knew, rng.random(200) < 0.9, rng.random(200) < 0.05)
    return lost(knew.astype(float), kept.astype(float), "accuracy"), 0.8 - (0.8 * 0.9 + 0.2 * 0.05)


def forgotten_cross_entropy(rng):
    """Hard documents are hard for both models: only the difference varies little."""
    tokens = rng.integers(5, 100, size=50)
    hard = rng.normal(2.0, 1.0, size=50)
    after = hard + rng.normal(0.3, 0.2, size=50)
    return lost(hard, after, "cross_entropy", tokens.tolist()), 0.3


SIMULATED = [accuracy, cross_entropy, overlap, forgotten_accuracy, forgotten_cross_entropy]


def coverage(simulate, times):
    held = []
    for number in range(times):
        (low, high), truth = simulate(np.random.default_rng([number, 1]))
        held.append(low <= truth <= high)
    return np.mean(held)


@pytest.mark.parametrize("simulate", SIMULATED)
def test_200_simulated_evaluations_are_covered(simulate):
    assert 0.92 <= coverage(simulate, 200) <= 0.98


@pytest.mark.soak
@pytest.mark.parametrize("simulate", SIMULATED)
def test_many_simulated_evaluations_are_covered(simulate):
    assert 0.935 <= coverage(simulate, 10_000) <= 0.965


def test_pairing_makes_the_interval_narrow():
    low, high = forgotten_cross_entropy(np.random.default_rng(3))[0]
    rng = np.random.default_rng(3)
    tokens, hard = rng.integers(5, 100, size=50), rng.normal(2.0, 1.0, size=50)
    alone = Score.of("cross_entropy", hard.tolist(), worst=9.0, weights=tokens.tolist())
    assert high - low < (alone.interval[1] - alone.interval[0]) / 3
