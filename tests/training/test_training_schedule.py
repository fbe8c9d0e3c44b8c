"""The learning rate: hand-worked values, and properties for every schedule."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hft_ray.config import Training
from hft_ray.training.schedule import learning_rate


def rates(total, **settings):
    training = Training(learning_rate=8.0, **settings)
    return [learning_rate(step, total, training) for step in range(total)]


def test_constant_with_warmup():
    assert rates(8, schedule="constant", warmup=0.5) == [2, 4, 6, 8, 8, 8, 8, 8]


def test_linear_falls_towards_0():
    assert rates(6, schedule="linear", warmup=0.3) == [4, 8, 8, 6, 4, 2]


def test_cosine_is_half_a_cosine():
    expected = [8 * 0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert rates(4, schedule="cosine", warmup=0.0) == pytest.approx(expected)
    assert rates(4, schedule="cosine", warmup=0.0)[2] == pytest.approx(4)


def test_the_warmup_is_rounded_up_to_whole_steps():
    assert rates(10, schedule="constant", warmup=0.11)[:3] == [4, 8, 8]
    # 0.07 x 100 is a little more than 7 in floating point.
    assert rates(100, schedule="constant", warmup=0.07)[5:7] == [8 * 6 / 7, 8]


SCHEDULES = st.sampled_from(["constant", "linear", "cosine"])


@given(SCHEDULES, st.floats(0, 0.99), st.integers(1, 60))
def test_the_rate_rises_to_its_peak_and_never_again(schedule, warmup, total):
    found = rates(total, schedule=schedule, warmup=warmup)
    top = math.ceil(Fraction(str(warmup)) * total)
    assert all(0 < rate <= 8 for rate in found)
    assert found[:top] == sorted(found[:top])
    assert found[top:] == sorted(found[top:], reverse=True)
    if top < total:
        assert found[top] == 8
