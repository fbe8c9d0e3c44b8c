"""Interpolation between the base and the tuned model in weight space.

    theta(alpha) = theta0 + alpha (theta - theta0)

theta0 are the base's weights, theta the tuned model's, alpha is in [0, 1] (WiSE-FT, Wortsman et
al. 2022, arXiv 2109.01903, section 3; for the forgetting of language models: HMA, arXiv
2309.06256). Arithmetic is in fp32 (fp64 where the weights are), the result in the tuned model's
element type. Where both models agree to the bit the result does too, and so it does with the base
at alpha = 0 and with the tuned model at alpha = 1, where rounding would move a weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hft_ray.config import ConfigError, Problem
from hft_ray.weights.checkpoint import Checkpoint, in_dtype, same_bits
from hft_ray.weights.pairing import pair_all
from hft_ray.weights.writing import rewrite


@dataclass(frozen=True)
class Averaged:
    """What an interpolation did.

    Attributes:
        tensors: Tensors that were written.
        changed_tensors: Of these, how many differ from the tuned model's.
        differing_fraction: Share of the elements in tensors that tuning had changed.
    """

    tensors: int
    changed_tensors: int
    differing_fraction: float


def average(tuned: Path, base: Path, alpha: float, out: Path) -> Averaged:
    """Write the model between ``base`` (alpha 0) and ``tuned`` (alpha 1) to ``out``.

    Args:
        tuned: A model directory; its files, dtype, configuration and tokenizer are kept.
        base: The model directory that it was tuned from.
        alpha: Share of the way from the base, in [0, 1].
        out: The directory to make.

    Raises:
        ConfigError: The two do not match, alpha is out of range, or ``out`` exists.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(Problem("--alpha", "must lie between 0 and 1", alpha))
    models = Checkpoint(tuned, "TUNED"), Checkpoint(base, "BASE")
    pairs = pair_all(*models)
    tally = {"changed": 0, "differing": 0}

    def between(name: str) -> Tensor:
        theta = models[0].read(name)
        partner = pairs[name]
        if partner is None:
            return theta
        theta0 = in_dtype(models[1].read(partner), models[0].entries[name].dtype)
        if same_bits(theta, theta0):
            return theta
        mixed = interpolate(theta, theta0, alpha, name)
        tally["differing"] += theta.numel()
        tally["changed"] += not same_bits(mixed, theta)
        return mixed

    rewrite(models[0], out, between)
    elements = sum(entry.elements for entry in models[0].entries.values())
    return Averaged(len(pairs), tally["changed"], tally["differing"] / max(1, elements))


def interpolate(theta: Tensor, theta0: Tensor, alpha: float, name: str) -> Tensor:
    """Return ``theta0 + alpha (theta - theta0)`` in the element type of both.

    Raises:
        ConfigError: The tensors hold integers; between these there is nothing.
    """
    if not theta.is_floating_point():
        problem = f"holds integers that differ from the base's, and has no average: {name}"
        raise ConfigError(Problem("TUNED", problem))
    if alpha in (0, 1):
        return theta if alpha == 1 else theta0
    wide = torch.promote_types(theta.dtype, torch.float32)
    start = theta0.to(wide)
    # One new tensor, changed in place: the largest matrices are gigabytes.
    mixed = theta.to(wide, copy=True).sub_(start).mul_(alpha).add_(start)
    return mixed.to(theta.dtype)
