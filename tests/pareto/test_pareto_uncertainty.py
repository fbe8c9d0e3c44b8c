"""Noise: the interval on the hypervolume covers the truth, the bias is gone, probabilities hold."""

from __future__ import annotations

import numpy as np
import pytest

from hft_ray.pareto.front import hypervolume, nondominated
from hft_ray.pareto.uncertainty import Estimate, front_probability, hypervolume_estimate


def sweep(rng, kind, points, objectives):
    """Return the true values of a simulated sweep: minimised, in the unit cube."""
    if kind == "equal":
        return np.full((points, objectives), 0.4)
    directions = np.abs(rng.standard_normal((points, objectives)))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    if kind == "on a line":
        return 1 - 0.8 * directions
    depth = 0.8 * (1 - 0.5 * rng.beta(1, 2, points))
    return 1 - depth[:, None] * directions


def simulate(kind, sweeps, objectives=2, points=24, noise=0.03):
    """Return whether each interval covers the truth, and the errors of estimate and plug-in."""
    rng = np.random.default_rng(11)
    reference = np.ones(objectives)
    covered, corrected, measured = [], [], []
    for seed in range(sweeps):
        truth = sweep(rng, kind, points, objectives)
        seen = truth + noise * rng.standard_normal(truth.shape)
        true_volume = hypervolume(truth, reference)
        found = hypervolume_estimate(seen, np.full(seen.shape, noise), reference, seed)
        low, high = found.interval()
        covered.append(low <= true_volume <= high)
        corrected.append(found.value - true_volume)
        measured.append(hypervolume(seen, reference) - true_volume)
    return np.mean(covered), np.mean(corrected), np.mean(measured)


def test_the_interval_covers_the_truth_and_the_bias_is_gone():
    covered, corrected, measured = simulate("spread", 200)
    assert 0.90 <= covered <= 0.98
    assert measured > 0.005  # the best of noisy points look better than they are
    assert abs(corrected) < measured / 3


@pytest.mark.soak
@pytest.mark.parametrize("objectives", [2, 3])
@pytest.mark.parametrize("kind", ["spread", "on a line", "equal"])
@pytest.mark.parametrize(("points", "noise"), [(10, 0.02), (24, 0.03), (50, 0.05)])
def test_the_interval_covers_the_truth_for_every_shape(kind, objectives, points, noise):
    covered, corrected, measured = simulate(kind, 200, objectives, points, noise)
    # At a true coverage of 97 % chance alone gives 99 % of 200 now and then.
    assert 0.90 <= covered <= 0.995
    assert abs(corrected) < max(measured / 3, 0.1 * noise)


def test_percentiles_of_a_bootstrap_would_not_do():
    """Why there is a correction: with equal points they miss the truth practically always."""
    rng = np.random.default_rng(0)
    truth, reference, covered = np.full((24, 2), 0.4), np.ones(2), 0
    for _ in range(20):
        seen = truth + 0.03 * rng.standard_normal(truth.shape)
        drawn = [
            hypervolume(seen + 0.03 * rng.standard_normal(truth.shape), reference)
            for _ in range(200)
        ]
        low, high = np.quantile(drawn, [0.025, 0.975])
        covered += low <= hypervolume(truth, reference) <= high
    assert covered == 0


def test_exact_values_have_an_exact_hypervolume():
    costs, reference = np.array([[0.2, 0.5], [0.5, 0.2]]), np.ones(2)
    found = hypervolume_estimate(costs, np.zeros((2, 2)), reference)
    assert found == Estimate(pytest.approx(0.8 * 0.5 + 0.3 * 0.5), 0.0)
    assert hypervolume_estimate(np.zeros((0, 2)), np.zeros((0, 2)), reference).value == 0


def test_one_noisy_point_alone_has_the_error_of_a_product():
    costs, errors = np.array([[0.5, 0.5]]), np.array([[0.01, 0.02]])
    found = hypervolume_estimate(costs, errors, np.ones(2))
    # (1 - x)(1 - y): no bias, standard error by the delta rule 0.5 * hypot(0.01, 0.02)
    assert found.value == pytest.approx(0.25, abs=0.002)
    assert found.error == pytest.approx(0.5 * np.hypot(0.01, 0.02), rel=0.25)


def test_points_far_behind_change_nothing_and_equal_exact_points_stay():
    costs, errors = np.array([[0.5, 0.5]] * 2), np.full((2, 2), [0.01, 0.0])
    far = np.concatenate([costs, [[0.9, 0.9]]]), np.concatenate([errors, [[0.01, 0.0]]])
    assert hypervolume_estimate(*far, np.ones(2)) == hypervolume_estimate(costs, errors, np.ones(2))
    assert hypervolume_estimate(costs, errors, np.ones(2)).value > 0.2


def test_the_interval_is_that_of_a_normal_distribution():
    estimate = Estimate(1.0, 0.1)
    assert estimate.interval() == pytest.approx((0.804, 1.196), abs=1e-3)
    assert estimate.interval(0.5) == pytest.approx((0.9326, 1.0674), abs=1e-3)
    assert estimate.minus(Estimate(0.5, 0.2)) == Estimate(0.5, pytest.approx(0.05**0.5))


def test_probabilities_by_hand():
    costs = np.array([[0.2, 0.5], [0.5, 0.2], [0.5, 0.5], [0.9, 0.9]])
    exact = front_probability(costs, np.zeros((4, 2)), draws=10)
    assert exact.tolist() == [1, 1, 0, 0]
    # Two points that differ by one joint standard error in one objective and are exact in the
    # other: the better one wins with probability Phi(1).
    pair, errors = np.array([[0.1, 0.5], [0.2, 0.5]]), np.array([[0.06, 0.0], [0.08, 0.0]])
    assert front_probability(pair, errors, draws=4000) == pytest.approx([0.841, 0.159], abs=0.02)
    assert front_probability(np.zeros((0, 2)), np.zeros((0, 2))).tolist() == []


def test_probabilities_hold():
    """Of the points given a probability near p about that share is on the true front."""
    rng = np.random.default_rng(4)
    given, true = [], []
    for _ in range(60):
        truth = np.clip(rng.normal(0.5, 0.12, (20, 2)), 0.05, 0.95)
        seen = truth + 0.03 * rng.standard_normal(truth.shape)
        given.append(front_probability(seen, np.full(seen.shape, 0.03), draws=200))
        true.append(nondominated(truth))
    p, on = np.concatenate(given), np.concatenate(true)
    for low, high in [(0.0, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 1.01)]:
        inside = (p >= low) & (p < high)
        assert inside.sum() > 20
        assert on[inside].mean() == pytest.approx(p[inside].mean(), abs=0.12)
