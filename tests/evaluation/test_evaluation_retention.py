"""Retention by hand-worked cases, its limits, errors and intervals."""

import math

import numpy as np
import pytest

from hft_ray.evaluation import (
    Score,
    Scores,
    mean_retention,
    metric_values,
    retained,
    retention,
    share_left,
    unable,
    worst_values,
)
from hft_ray.evaluation.forgetting import difference


def choice(*items, chance=0.25):
    return Score.of("accuracy", [float(x) for x in items], worst=0.0, chance=chance)


def share(right, n, chance=0.25):
    return choice(*[1] * right, *[0] * (n - right), chance=chance)


def loss(*items, weights=None):
    return Score.of("cross_entropy", items, worst=9.0, weights=weights or [1.0] * len(items))


@pytest.mark.parametrize(
    ("metric", "base", "current", "chance", "expected"),
    [
        # Half of what lies above a guess of four choices.
        ("accuracy", 0.75, 0.5, 0.25, 0.5),
        # A perfect base.
        ("accuracy", 1.0, 0.5, 0.25, 1 / 3),
        ("exact_match", 1.0, 0.8, 0.0, 0.8),
        # Better than the base: above 1. Worse than a guess: below 0.
        ("accuracy", 0.5, 0.75, 0.25, 2.0),
        ("accuracy", 0.75, 0.0, 0.25, -0.5),
        ("logprob_accuracy", 0.75, 0.625, 0.5, 0.5),
        # A nat lost leaves 1 / e of each token's probability; a nat won is e times it.
        ("cross_entropy", 2.0, 3.0, 0.0, math.exp(-1)),
        ("cross_entropy", 3.0, 2.0, 0.0, math.e),
        ("cross_entropy", 2.0, math.inf, 0.0, 0.0),
        ("kl", 0.0, 0.5, 0.0, math.exp(-0.5)),
        ("bits_per_byte", 1.0, 2.0, 8.0, 0.5),
        ("byte_perplexity", 2.0, 4.0, 256.0, 0.5),
        # A perplexity that is better than the base's.
        ("byte_perplexity", 4.0, 2.0, 256.0, 2.0),
        ("bleu", 40.0, 10.0, 0.0, 0.25),
    ],
)
def test_by_hand(metric, base, current, chance, expected):
    assert retained(metric, base, current, chance) == pytest.approx(expected)


def test_lower_may_be_better():
    # The Brier score of a guess among two is 1/2: of 0.4 below it, 0.1 are left.
    assert retained("brier_score", 0.1, 0.4, 0.5, higher_is_better=False) == pytest.approx(0.25)
    assert math.isnan(retained("brier_score", 0.6, 0.4, 0.5, higher_is_better=False))


@pytest.mark.parametrize("base", [0.25, 0.2, 0.0])
def test_a_base_that_guesses_has_nothing_to_retain(base):
    assert math.isnan(retained("accuracy", base, 0.9, 0.25))


def test_arrays_of_replicates():
    base = np.array([[0.75], [1.0], [0.2]])
    found = retained("accuracy", base, np.array([0.25, 0.5]), 0.25)
    assert found[:2] == pytest.approx(np.array([[0.0, 0.5], [0.0, 1 / 3]]))
    assert np.isnan(found[2]).all()


def test_what_the_base_cannot_do_is_left_out():
    base = Scores({}, {"qa": share(1, 4), "lm": loss(2.0, 3.0)})
    tuned = Scores({}, {"qa": share(4, 4), "lm": loss(3.0, 4.0)})
    assert unable(base) == ["qa"]
    values = metric_values(tuned, base)
    assert "retention/qa" not in values and "retention/qa" not in worst_values(base)
    assert values["retention/mean"] == values["retention/lm"] == pytest.approx(math.exp(-1))
    nothing = Scores({}, {"qa": share(1, 4)})
    assert not [name for name in metric_values(nothing, nothing) if name.startswith("retention")]


def test_the_base_retains_itself_and_means_mix_units():
    base = Scores({}, {"qa": share(3, 4), "lm": loss(2.0, 3.0)})
    tuned = Scores({}, {"qa": share(2, 4), "lm": loss(3.0, 4.0)})
    itself = metric_values(base, base)
    assert [itself[f"retention/{name}"] for name in ("qa", "lm", "mean")] == [1.0, 1.0, 1.0]
    found = retention(base, tuned)
    mean = mean_retention(found)
    assert mean.value == pytest.approx((0.5 + math.exp(-1)) / 2)
    errors = [each.stderr for each in found.values()]
    assert mean.stderr == pytest.approx(math.hypot(*errors) / 2)
    assert worst_values(base)["retention/mean"] == 0.0


