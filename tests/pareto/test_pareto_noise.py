"""Joint noise: what points share cancels in their difference; items and seeds are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from hft_ray.pareto import Point, merged, noise_of, seed_covariance
from hft_ray.pareto.certainty import contenders
from hft_ray.pareto.noise import Noise, joined

OBJECTIVES = {"task/score": "max", "forgetting/mean": "min"}
ONE = {"task/score": "min"}


class ItemAnswers:
    """Item scores that are known by their influence: metric -> (K,)."""

    def __init__(self, **influence):
        self._influence = {name.replace("_", "/"): np.array(x) for name, x in influence.items()}
        self.items = tuple(range(len(next(iter(self._influence.values())))))

    def influence(self, metric):
        return self._influence.get(metric)


def point(trial, values, errors=None, answers=None, configuration=None, variant=None):
    names = list(OBJECTIVES)[: len(values)]
    errors = dict(zip(names, errors or [], strict=False))
    return Point(
        *(trial, variant, None, "complete", 1, {}, dict(zip(names, values, strict=True))),
        errors,
        configuration=configuration,
        answers=answers,
    )


def test_an_error_that_items_explain_is_shared_and_the_rest_is_a_points_own():
    answers = ItemAnswers(task_score=[0.03, 0.04], forgetting_mean=[0.0, -0.02])
    noise = noise_of([point("a", (0.9, 0.1), (0.13, 0.02), answers)], OBJECTIVES)
    # A maximised objective changes sign: what makes its items better lowers the cost.
    assert noise.effects[0, :, :2].tolist() == [[-0.03, -0.04], [0.0, -0.02]]
    # What is left, 0.12^2, is half a point's own and half that of items which nobody has seen.
    assert noise.own[0] ** 2 == pytest.approx([0.0072, 0.0])
    assert noise.effects[0, :, 2:] ** 2 == pytest.approx(np.diag([0.0072, 0.0]))
    assert noise.errors[0] == pytest.approx([0.13, 0.02])


def test_without_answers_errors_are_independent():
    noise = noise_of([point("a", (0.9, 0.1), (0.1, 0.2)), point("b", (0.8, 0.1))], OBJECTIVES)
    assert noise.errors.tolist() == [[0.1, 0.2], [0.0, 0.0]]
    assert noise.difference(0, 1) == pytest.approx([0.1, 0.2])


def test_two_points_with_all_items_right_are_not_surely_equal():
    right = [point(name, (1.0,), (0.002,), ItemAnswers(task_score=[0.0, 0.0])) for name in "ab"]
    # Jeffreys's error of each, correlated by one half.
    assert noise_of(right, ONE).difference(0, 1) == pytest.approx([0.002])


def test_items_that_two_points_answer_alike_cancel_in_the_difference():
    alike = [point(name, (0.5,), (0.05,), ItemAnswers(task_score=[0.03, 0.04])) for name in "ab"]
    apart = point("c", (0.5,), (0.05,), ItemAnswers(task_score=[-0.03, -0.04]))
    noise = noise_of([*alike, apart], ONE)
    assert noise.difference(0, 1) == pytest.approx([0.0], abs=1e-9)
    assert noise.difference(0, 2) == pytest.approx([0.1])


def test_draws_have_the_covariance_of_items_seeds_and_what_is_own():
    rng = np.random.default_rng(0)
    noise = Noise(
        own=np.array([[0.1, 0.0], [0.0, 0.2], [0.0, 0.0]]),
        effects=rng.normal(0, 0.1, (3, 2, 4)),
        items=tuple("wxyz"),
        seeds=np.array([[[0.1, 0.0], [0.05, 0.1]]] * 2 + [[[0.0, 0.0], [0.0, 0.0]]]),
        configurations=("one", "one", "two"),
    )
    drawn = noise.draw(np.random.default_rng(1), 200_000).reshape(-1, 6)
    flat = noise.effects.reshape(6, 4)
    expected = flat @ flat.T + np.diag(noise.own.ravel() ** 2)
    seeds = np.concatenate(noise.seeds[:2])
    expected[:4, :4] += seeds @ seeds.T
    assert np.cov(drawn.T) == pytest.approx(expected, abs=1e-3)
    assert noise.errors.ravel() == pytest.approx(np.sqrt(np.diag(expected)))
    assert noise.take([2]).draw(np.random.default_rng(1), 2).shape == (2, 1, 2)


def test_sweeps_share_the_items_that_both_have_answered():
    def side(items):
        effects = np.arange(1.0, 1 + len(items)).reshape(1, 1, -1)
        zero = np.zeros((1, 1))
        return Noise(zero, effects, tuple(items), np.ones((1, 1, 1)), ("t0000",))

    both = joined([("a", side("xy")), ("b", side("yz"))])
    assert both.items == ("x", "y", "z")
    assert both.effects[:, 0].tolist() == [[1.0, 2.0, 0.0], [0.0, 1.0, 2.0]]
    # The first trial of one sweep has nothing to do with that of the other.
    assert both.configurations == (("a", "t0000"), ("b", "t0000"))
    assert both.difference(0, 1) == pytest.approx([np.sqrt(1 + 1 + 4 + 2)])


def seeds_of(name, scores, influences):
    return [
        point(f"{name}{k}", (score,), (float(np.linalg.norm(x)),), ItemAnswers(task_score=x), name)
        for k, (score, x) in enumerate(zip(scores, influences, strict=True))
    ]


def test_the_variance_between_seeds_is_what_items_do_not_explain():
    # Two seeds at 0.5 -+ 0.1: S = 0.02. They differ in the first item by 2 * 0.06: I = 0.0072.
    points = merged(seeds_of("c", (0.4, 0.6), ([0.06, 0.1], [-0.06, 0.1])))
    assert seed_covariance(points, ONE) == pytest.approx(np.array([[0.02 - 0.0072]]))
    noise = noise_of(points, ONE)
    assert noise.effects[0, 0] == pytest.approx([0.0, 0.1, 0.0])
    assert noise.seeds[0, 0, 0] ** 2 == pytest.approx((0.02 - 0.0072) / 2)
    # Both sources stand in the error that is shown.
    shown = points[0].errors["task/score"]
    assert shown**2 == pytest.approx(0.01 + (0.02 - 0.0072) / 2)


def test_seeds_that_differ_by_no_more_than_items_have_no_variance_of_their_own():
    points = merged(seeds_of("c", (0.49, 0.51), ([0.06, 0.1], [-0.06, 0.1])))
    assert noise_of(points, ONE).seeds[0, 0, 0] == 0
    assert points[0].errors["task/score"] == pytest.approx(0.1)


def test_more_seeds_do_not_narrow_what_they_share_with_their_items():
    """Three seeds that answer the same 300 items all right know no more than one of them."""
    seeds = [point(f"c{k}", (1.0,), (0.0023,), ItemAnswers(task_score=[0.0]), "c") for k in "012"]
    assert merged(seeds)[0].errors["task/score"] == pytest.approx(0.0023)
    # Nor without answers: 0.6 and 0.4 are the seeds' variance 0.02, beside the items' 0.1^2.
    seeds = [point(f"c{k}", (x,), (0.1,), None, "c") for k, x in enumerate((0.4, 0.6))]
    assert merged(seeds)[0].errors["task/score"] ** 2 == pytest.approx(0.01 + 0.02 / 2)
    noise = noise_of(merged(seeds), ONE)
    assert noise.errors[0, 0] == pytest.approx(merged(seeds)[0].errors["task/score"])


def test_errors_of_all_differences_are_those_of_each_pair():
    rng = np.random.default_rng(3)
    effects = rng.normal(0, 1, (4, 2, 5))
    effects[1] = effects[0]
    noise = Noise(
        own=np.array([[0.0, 0.0]] * 2 + [[0.3, 0.1]] * 2),
        effects=effects,
        items=tuple(range(5)),
        seeds=np.array([np.diag([0.2, 0.4])] * 4),
        configurations=("c", "c", "d", "e"),
    )
    found = noise.differences(slice(None), [0, 2])
    assert found.shape == (4, 2, 2)
    # Equal answers of one configuration: exactly nothing, not a rounding error.
    assert found[:2, 0].tolist() == [[0.0, 0.0]] * 2
    squares = ((effects[3] - effects[2]) ** 2).sum(axis=1)
    expected = np.sqrt(squares + 2 * np.square([0.3, 0.1]) + 2 * np.square([0.2, 0.4]))
    assert found[3, 1] == pytest.approx(expected)
    assert noise.difference(3, 2) == pytest.approx(expected)


def test_contenders_are_told_by_paired_errors_also_where_none_is_reported():
    """Items move all alike by 0.1: 0.05 behind in both is far behind; else it is not."""
    alike, other = ItemAnswers(task_score=[0.1, 0.0]), ItemAnswers(task_score=[0.0, 0.1])
    best = point("best", (0.5,), None, alike)
    behind = [point("same", (0.55,), None, alike), point("apart", (0.55,), None, other)]
    assert [p.trial for p in contenders([best, *behind], ONE)] == ["best", "apart"]
    assert [p.trial for p in contenders([point("a", (0.5,)), point("b", (0.6,))], ONE)] == ["a"]
    assert contenders([], ONE) == []


def test_a_model_and_what_is_made_of_it_share_the_noise_of_their_seed():
    trained = seeds_of("c", (0.4, 0.6), ([0.0], [0.0]))
    average = [
        point(p.trial, (0.5,), (0.0,), ItemAnswers(task_score=[0.0]), "c", "alpha-0.5")
        for p in trained
    ]
    other = seeds_of("d", (0.4, 0.6), ([0.0], [0.0]))
    noise = noise_of(merged([*trained, *average, *other]), ONE)
    assert noise.configurations == ("c", "c", "d")
    assert noise.difference(0, 1) == pytest.approx([0.0])
    assert noise.difference(0, 2)[0] > 0
