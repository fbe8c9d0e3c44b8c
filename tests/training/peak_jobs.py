"""The most bytes that a step takes, counted, beside what a plan says (jobs of ``lives_worker``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from engine_jobs import RATE, Bench, answers, bench
from torch import Tensor, nn

from hft_ray.config import Config
from hft_ray.ranks import Ranks
from hft_ray.training.alive import AliveBytes
from hft_ray.training.architecture import load_shape
from hft_ray.training.models import recompute_activations
from hft_ray.training.numerics import micro_batch_size
from hft_ray.training.plan import planned_memory


def peaks(
    ranks: Ranks, root: Path, file: dict[str, Any], cases: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Measure the steps of cases, each a name and changes of FILE."""
    found = {}
    for name, changes in cases.items():
        with bench(ranks, root, file, **changes) as one:
            found[name] = {"measured": _peak(one), "planned": asdict(_planned(one))}
    return found


def _peak(one: Bench) -> int:
    """Return the most bytes of three steps on sequences of the greatest length."""
    training, size = one.config.training, one.config.data.max_length
    rows = micro_batch_size(training, one.ranks.size)
    passes = training.batch_size // (rows * one.ranks.size)
    if training.gradient_checkpointing:
        recompute_activations(one.model)
    drawn = one.draw(0)  # from a model on the meta device, which does not count
    with AliveBytes() as alive:
        alive.count(_weights(one.model))
        one.engine.select(drawn)
        ids = torch.arange(3, 3 + size).expand(rows, size).contiguous()
        batches = [{"input_ids": ids.clone(), "labels": ids} for _ in range(passes)]
        tokens = training.batch_size * size
        for _ in range(3):
            alive.reset_peak()
            one.engine.step(batches, answers, tokens, RATE)
    return alive.peak


def _weights(model: nn.Module) -> Iterator[Tensor]:
    for each in model.parameters():
        yield each.data
        if (part := getattr(each, "ds_tensor", None)) is not None:
            yield part


def _planned(one: Bench) -> Any:
    cluster = {"workers": one.ranks.size}
    config = Config.model_validate(one.config.model_dump(exclude_unset=True) | {"cluster": cluster})
    source = one.workspace.source(config.model)
    catalog = one.workspace.catalog(config.model)
    return planned_memory(config, lambda: load_shape(config.model, source), catalog, one.draw(0))