def test_the_error_of_a_share_by_hand():
    # Base 1 1 1 0, tuned 1 1 0 0, chance 1/4: r = 1/2. Residuals (y - c) - r (x - c):
    # 3/8, 3/8, -5/8, -1/8; prior, of half an item each, over (x, y) = 00, 01, 10, 11:
    # -1/8, 7/8, -5/8, 3/8. Their mean over 4 + 2 items is 1/4 / 6, b - c = 1/2.
    data, prior = np.array([3, 3, -5, -1]) / 8, np.array([-1, 7, -5, 3]) / 8
    mean = (data.sum() + prior.sum() / 2) / 6
    squares = ((data - mean) ** 2).sum() + ((prior - mean) ** 2).sum() / 2
    found = share_left(choice(1, 1, 1, 0), choice(1, 1, 0, 0))
    assert found.paired
    assert found.stderr == pytest.approx(math.sqrt(squares / (6 * 7)) / 0.5)


def test_the_error_of_nats_is_that_of_what_was_lost():
    base, tuned = loss(2.0, 4.0, 3.5, weights=[1, 3, 2]), loss(2.5, 4.2, 3.4, weights=[1, 3, 2])
    lost, found = difference(base, tuned), share_left(base, tuned)
    assert found.value == pytest.approx(math.exp(-lost.value))
    assert found.stderr == pytest.approx(found.value * lost.stderr)
    low, high = lost.interval
    assert found.interval == pytest.approx((math.exp(-high), math.exp(-low)))


def test_one_item():
    found = share_left(choice(1), choice(1))
    # Beta and Dirichlet priors leave an error: the variance over three items is (1 / 3) * 3 / 4.
    assert found.value == 1.0
    assert found.stderr == pytest.approx(math.sqrt(1 / (3 * 4)) / 0.75)
    assert all(math.isnan(bound) for bound in found.interval)
    nats = share_left(loss(2.0), loss(2.5))
    assert nats.value == pytest.approx(math.exp(-0.5))
    assert math.isnan(nats.stderr)


def test_nothing_lost_of_a_perfect_base_is_not_certain():
    low, high = share_left(share(100, 100), share(100, 100)).interval
    assert 0.95 < low < 1 < high < 1.05


def test_a_base_that_can_hardly_be_told_from_a_guess_has_no_interval():
    found = share_left(share(6, 20), share(10, 20))
    assert found.value == pytest.approx(5.0)
    assert found.interval == (-math.inf, math.inf)
    assert found.to_json()["interval"] == [None, None]


def test_other_items_are_not_paired():
    base, tuned = share(30, 40), share(20, 50)
    found = share_left(base, tuned)
    assert not found.paired
    expected = math.hypot(tuned.stderr, found.value * base.stderr) / 0.5
    assert found.stderr == pytest.approx(expected)


def simulated_share(rng, groups=None):
    """Questions of four choices; the base knows 7 in 10, of which the tuned model keeps 8 in 10."""
    knew, n = rng.random(200) < 0.7, 200
    kept = knew & (rng.random(n) < 0.8)
    guesses = rng.random(n) < 0.25
    base, tuned = choice(*(knew | guesses)), choice(*(kept | guesses))
    return share_left(base, tuned), 0.8


def simulated_nats(rng):
    hard = rng.normal(2.0, 1.0, size=50)
    after = hard + rng.normal(0.3, 0.2, size=50)
    tokens = rng.integers(5, 100, size=50).tolist()
    lost = loss(*hard, weights=tokens), loss(*after, weights=tokens)
    return share_left(*lost), math.exp(-0.3)


@pytest.mark.parametrize("simulate", [simulated_share, simulated_nats])
def test_simulated_intervals_hold_the_truth(simulate):
    found = [simulate(np.random.default_rng([number, 7])) for number in range(300)]
    held = [each.interval[0] <= truth <= each.interval[1] for each, truth in found]
    assert 0.92 <= np.mean(held) <= 0.985
    spread = np.std([each.value for each, _ in found])
    assert np.mean([each.stderr for each, _ in found]) == pytest.approx(spread, rel=0.12)
