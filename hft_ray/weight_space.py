"""Arithmetic between the weights of a base and of a model that was tuned from it.

    theta(s) = theta0 + s (theta - theta0)

theta0 are the base's weights, theta the tuned ones, s in [0, 1] is a share of the way, one for each
parameter. Each combination of the two is described by its shares:

    average      s = alpha everywhere        WiSE-FT (Wortsman et al., arXiv 2109.01903, section 3);
                                             against forgetting HMA (arXiv 2309.06256)
    depth        s = a + b d, where d is 0 for   LiNeS (arXiv 2410.17146, section 4), with b of
                 the first layer and 1 for the   either sign; with b = 0 it is the average of a
                 last, see Catalog.depths
    half-reset   s = 0 for what is reset,    HFT's pilot experiment (arXiv 2404.18466)
                 1 for all else
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

Shares = Callable[[str], float]
"""Name of a parameter -> share of the way from the base's value to the tuned one."""


def average_shares(alpha: float) -> Shares:
    """Return the shares of the average of ``alpha``, between the base (0) and the tuned model."""
    return lambda name: alpha


def depth_shares(a: float, b: float, depths: Mapping[str, float]) -> Shares:
    """Return the shares a + b d.

    Args:
        a: Share at depth 0, in [0, 1].
        b: What is added to it on the way to depth 1; a + b is in [0, 1] too.
        depths: Name of a parameter -> its depth d.
    """
    return lambda name: a + b * depths[name]


def reset_shares(reset: Iterable[str]) -> Shares:
    """Return the shares that give the parameters ``reset`` the base's values, and no others."""
    names = frozenset(reset)
    return lambda name: 0.0 if name in names else 1.0


def between(theta: Tensor, theta0: Tensor, share: float) -> Tensor:
    """Return :func:`interpolate`, or what both agree on: where they do, rounding moves nothing."""
    return theta if same_bits(theta, theta0) else interpolate(theta, theta0, share)


def interpolate(theta: Tensor, theta0: Tensor, share: float) -> Tensor:
    """Return ``theta0 + share (theta - theta0)`` in the element type of both.

    Arithmetic is in fp32 (fp64 where the weights are). At ``share`` 0 and 1 the result is the base
    or the tuned value to the bit, where rounding would move it.

    Args:
        theta: The tuned values, in floating point unless ``share`` is 0 or 1.
        theta0: The base's values, of the same type and shape.
        share: Of the way from the base.

    Returns:
        A new tensor, or one of the two as it is.
    """
    if share in (0, 1):
        return theta if share == 1 else theta0
    wide = torch.promote_types(theta.dtype, torch.float32)
    start = theta0.to(wide)
    # One new tensor, changed in place: the largest matrices are gigabytes.
    mixed = theta.to(wide, copy=True).sub_(start).mul_(share).add_(start)
    return mixed.to(theta.dtype)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are equal to the bit: 0 is not -0, and a NaN equals itself."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(as_bytes(one), as_bytes(other))


def as_bytes(tensor: Tensor) -> Tensor:
    """Return the memory of a tensor as a flat tensor of uint8, without a copy where it can."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)
