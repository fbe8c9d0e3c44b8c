"""The average of the base and the tuned model; see :mod:`hft_ray.weight_space`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hft_ray.config import ConfigError, Problem
from hft_ray.weight_space import average_shares
from hft_ray.weights.blend import blend
from hft_ray.weights.model_files import ModelFiles
from hft_ray.weights.pairing import pair_all


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
    models = ModelFiles(tuned, "TUNED"), ModelFiles(base, "BASE")
    pairs = pair_all(*models)
    done = blend(*models, pairs, average_shares(alpha), out)
    elements = sum(entry.elements for entry in models[0].entries.values())
    return Averaged(len(pairs), done.changed, done.differing / max(1, elements))
