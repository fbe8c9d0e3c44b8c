"""AdamW whose weights and moments are all bf16: what a step adds is not lost in their rounding.

A bf16 number has 8 significant bits, so most steps of fine-tuning are too small to change one.
Here every weight w has a compensation c, the part of its value that bf16 could not hold (Kahan
summation; of weights in "Revisiting BFloat16 Training", arXiv 2010.06192):

    c <- c - step         Adam's step and the weight decay
    w' <- round(w + c)    what fits
    c <- c - (w' - w)     what did not; exact

Bytes a weight: 2 for itself, 2 for its gradient, 4 for the moments, 2 for c, and none for an fp32
copy. Moments are computed in fp32 and rounded once, by torch's fused kernel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

COMPENSATION = "compensation"


class KahanAdamW(torch.optim.Optimizer):
    """AdamW over bf16 parameters with Kahan summation.

    The state of a parameter has the names and the meaning of ``torch.optim.AdamW``'s, in the
    parameter's own type, and ``compensation``.

    Args:
        params: As for any optimizer of torch.
        lr: Learning rate.
        betas: Decay rates of the moments. One above 0.995 changes less than a bf16 number can show.
        eps: Added to the root of the second moment.
        weight_decay: Decoupled weight decay.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Make a step. Its scratch space is the gradients, which are worth nothing afterwards."""
        for group in self.param_groups:
            parameters = [each for each in group["params"] if each.grad is not None]
            if not parameters:
                continue
            states = [self._state(each) for each in parameters]
            if decay := group["lr"] * group["weight_decay"]:
                for parameter, state in zip(parameters, states, strict=True):
                    state[COMPENSATION].add_(parameter, alpha=-decay)
            adamw(
                [state[COMPENSATION] for state in states],
                [each.grad for each in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=0.0,
                eps=group["eps"],
                maximize=False,
            )
            for parameter, state in zip(parameters, states, strict=True):
                _add(parameter, state[COMPENSATION], scratch=parameter.grad)

    def _state(self, parameter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for key in ("exp_avg", "exp_avg_sq", COMPENSATION):
                state[key] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state


def _add(weight: Tensor, compensation: Tensor, scratch: Tensor) -> None:
    """Add what fits of ``compensation`` to ``weight``, and keep the rest."""
    scratch.copy_(weight)
    weight.add_(compensation)
    compensation.add_(scratch.sub_(weight))
