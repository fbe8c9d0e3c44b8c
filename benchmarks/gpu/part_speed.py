"""A 1B-shaped model: what trains how much, in tokens per second, utilisation and peak memory."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from shapes import build, flops_per_token, llama, peak_flops
from step_work import Case
from torch import nn

from hft_ray.config import Selection, Training
from hft_ray.data import collate, concatenate, on_device
from hft_ray.ranks import Ranks
from hft_ray.selection import build_catalog
from hft_ray.training.documents import by_document
from hft_ray.training.engine import Engine
from hft_ray.training.loss import answer_loss
from hft_ray.training.models import fuse
from hft_ray.training.numerics import Numerics
from hft_ray.training.objective import Loss
from hft_ray.training.process_group import local_device, process_group, start_deepspeed

Batch = dict[str, Any]
FULL = Case("full", Selection(ratio=1.0, granularity="model"))
CATEGORY = Case("half by category", Selection(ratio=0.5, granularity="category"))
LAYER = Case("half by layer", Selection(ratio=0.5, granularity="layer"))
LEAN: dict[str, Any] = {
    "precision": "bf16",
    "optimizer_states": "bf16",
    "adam_betas": (0.9, 0.99),
}
WARM_UP, STEPS = 3, 8


def answers(model: nn.Module, batch: Batch) -> Loss:
    return Loss(answer_loss(model, batch))


@dataclass(frozen=True)
class Work:
    """The documents of a step: how many tokens each has."""

    lengths: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    def items(self, vocabulary: int) -> list[dict[str, Any]]:
        random = torch.Generator().manual_seed(0)
        found = []
        for length in self.lengths:
            ids = torch.randint(3, vocabulary, (length,), generator=random).numpy()
            found.append({"input_ids": ids, "labels": ids})
        return found


def whole(tiny: bool, count: int = 4) -> Work:
    """Return documents that are all as long as the longest may be."""
    return Work((64 if tiny else 4096,) * count)


def mixed(tiny: bool, count: int = 16) -> Work:
    """Return documents of exponentially distributed lengths, a quarter of the most in the mean."""
    longest = 64 if tiny else 4096
    random = np.random.default_rng(0)
    while True:
        lengths = np.clip(random.exponential(longest / 4, count), 4, longest).astype(int)
        if abs(lengths.mean() / longest - 0.25) < 0.005:
            return Work(tuple(lengths.tolist()))


def timed(step: Callable[[], object], warm_up: int = WARM_UP, steps: int = STEPS) -> list[float]:
    """Return the seconds of each of ``steps`` steps."""
    found = []
    for number in range(warm_up + steps):
        started = clock()
        step()
        if number >= warm_up:
            found.append(clock() - started)
    return found


def clock() -> float:
    """Return the time when everything on the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def figures(seconds: list[float], work: Work, shape: Any) -> dict[str, Any]:
    """Return what a step came to; utilisation counts full fine-tuning's operations."""
    step = statistics.median(seconds)
    found: dict[str, Any] = {
        "step_seconds": round(step, 4),
        "tokens_per_second": round(work.tokens / step),
    }
    if (peak := peak_flops()) is not None:
        each = flops_per_token(shape, work.tokens // len(work.lengths))
        found["utilisation_as_if_full"] = round(each * work.tokens / step / peak, 3)
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return found


def free() -> None:
    """Give back what an earlier case left."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def measured(
    case: Case,
    work: Work,
    shape: Any,
    *,
    packed: bool = False,
    passes: int = 1,
    kernels: bool = False,
    **training: Any,
) -> dict[str, Any]:
    """Return the figures of steps on a fresh model, and of a re-selection."""
    free()
    count = len(work.lengths)
    size: dict[str, Any] = {"batch_size": count, "micro_batch_size": count // passes}
    section = Training(**size, **({"zero_stage": 0, "learning_rate": 1e-5} | training))
    device = local_device()
    numerics = Numerics.of(section, device)
    model = build(shape, device, numerics.dtype)
    if kernels:
        fuse(model)
    catalog = build_catalog(model)
    engine = Engine(model, section, numerics, Ranks())
    engine.select(case.draw(catalog, 0))
    started = clock()
    engine.select(case.draw(catalog, 1))
    selecting = clock() - started
    items = work.items(shape.vocab_size)
    parts = [items[at : at + count // passes] for at in range(0, count, count // passes)]

    def step() -> None:
        made = [concatenate(part) if packed else collate(part, 0) for part in parts]
        batches = [on_device(each, device) for each in made]
        engine.step(batches, answers, work.tokens, 1e-5)

    with by_document(model) if packed else nullcontext():
        found = figures(timed(step), work, shape)
    engine.close()
    found["reselection_steps"] = round(selecting / found["step_seconds"], 2)
    found["share"] = round(case.draw(catalog, 1).fractions.model_parameters, 3)
    return found


def rows(tiny: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each case."""
    shape, work = llama(tiny), whole(tiny)
    layers = shape.num_hidden_layers
    top = Case(
        "the top quarter of the layers", FULL.selection, tuple(range(layers * 3 // 4, layers))
    )
    with process_group():
        start_deepspeed()
        full = 0.0
        for case in (FULL, CATEGORY, LAYER, top):
            row = measured(case, work, shape)
            full = full or row["step_seconds"]
            yield {"case": case.name, **row, "of_full": round(row["step_seconds"] / full, 3)}
        for case in (FULL, CATEGORY):
            yield {"case": f"{case.name}, lean states", **measured(case, work, shape, **LEAN)}
        documents = mixed(tiny)
        packed = measured(CATEGORY, documents, shape, packed=True, **LEAN)
        padded = measured(CATEGORY, documents, shape, passes=2, **LEAN)
        yield {"case": "16 documents, packed", **packed}
        times = packed["tokens_per_second"] / padded["tokens_per_second"]
        yield {
            "case": "16 documents, padded in 2 passes",
            **padded,
            "packed_times": round(times, 2),
        }
