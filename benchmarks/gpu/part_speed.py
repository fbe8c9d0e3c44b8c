"""A 1B-shaped model: what trains how much, in tokens per second, utilisation and peak memory."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from shapes import build, flops_per_token, llama, peak_flops
from torch import nn

from hft_ray.config import Selection, Training
from hft_ray.data import collate
from hft_ray.ranks import Ranks
from hft_ray.selection import Catalog, Draw, build_catalog, draw
from hft_ray.training.engine import Engine, Numerics
from hft_ray.training.loss import answer_loss
from hft_ray.training.objective import Loss
from hft_ray.training.process_group import local_device, process_group, start_deepspeed

Batch = dict[str, torch.Tensor]
FULL = Selection(ratio=1.0, granularity="model")
CATEGORY = Selection(ratio=0.5, granularity="category")
LAYER = Selection(ratio=0.5, granularity="layer")
WARM_UP, STEPS = 3, 8


def answers(model: nn.Module, batch: Batch) -> Loss:
    return Loss(answer_loss(model, batch))


@dataclass(frozen=True)
class Work:
    """The documents of a step: how many tokens each has."""

    lengths: tuple[int, ...]

    def items(self, vocabulary: int) -> list[dict[str, Any]]:
        random = torch.Generator().manual_seed(0)
        found = []
        for length in self.lengths:
            ids = torch.randint(3, vocabulary, (length,), generator=random).numpy()
            found.append({"input_ids": ids, "labels": ids})
        return found


def top_layers(catalog: Catalog) -> Draw:
    """Return a draw of the top quarter of the layers."""
    from step_work import Case

    count = catalog.layers // 4
    layers = tuple(range(catalog.layers - count, catalog.layers))
    return Case("top", FULL, layers).draw(catalog)


def timed(step: Callable[[], object], warm_up: int = WARM_UP, steps: int = STEPS) -> list[float]:
    """Return the seconds of each of ``steps`` steps."""
    found = []
    for number in range(warm_up + steps):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        started = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number >= warm_up:
            found.append(time.perf_counter() - started)
    return found


def figures(seconds: list[float], tokens: int, shape: Any, length: float) -> dict[str, Any]:
    """Return what a step of ``tokens`` tokens, in documents of ``length``, came to."""
    step = statistics.median(seconds)
    found: dict[str, Any] = {
        "step_seconds": round(step, 4),
        "tokens_per_second": round(tokens / step),
    }
    if (peak := peak_flops()) is not None:
        work = flops_per_token(shape, int(length)) * tokens
        found["utilisation_as_if_full"] = round(work / step / peak, 3)
        found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return found


def free() -> None:
    """Give back what an earlier case left."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def rows(tiny: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each case."""
    shape, device = llama(tiny), local_device()
    length = 64 if tiny else 4096
    whole = Work((length,) * 4)
    training = Training(batch_size=4, zero_stage=0, learning_rate=1e-5)
    with process_group():
        start_deepspeed()
        numerics = Numerics.of(training, device)
        model = build(shape, device, numerics.dtype)
        catalog = build_catalog(model)
        draws: dict[str, Callable[[int], Draw]] = {
            "full": partial(draw, catalog, FULL),
            "half by category": partial(draw, catalog, CATEGORY),
            "half by layer": partial(draw, catalog, LAYER),
            "top quarter of the layers": lambda number: top_layers(catalog),
        }
        engine = Engine(model, training, numerics, Ranks())
        full = 0.0
        for name, drawn in draws.items():
            free()
            selects = []
            for number in range(2):
                started = time.perf_counter()
                engine.select(drawn(number))
                selects.append(time.perf_counter() - started)
            row = _measured(engine, whole, shape, device)
            full = full or row["step_seconds"]
            row |= {
                "of_full": round(row["step_seconds"] / full, 3),
                "reselection_steps": round(selects[-1] / row["step_seconds"], 2),
                "share": round(drawn(1).fractions.model_parameters, 3),
            }
            yield {"case": f"{name}, 4 x {length}", **row}
        engine.close()


def _measured(engine: Engine, work: Work, shape: Any, device: torch.device) -> dict[str, Any]:
    items = work.items(shape.vocab_size)
    tokens = sum(work.lengths)

    def step() -> None:
        batch = {key: value.to(device) for key, value in collate(items, 0).items()}
        engine.step([batch], answers, tokens, 1e-5)

    return figures(timed(step), tokens, shape, tokens / len(work.lengths))
