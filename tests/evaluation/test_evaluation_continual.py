"""Measures of continual learning on matrices worked by hand, and on random ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hft_ray.evaluation.continual import (
    backward_transfer,
    continual,
    forgetting_measure,
    general_ability_delta,
    overall_performance,
)

# Three tasks; row 0 is the base.
R = np.array(
    [
        [0.10, 0.20, 0.30],
        [0.80, 0.25, 0.35],
        [0.70, 0.90, 0.50],
        [0.75, 0.60, 0.85],
    ]
)


def test_three_tasks_by_hand():
    found = continual(R)
    # OP_3 = (0.75 + 0.60 + 0.85) / 3
    assert found.overall_performance == pytest.approx(2.20 / 3)
    # changes since the diagonal 0.80, 0.90, 0.85: -0.05, -0.30, 0
    assert found.backward_transfer == pytest.approx(-0.35 / 3)
    assert found.backward_transfer_gem == pytest.approx(-0.35 / 2)
    # best of rows 1 and 2: 0.80 and 0.90 (not the base's)
    assert found.forgetting == pytest.approx((0.80 - 0.75 + 0.90 - 0.60) / 2)
    # R[1,2] - R[0,2] and R[2,3] - R[0,3]
    assert found.forward_transfer == pytest.approx(((0.25 - 0.20) + (0.50 - 0.30)) / 2)
    assert found.learning_accuracy == pytest.approx((0.80 + 0.90 + 0.85) / 3)


def test_after_the_second_of_three_tasks():
    assert overall_performance(R, 2) == pytest.approx((0.70 + 0.90) / 2)
    assert backward_transfer(R, 2) == pytest.approx(-0.10 / 2)
    assert backward_transfer(R, 2, gem=True) == pytest.approx(-0.10)
    assert forgetting_measure(R, 2) == pytest.approx(0.10)


def test_forgetting_is_from_the_best_score_and_not_from_the_first():
    # Task 1 rises to 0.9 after task 2 and falls to 0.6: BWT sees 0.6 - 0.8, forgetting 0.9 - 0.6.
    rising = np.array([[0, 0, 0], [0.8, 0, 0], [0.9, 0.7, 0], [0.6, 0.7, 0.5]])
    found = continual(rising)
    assert found.backward_transfer_gem == pytest.approx(-0.2 / 2)
    assert found.forgetting == pytest.approx(0.3 / 2)


def test_what_the_base_knew_and_lost_at_once_is_no_forgetting_of_the_sequence():
    # Chaudhry's maximum begins with the first trained model; the base's 1.0 does not count.
    found = continual([[1.0, 1.0], [0.5, 0.5], [0.5, 0.5]])
    assert found.forgetting == 0.0
    assert found.forward_transfer == pytest.approx(-0.5)


def test_forward_transfer_against_chance():
    found = continual(R, chance=[0.5, 0.25, 0.25])
    assert found.forward_transfer == pytest.approx(((0.25 - 0.25) + (0.50 - 0.25)) / 2)
    with pytest.raises(ValueError, match="3 numbers"):
        continual(R, chance=[0.5])


def test_one_task_has_no_transfer():
    found = continual([[0.2], [0.9]])
    assert found.overall_performance == found.learning_accuracy == 0.9
    assert found.backward_transfer == 0.0
    assert found.to_json()["backward_transfer_gem"] is None
    assert math.isnan(found.forgetting) and math.isnan(found.forward_transfer)


def test_general_ability_is_against_the_untouched_model():
    general = [[0.40, 0.60], [0.30, 0.60], [0.10, 0.50]]
    assert general_ability_delta(general) == pytest.approx([-0.05, -0.20])
    with pytest.raises(ValueError, match=r"\[T \+ 1, J\]"):
        general_ability_delta([[0.4, 0.6]])


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (1, 0), (3,)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"\[T \+ 1, T\]"):
        continual(np.zeros(shape))


@given(st.integers(2, 6).flatmap(lambda n: arrays(float, (n + 1, n), elements=st.floats(0, 1))))
def test_how_the_measures_hang_together(scores):
    found, tasks = continual(scores), scores.shape[1]
    # TRACE: OP = LA + BWT when every task has been seen.
    assert found.overall_performance == pytest.approx(
        found.learning_accuracy + found.backward_transfer
    )
    assert found.backward_transfer_gem * (tasks - 1) == pytest.approx(
        found.backward_transfer * tasks
    )
    # The best score is at least the one right after training.
    assert found.forgetting >= -found.backward_transfer_gem - 1e-12
