"""Arithmetic between a base and a tuned model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hft_ray.weight_space import (
    average_shares,
    between,
    depth_shares,
    interpolate,
    reset_shares,
    same_bits,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def pair(dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    theta0 = torch.randn(64, generator=generator)
    return (theta0 + 0.1 * torch.randn(64, generator=generator)).to(dtype), theta0.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(share=st.floats(0.01, 0.99), seed=st.integers(0, 1000))
def test_a_value_lies_on_the_line_and_is_rounded_once(dtype, share, seed):
    theta, theta0 = pair(dtype, seed)
    found = interpolate(theta, theta0, share)
    wide = torch.promote_types(dtype, torch.float32)
    expected = (theta0.to(wide) + share * (theta.to(wide) - theta0.to(wide))).to(dtype)
    assert found.dtype == dtype
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ends_are_the_two_models_to_the_bit(dtype):
    theta, theta0 = pair(dtype)
    theta[0], theta0[1] = float("nan"), -0.0
    assert same_bits(between(theta, theta0, 1), theta)
    assert same_bits(between(theta, theta0, 0), theta0)


def test_what_both_agree_on_stays_to_the_bit():
    theta = torch.tensor([float("nan"), -0.0, float("inf"), 1.0])
    assert between(theta, theta.clone(), 0.3) is theta


def test_the_models_themselves_are_not_changed():
    theta, theta0 = pair(torch.float32)
    before = theta.clone(), theta0.clone()
    between(theta, theta0, 0.5)
    assert torch.equal(theta, before[0]) and torch.equal(theta0, before[1])


def test_shares_of_an_average_and_of_a_half_reset():
    assert {average_shares(0.3)(name) for name in ("a", "b")} == {0.3}
    assert [reset_shares(["a"])(name) for name in ("a", "b")] == [0, 1]


@given(a=st.floats(0, 1), depth=st.floats(0, 1))
def test_shares_by_depth_are_uniform_to_the_bit_without_a_slope(a, depth):
    assert depth_shares(a, 0.0, {"x": depth})("x") == average_shares(a)("x")
    assert depth_shares(1.0, -1.0, {"x": depth})("x") == 1 - depth


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([0.0], [-0.0], False),
        ([float("nan")], [float("nan")], True),
        ([1.0, 2.0], [1.0, 2.0], True),
        ([1.0], [1.0, 1.0], False),
    ],
)
def test_bits_are_compared_not_values(one, other, same):
    assert same_bits(torch.tensor(one), torch.tensor(other)) is same
    assert not same_bits(torch.tensor(one), torch.tensor(one).double())
