"""What a process keeps between runs: tokenizer, encoded data, evaluation items, places on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.integrations import HfDeepSpeedConfig, unset_hf_deepspeed_config

from hft_ray.config import Config, Data, EvaluationSection, Model
from hft_ray.data import PairSet, TrainingSet, prepare, prepare_pairs
from hft_ray.evaluation import BaseScores, Suite
from hft_ray.ranks import Ranks
from hft_ray.selection import Catalog, build_catalog
from hft_ray.training.architecture import load_shape
from hft_ray.training.directory import headers
from hft_ray.training.fit import check_weights
from hft_ray.training.hub import pinned_model
from hft_ray.training.models import (
    find_model,
    load_model,
    load_tokenizer,
    weights_hash,
)
from hft_ray.training.numerics import Numerics, deepspeed_config


@dataclass
class Workspace:
    """One process's place to run in, shared by all runs of the process.

    Attributes:
        root: Storage root; everything reusable lies under ``root/cache``.
        ranks: The processes that train together.
        device: This process's device.
    """

    root: Path
    ranks: Ranks
    device: torch.device
    _kept: dict[str, Any] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        """Folder of tokenised data, base scores and converted weights."""
        return self.root / "cache"

    def source(self, model: Model) -> str:
        """Return what ``from_pretrained`` takes for ``model``."""
        return self._keep("source", model, lambda: find_model(model, self.cache))

    def pinned(self, model: Model) -> Model:
        """Return ``model``, of a hub model its commit at this process's first look."""
        return self._keep("pinned", model, lambda: pinned_model(model))

    def shape(self, model: Model) -> nn.Module:
        """Return the model without weights; those of a directory are checked to be all of it."""

        def build() -> nn.Module:
            if model.architecture is not None:
                return load_shape(model, model.name)
            source = self.source(model)
            shape = load_shape(self.pinned(model), source)
            if Path(source).is_dir():
                check_weights(shape, headers(Path(source)), model.name)
            return shape

        return self._keep("shape", model, build)

    def tokenizer(self, model: Model) -> Any:
        """Return the model's tokenizer."""

        def load() -> Any:
            return load_tokenizer(self.pinned(model), self.source(model))

        return self._keep("tokenizer", model, load)

    def catalog(self, model: Model) -> Catalog:
        """Return the catalogue of the model's parameters."""

        return self._keep("catalog", model, lambda: build_catalog(self.shape(model)))

    def training_sets(self, model: Model, data: Mapping[str, Data]) -> list[TrainingSet]:
        """Return the encoded data of each setting that names some: setting -> section."""
        tokenizer = self.tokenizer(model)

        def encode() -> list[TrainingSet]:
            return [prepare(each, tokenizer, self.cache, path) for path, each in data.items()]

        return self._keep("data", (model, dict(data)), encode)

    def pair_set(self, model: Model, path: str, data: Data) -> PairSet:
        """Return the encoded preference pairs that the setting ``path`` names."""
        tokenizer = self.tokenizer(model)

        def encode() -> PairSet:
            return prepare_pairs(data, tokenizer, self.cache, path)

        return self._keep("pairs", (model, data), encode)

    def suite(self, model: Model, section: EvaluationSection) -> Suite:
        """Return the loaded evaluations."""
        tokenizer = self.tokenizer(model)
        return self._keep("suite", (model, section), lambda: Suite(section, tokenizer))

    def base_scores(self) -> BaseScores:
        """Return the store of the base models' scores."""
        return BaseScores(self.cache)

    def weights_hash(self, model: Model) -> str:
        """Return a hash of the base weights."""

        def compute() -> str:
            source = self.source(model)
            return weights_hash(source, self.pinned(model).revision, self.cache)

        return self._keep("hash", model, compute)

    @contextmanager
    def model(self, config: Config, numerics: Numerics) -> Iterator[nn.Module]:
        """Yield the base model on the device, freshly loaded; under ZeRO-3 partitioned as it loads.

        Every run loads anew: the files are in the page cache after the first, and nothing that an
        earlier run did to a module can be left behind.
        """
        chosen, source = self.pinned(config.model), self.source(config.model)
        if config.training.zero_stage < 3:
            yield load_model(chosen, source, numerics.dtype).to(numerics.device)
            return
        # How much is trained is known later, and means nothing to loading.
        settings = deepspeed_config(config.training, numerics, self.ranks.size, trained=0)
        # transformers looks at this object, while it lives, to partition what it loads; it would
        # also partition the shapes that a run builds later.
        keep = HfDeepSpeedConfig(settings)
        try:
            model = load_model(chosen, source, numerics.dtype)
        finally:
            unset_hf_deepspeed_config()
            del keep
        yield model

    def _keep(self, kind: str, key: Any, make: Any) -> Any:
        """Return the kept item of this kind if it is the one for ``key``; else make and keep it."""
        kept = self._kept.get(kind)
        if kept is None or kept[0] != key:
            self._kept[kind] = (key, make())
        return self._kept[kind][1]
