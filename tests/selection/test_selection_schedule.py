"""Steps to rounds, by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from hft_ray.selection import Schedule


@pytest.mark.parametrize(
    ("reselect", "rounds"),
    [
        ("never", [0, 0, 0, 0, 0, 0, 0, 0]),
        ("task", [0, 0, 0, 0, 0, 0, 0, 0]),
        ("epoch", [0, 0, 0, 1, 1, 1, 2, 2]),
        (2, [0, 0, 1, 1, 2, 2, 3, 3]),
        (1, [0, 1, 2, 3, 4, 5, 6, 7]),
        (100, [0, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_rounds_of_eight_steps_in_epochs_of_three(reselect: str | int, rounds: list[int]):
    schedule = Schedule(reselect, steps_per_epoch=3)
    assert [schedule.round_of(step) for step in range(8)] == rounds
    starts = [step for step in range(8) if schedule.starts_round(step)]
    assert starts == [rounds.index(each) for each in sorted(set(rounds))]


@pytest.mark.parametrize(
    ("steps_per_epoch", "rounds"),
    [
        # 10 examples in batches of 4: the epochs' first examples are in batches 0, 2, 5 and 7.
        (Fraction(10, 4), [0, 0, 0, 1, 1, 2, 2, 2, 3]),
        (Fraction(8, 8), [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        # 3 examples in batches of 8: several epochs in each step.
        (Fraction(3, 8), [0, 1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_epochs_that_end_within_a_step(steps_per_epoch: Fraction, rounds: list[int]):
    schedule = Schedule("epoch", steps_per_epoch)
    assert [schedule.round_of(step) for step in range(9)] == rounds
