"""Low-rank adapters: LoRA (Hu et al., arXiv 2106.09685) by peft, merged whenever a model is wanted.

Symbols: W (out, in) a weight of the base, A (r, in) and B (out, r) its adapter, s = alpha / r. In
training W x + s B A x with W frozen; merged W + s B A, as peft rounds it in the weights' type.
Trained are A and B alone, r (in + out) numbers for each W: that is the trained fraction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from hft_ray.config import Adapter, ConfigError, Problem
from hft_ray.selection import Catalog, Draw, Unit
from hft_ray.selection.fractions import Fractions, realised

_NAME = "default"


class Lora:
    """Adapters on a model, which they change in place.

    Args:
        model: The model as it was loaded, or on the meta device for its sizes alone.
        settings: The section of FILE.
        catalog: The model's units.
        seed: Seed of A.

    Attributes:
        draw: What is trained, A and B; its units are the maps that they are merged into.

    Raises:
        ConfigError: The model has no such linear maps.
    """

    def __init__(self, model: nn.Module, settings: Adapter, catalog: Catalog, seed: int) -> None:
        from peft import LoraConfig, inject_adapter_in_model  # takes seconds

        self._model: Any = model
        linear = {name for name, each in model.named_modules() if isinstance(each, nn.Linear)}
        units = tuple(
            unit
            for unit in catalog.block
            if unit.name in linear and _wanted(unit, settings.targets)
        )
        for target in settings.targets:
            if not any(_wanted(unit, [target]) for unit in units):
                problem = "names no linear map inside the layers of the model"
                raise ConfigError(Problem("adapter.targets", problem, target))
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,  # type: ignore[arg-type]
            lora_dropout=settings.dropout,
            target_modules=[unit.name for unit in units],
        )
        shape = next(model.parameters()).is_meta
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(config, model, _NAME, low_cpu_mem_usage=shape)
        self._layers: dict[str, Any] = {u.name: model.get_submodule(u.name) for u in units}
        self.draw = self._draw(catalog, units)

    def _draw(self, catalog: Catalog, units: tuple[Unit, ...]) -> Draw:
        sizes = {
            name: parameter.numel()
            for name, parameter in self._model.named_parameters()
            if ".lora_A." in name or ".lora_B." in name
        }
        names, trained = tuple(sorted(sizes)), sum(sizes.values())
        digest = sha256("\n".join(names).encode()).hexdigest()
        shares = trained / catalog.block_parameters, trained / catalog.parameters
        return Draw(0, names, units, digest, Fractions(0.0, *shares))

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Make the model one of its own kind, names included, with the adapters merged.

        Afterwards it has the base's weights again, to the bit, and the adapters beside them.
        """
        base = self._merge()
        try:
            yield
        finally:
            for name, weight in base.items():
                layer = self._layers[name]
                layer.base_layer.weight.data.copy_(weight)
                self._model.set_submodule(name, layer)

    def finish(self, catalog: Catalog) -> Draw:
        """Merge for good; return what the adapters have changed, as a draw of the plain model."""
        self._merge()
        del self._model.peft_config
        units = self.draw.units
        names = tuple(sorted(name for unit in units for name in unit.parameters))
        digest = sha256("\n".join(names).encode()).hexdigest()
        return Draw(0, names, units, digest, realised(catalog, units))

    @torch.no_grad()
    def _merge(self) -> dict[str, Tensor]:
        """Merge, and put the plain modules in place; return module -> its weight before."""
        base = {}
        for name, layer in self._layers.items():
            weight = layer.base_layer.weight.data
            base[name] = weight.to("cpu", copy=True)
            weight += layer.get_delta_weight(_NAME)
            self._model.set_submodule(name, layer.base_layer)
        return base


def _wanted(unit: Unit, targets: list[str]) -> bool:
    return unit.category in targets or unit.name.rsplit(".", 1)[-1] in targets
