"""A 7B-shaped model, half of it trained, on one card: does it fit, and how fast is it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from part_speed import CATEGORY, LEAN, answers, figures, free, timed, whole
from shapes import build, qwen

from hft_ray.config import Training
from hft_ray.data import collate
from hft_ray.ranks import Ranks
from hft_ray.selection import build_catalog
from hft_ray.training.engine import Engine
from hft_ray.training.models import recompute_activations
from hft_ray.training.numerics import Numerics
from hft_ray.training.process_group import local_device, process_group, start_deepspeed

LIMIT_GIB = 72


def rows(tiny: bool) -> Iterator[dict[str, Any]]:
    """Yield the figures of one configuration."""
    shape, device = qwen(tiny), local_device()
    work = whole(tiny, 2)
    training = Training(
        batch_size=2, zero_stage=0, learning_rate=1e-5, gradient_checkpointing=True, **LEAN
    )
    with process_group():
        start_deepspeed()
        free()
        numerics = Numerics.of(training, device)
        model = build(shape, device, numerics.dtype)
        recompute_activations(model)
        catalog = build_catalog(model)
        engine = Engine(model, training, numerics, Ranks())
        drawn = CATEGORY.draw(catalog, 0)
        yield {"what": "weights", "parameters": catalog.parameters, **_memory()}
        engine.select(drawn)
        yield {"what": "engine", "share": drawn.fractions.model_parameters, **_memory()}
        items = work.items(shape.vocab_size)
        batch = {key: value.to(device) for key, value in collate(items, 0).items()}
        seconds = timed(lambda: engine.step([batch], answers, work.tokens, 1e-5), 2, 4)
        row = figures(seconds, work, shape)
        yield {"what": "steps", **row, **_memory()}
        started = time.perf_counter()
        engine.select(CATEGORY.draw(catalog, 1))
        if device.type == "cuda":
            torch.cuda.synchronize()
        took = time.perf_counter() - started
        found = {"what": "re-selection", "steps": round(took / row["step_seconds"], 2), **_memory()}
        if device.type == "cuda":
            found["ok"] = found["steps"] <= 1 and found["peak_gib"] <= LIMIT_GIB
        yield found
        engine.close()


def _memory() -> dict[str, Any]:
    if not torch.cuda.is_available():
        return {"peak_gib": None}
    now, peak = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    return {"now_gib": round(now / 2**30, 2), "peak_gib": round(peak / 2**30, 2)}
