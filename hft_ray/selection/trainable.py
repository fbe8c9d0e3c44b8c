"""Apply a draw to a model."""

from __future__ import annotations

from torch import nn

from hft_ray.selection.draw import Draw


def apply(model: nn.Module, draw: Draw) -> None:
    """Make exactly the drawn parameters of ``model`` trainable and drop all other gradients.

    Gradients are dropped, not zeroed: momentum and weight decay would move a parameter whose
    gradient is zero. An optimizer or engine built before must be built anew.

    Raises:
        ValueError: The draw names parameters that the model does not have.
    """
    parameters = dict(model.named_parameters())
    drawn = set(draw.parameters)
    missing = sorted(drawn - parameters.keys())
    if missing:
        raise ValueError(f"the draw is of another model: this one lacks {', '.join(missing[:5])}")
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in drawn)
        if name not in drawn:
            parameter.grad = None
