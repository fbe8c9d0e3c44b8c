"""The penalty of L2-SP: what is trained is drawn towards the base.

(lambda / 2) ||theta - theta0||^2 over the trained parameters, beside the mean loss per unit (Xuhong
Li, Grandvalet, Davoine, "Explicit inductive bias for transfer learning with convolutional
networks", arXiv 1802.01483, equation 3; its second term is for new layers, which do not occur
here). It is a part of the loss, so its gradient is clipped and scaled by Adam with the rest. Weight
decay is not a part of the loss, and draws towards zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class _HalfSquare(torch.autograd.Function):
    """Half the squared distance, without a copy of the difference that lasts till backward."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, base: Tensor) -> Tensor:
        ctx.save_for_backward(theta, base)
        return (theta.float() - base.float()).square().sum() / 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        theta, base = ctx.saved_tensors
        return (gradient * (theta.float() - base.float())).to(theta.dtype), None


def half_square(pairs: Iterable[tuple[nn.Parameter, Tensor]]) -> Tensor:
    """Return half the squared L2 distance of parameters from other values, a scalar in fp32."""
    parts = [_HalfSquare.apply(theta, base) for theta, base in pairs]
    return torch.stack(parts).sum()
