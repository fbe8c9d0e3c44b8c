"""The demo's training and scores on the GPU, beside those on a CPU of the same machine."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).resolve().parents[2] / "search_spaces" / "demo.yaml"
SCORES = ("task/new-facts", "general/old-facts")
TOLERANCE = 0.06
"""Scores of 300 answers, nine in ten of them right, have a standard error of 0.017: 2.5 times that
of a difference."""


def scored(on: str, precision: str, tiny: bool) -> dict[str, Any]:
    """Train and score in a process of its own; ``on`` is ``cpu`` or ``gpu``."""
    if on == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    from hft_ray.config import Config
    from hft_ray.training import Workspace
    from hft_ray.training.process_group import local_device, process_group, start_deepspeed
    from hft_ray.training.run import run

    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    del content["search"]
    content["selection"] |= {"ratio": 0.5, "granularity": "layer", "seed": 7}
    content["training"] |= {"steps": 150, "learning_rate": 5e-4, "precision": precision}
    if tiny:
        content["training"] |= {"steps": 2}
    started = time.monotonic()
    torch.set_num_threads(min(6, os.cpu_count() or 1))
    with tempfile.TemporaryDirectory() as folder, process_group() as ranks:
        start_deepspeed()
        workspace = Workspace(Path(folder), ranks, local_device())
        outcome = run(Config.model_validate(content), workspace, lambda *told: False)
    values = {key: outcome.values[key] for key in SCORES}
    return {
        "on": f"{on} {precision}",
        "seconds": round(time.monotonic() - started, 1),
        **values,
        "losses": {"train/loss": outcome.values["train/loss"]},
    }


def rows(tiny: bool) -> Iterator[dict[str, Any]]:
    """Yield the scores on each device, then how far they are apart."""
    import torch

    cases = [("cpu", "fp32")]
    if torch.cuda.is_available():
        cases += [("gpu", "fp32"), ("gpu", "bf16")]
    with ProcessPoolExecutor(len(cases), mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(scored, *case, tiny) for case in cases]
        cpu, *others = [each.result() for each in waiting]
    yield cpu
    for found in others:
        apart = {key: found[key] - cpu[key] for key in SCORES}
        ok = all(abs(each) <= TOLERANCE for each in apart.values())
        yield {**found, "difference": apart, "ok": ok}
