"""A model directory between two others, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hft_ray.config import ConfigError, Problem
from hft_ray.weight_space import Shares, interpolate, same_bits
from hft_ray.weights.model_files import ModelFiles, in_dtype
from hft_ray.weights.writing import rewrite


@dataclass
class Blended:
    """What :func:`blend` did.

    Attributes:
        changed: Tensors that differ from the tuned model's.
        differing: Numbers in the tensors that tuning had changed.
    """

    changed: int = 0
    differing: int = 0


def blend(
    tuned: ModelFiles, base: ModelFiles, pairs: Mapping[str, str | None], shares: Shares, out: Path
) -> Blended:
    """Write ``tuned`` with other values to ``out``; see :mod:`hft_ray.weight_space`.

    Args:
        tuned: Gives files, element types, configuration and tokenizer.
        base: The model that it was tuned from; its values are taken in the tuned model's type.
        pairs: Tensor of the tuned model -> its partner in the base; others stay as they are.
        shares: Tensor of the tuned model -> share of the way from the base.
        out: The directory to make.

    Raises:
        ConfigError: A tensor of integers differs and has no value in between, or ``out`` exists.
    """
    done = Blended()

    def value(name: str) -> Tensor:
        theta, partner = tuned.read(name), pairs.get(name)
        if partner is None:
            return theta
        theta0 = in_dtype(base.read(partner), tuned.entries[name].dtype)
        if same_bits(theta, theta0):
            return theta
        if not theta.is_floating_point() and shares(name) not in (0, 1):
            problem = f"holds integers that differ from the base's, and has no average: {name}"
            raise ConfigError(Problem(tuned.what, problem))
        mixed = interpolate(theta, theta0, shares(name))
        done.differing += theta.numel()
        done.changed += not same_bits(mixed, theta)
        return mixed

    rewrite(tuned, out, value)
    return done
