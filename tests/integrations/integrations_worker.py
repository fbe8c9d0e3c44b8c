"""One rank of torchrun: trains under DistributedDataParallel, then tries what is refused.

Started as ``torchrun integrations_worker.py JOB``; writes ``OUT/RANK.pt``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from integration_cases import BATCH, SELECTION, Recorder, draws, half, make_trainer

from hft_ray.config import ConfigError

ZERO = {
    "train_micro_batch_size_per_gpu": "auto",
    "train_batch_size": "auto",
    "gradient_accumulation_steps": "auto",
    "zero_optimization": {"stage": 1},
}


def refusal(job: dict[str, Any], **settings: Any) -> str:
    AcceleratorState._reset_state()
    try:
        make_trainer(job["model"], job["items"], job["out"], half(), **settings)
    except ConfigError as error:
        return str(error)
    return "not refused"


def main() -> None:
    job = torch.load(sys.argv[1], weights_only=False)
    torch.set_num_threads(1)
    recorder = Recorder()
    one = make_trainer(
        job["model"],
        job["items"],
        job["out"],
        half("keep_selected"),
        recorder,
        per_device_train_batch_size=BATCH // 2,
    )
    one.train()
    drawn = [set(each.parameters) for each in draws(one.model, 3, **SELECTION)]
    steps = range(len(recorder.stepped))
    refused = {
        "unused": refusal(job, ddp_find_unused_parameters=False),
        "fsdp": refusal(job, fsdp="full_shard"),
        "deepspeed": refusal(job, deepspeed=ZERO),
    }
    result = {
        "moved": [recorder.moved(step) for step in steps],
        "drawn": [drawn[step // 2] for step in steps],
        "weights": recorder.weights[-1],
        "refused": refused,
    }
    torch.save(result, Path(job["out"]) / f"{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main()
