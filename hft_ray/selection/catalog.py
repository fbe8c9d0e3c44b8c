"""The catalogue: every parameter of a model in exactly one unit of selection, with its category.

A unit is one matrix (with its bias), one norm, or one 3-D tensor of experts: what is trained or
frozen as a whole (HFT, arXiv 2404.18466, selects whole parameter matrices). Fused projections
(Phi-3's qkv_proj, GPT-2's c_attn) are one unit each. Tied weights are counted once, where they
first appear, as an embedding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from hft_ray.config import ConfigError, Problem
from hft_ray.selection.anatomy import Anatomy, Category, anatomy, own_parameters, size

__all__ = ["Catalog", "CatalogError", "Category", "Unit", "build_catalog"]

_MOST_NAMES = 12


@dataclass(frozen=True)
class Unit:
    """What is selected as a whole.

    Attributes:
        name: Path of the module (of the parameter, where a module holds several experts' tensors).
        parameters: Names as in ``model.named_parameters()``.
        category: What the unit is for.
        layer: Index of its layer, from 0; None outside the layers.
        size: Number of parameters.
    """

    name: str
    parameters: tuple[str, ...]
    category: Category
    layer: int | None
    size: int


class CatalogError(ConfigError):
    """A model has parameters that cannot be classified; ``names`` holds all of them."""

    def __init__(self, reason: str, names: tuple[str, ...]) -> None:
        self.names = names
        # Layers are alike: model.layers.*.mixer.D says it once.
        patterns = list(dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".*", name) for name in names))
        more = len(patterns) - _MOST_NAMES
        listed = ", ".join(patterns[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
        super().__init__(Problem("model", f"{reason}: {listed}"))


@dataclass(frozen=True)
class Catalog:
    """All units of a model, in the order of its parameters.

    Attributes:
        units: Every parameter of the model is in exactly one of them.
        layers: Number of layers.
    """

    units: tuple[Unit, ...]
    layers: int

    @cached_property
    def block(self) -> tuple[Unit, ...]:
        """The units inside the layers."""
        return tuple(unit for unit in self.units if unit.layer is not None)

    @cached_property
    def outside(self) -> tuple[Unit, ...]:
        """The units outside the layers: embeddings, head, final norm, projections."""
        return tuple(unit for unit in self.units if unit.layer is None)

    @cached_property
    def depths(self) -> dict[str, float]:
        """Name of each parameter -> its depth: 0 for the first layer, 1 for the last.

        Outside the layers embeddings (tied ones, too) have depth 0, and all else has depth 1.
        """
        found: dict[str, float] = {}
        for unit in self.units:
            outside = 0.0 if unit.category == "embedding" else 1.0
            depth = outside if unit.layer is None else unit.layer / max(1, self.layers - 1)
            found |= dict.fromkeys(unit.parameters, depth)
        return found

    @property
    def matrices(self) -> int:
        """Number of units inside the layers."""
        return len(self.block)

    @cached_property
    def parameters(self) -> int:
        """Number of parameters of the whole model, tied weights once."""
        return sum(unit.size for unit in self.units)

    @cached_property
    def block_parameters(self) -> int:
        """Number of parameters inside the layers."""
        return sum(unit.size for unit in self.block)


def build_catalog(model: nn.Module) -> Catalog:
    """Classify every parameter of a decoder from its module structure.

    Works on the meta device and on parameters that ZeRO-3 has partitioned.

    Raises:
        CatalogError: Some parameters fit no category; it names them.
    """
    everything = tuple(name for name, _ in model.named_parameters())
    parts = anatomy(model)
    if parts is None:
        raise CatalogError("no list of layers was found that holds its parameters", everything)
    units, unknown = _units(model, parts)
    if unknown:
        raise CatalogError(
            "its structure is not understood; parameters of unknown kind", tuple(unknown)
        )
    # Without any attention nothing tells a mixer made of linear maps from a feed-forward network.
    if not any(unit.category == "attention" for unit in units):
        raise CatalogError("no attention was found in its layers, which hold", everything)
    assert sum(len(unit.parameters) for unit in units) == len(everything)
    return Catalog(tuple(units), len(set(parts.layer_of.values())))


def _units(model: nn.Module, parts: Anatomy) -> tuple[list[Unit], list[str]]:
    """Return the units and the names of the parameters that fit none."""
    units: list[Unit] = []
    unknown: list[str] = []
    for path, module, parameters in _holders(model):
        category = parts.category(module, parameters)
        names = {local: f"{path}.{local}" if path else local for local in parameters}
        if category is None:
            unknown += names.values()
            continue
        layer = parts.layer_of.get(module)
        if len(parameters) > 1 and not parameters.keys() <= {"weight", "bias"}:
            units += [
                Unit(names[local], (names[local],), category, layer, size(parameter))
                for local, parameter in parameters.items()
            ]
        else:
            count = sum(map(size, parameters.values()))
            units.append(Unit(path, tuple(names.values()), category, layer, count))
    return units, unknown


def _holders(model: nn.Module) -> Iterator[tuple[str, nn.Module, dict[str, nn.Parameter]]]:
    """Yield the modules that hold parameters, with those that no earlier module holds."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        own = own_parameters(module)
        new = {local: each for local, each in own.items() if id(each) not in seen}
        seen.update(map(id, new.values()))
        if new:
            yield path, module, new
