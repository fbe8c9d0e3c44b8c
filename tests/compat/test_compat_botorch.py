"""BoTorch keeps what :mod:`hft_ray.compat.botorch` relies on."""

from __future__ import annotations

import math

import pytest
import torch

from hft_ray.compat.botorch import log_expected_excess

VERSIONS = "hft_ray/compat/botorch.py holds for BoTorch 0.18"


def excess(z):
    """Return the value and its derivative."""
    x = torch.tensor(z, dtype=torch.double, requires_grad=True)
    value = log_expected_excess(x)
    value.backward()
    return value.item(), x.grad.item()


@pytest.mark.parametrize("z", [-3.0, 0.0, 2.0, 50.0])
def test_the_expected_excess_is_what_it_says(z):
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    below = (1 + math.erf(z / math.sqrt(2))) / 2
    wanted = density + z * below
    assert excess(z) == pytest.approx((math.log(wanted), below / wanted), rel=1e-6), VERSIONS


def test_it_is_exact_where_floating_point_would_give_nothing():
    value, slope = excess(-1000.0)
    tail = -500_000 - math.log(math.sqrt(2 * math.pi)) - 2 * math.log(1000)
    assert (value, slope) == pytest.approx((tail, 1000), rel=1e-4), VERSIONS
