"""The 1B-shaped model with Liger's kernels, where they are installed (CUDA alone)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch
from part_speed import CATEGORY, FULL, LEAN, measured, whole
from shapes import llama

from hft_ray.training.process_group import process_group, start_deepspeed


def rows(tiny: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each case."""
    if not torch.cuda.is_available() or find_spec("liger_kernel") is None:
        yield {"case": "left out: needs CUDA and liger-kernel"}
        return
    with process_group():
        start_deepspeed()
        shape, work = llama(tiny), whole(tiny)
        states: dict[str, Any]
        for name, states in (("fp32 states", {}), ("lean states", LEAN)):
            full = 0.0
            for case in (FULL, CATEGORY):
                row = measured(case, work, shape, kernels=True, **states)
                full = full or row["step_seconds"]
                ratio = round(row["step_seconds"] / full, 3)
                yield {"case": f"{case.name}, {name}", **row, "of_full": ratio}
