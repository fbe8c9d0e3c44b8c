"""Averages of the base and the tuned model, uniform or by depth: :mod:`hft_ray.weight_space`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hft_ray.config import ConfigError, Problem
from hft_ray.selection import build_catalog
from hft_ray.weight_space import Shares, average_shares, depth_shares
from hft_ray.weights.blend import blend
from hft_ray.weights.model_files import ModelFiles
from hft_ray.weights.pairing import pair_all, parameters_of, shape_of


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


def average(tuned: Path, base: Path, alpha: float, out: Path, depth: float = 0.0) -> Averaged:
    """Write the model between ``base`` (alpha 0) and ``tuned`` (alpha 1) to ``out``.

    Args:
        tuned: A model directory; its files, dtype, configuration and tokenizer are kept.
        base: The model directory that it was tuned from.
        alpha: Share of the way from the base, in [0, 1].
        out: The directory to make.
        depth: Added to alpha in proportion to the depth: alpha is the share of the first layer,
            alpha + depth in [0, 1] that of the last.

    Raises:
        ConfigError: The two do not match, alpha or alpha + depth is out of range, or ``out``
            exists; with a depth also: the model's structure is not understood.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(Problem("--alpha", "must lie between 0 and 1", alpha))
    if not 0 <= alpha + depth <= 1:
        problem = f"the last layer's share, --alpha {alpha} + --depth, must lie between 0 and 1"
        raise ConfigError(Problem("--depth", problem, depth))
    models = ModelFiles(tuned, "TUNED"), ModelFiles(base, "BASE")
    pairs = pair_all(*models)
    shares = _by_depth(models[0], alpha, depth) if depth else average_shares(alpha)
    done = blend(*models, pairs, shares, out)
    elements = sum(entry.elements for entry in models[0].entries.values())
    return Averaged(len(pairs), done.changed, done.differing / max(1, elements))


def _by_depth(tuned: ModelFiles, a: float, b: float) -> Shares:
    """Return the shares of the tensors in the files; buffers are as at depth 0."""
    model = shape_of(tuned)
    depths = build_catalog(model).depths
    of = {
        name: 0.0 if parameter is None else depths[parameter]
        for name, parameter in parameters_of(tuned, model).items()
    }
    return depth_shares(a, b, of)
