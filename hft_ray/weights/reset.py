"""Half-reset: put a share of a tuned model's matrices back to the base's values, untrained.

The pilot experiment of HFT (arXiv 2404.18466): a fine-tuned model whose matrices are half put back
to the pre-trained ones recovers much of the base's knowledge and loses little of the task.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hft_ray.config import Selection
from hft_ray.selection import Fractions, build_catalog, draw
from hft_ray.weight_space import reset_shares
from hft_ray.weights.blend import blend
from hft_ray.weights.model_files import ModelFiles
from hft_ray.weights.pairing import pair_all, parameters_of, shape_of


@dataclass(frozen=True)
class Reset:
    """What a half-reset did.

    Attributes:
        units: Names of the units that have the base's values.
        hash: SHA-256 of the names of their parameters, as of any selection.
        fractions: How much of the model they are.
        tensors: Tensors that were written.
        reset_tensors: Of these, how many have the base's values.
        changed_tensors: Of these, how many differ from the tuned model's.
    """

    units: tuple[str, ...]
    hash: str
    fractions: Fractions
    tensors: int
    reset_tensors: int
    changed_tensors: int


def half_reset(tuned: Path, base: Path, selection: Selection, out: Path) -> Reset:
    """Write ``tuned`` with the units that ``selection`` draws put back to ``base``.

    Args:
        tuned: A model directory; its files, dtype, configuration and tokenizer are kept.
        base: The model directory that it was tuned from. Its values are taken in the tuned
            model's element type, hence to the bit where both have the same.
        selection: What is drawn (in round 0) is reset, all else stays tuned; ``embeddings``
            "frozen" keeps what lies outside the layers, "trained" resets it.
        out: The directory to make.

    Raises:
        ConfigError: The two do not match, the model's structure or the names in its files are not
            understood, or ``out`` exists.
    """
    models = ModelFiles(tuned, "TUNED"), ModelFiles(base, "BASE")
    pairs = pair_all(*models)
    model = shape_of(models[0])
    parameter_of = parameters_of(models[0], model)
    drawn = draw(build_catalog(model), selection, 0)
    # A parameter may be made of several tensors: they go together.
    reset = {name: pairs[name] for name, of in parameter_of.items() if of in drawn.parameters}
    done = blend(*models, reset, reset_shares(reset), out)
    units = tuple(unit.name for unit in drawn.units)
    return Reset(units, drawn.hash, drawn.fractions, len(pairs), len(reset), done.changed)
