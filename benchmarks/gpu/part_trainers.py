"""The same steps in Hugging Face's Trainer."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from part_speed import CATEGORY, FULL, STEPS, WARM_UP, Work, figures, free, whole
from shapes import build, llama
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from hft_ray.config import Training
from hft_ray.data import collate
from hft_ray.selection import build_catalog
from hft_ray.training.numerics import Numerics, deepspeed_config
from hft_ray.training.process_group import local_device, process_group, start_deepspeed


class Timer(TrainerCallback):  # type: ignore[misc]
    """Times whole steps, from begin to begin."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_begin(self, *given: Any, **rest: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def rows(tiny: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each case."""
    shape, device = llama(tiny), local_device()
    work = whole(tiny)
    training = Training(batch_size=4, zero_stage=0, learning_rate=1e-5)
    numerics = Numerics.of(training, device)
    with process_group():
        start_deepspeed()
        for case in (FULL, CATEGORY):
            free()
            model = build(shape, device, numerics.dtype)
            chosen = set(case.draw(build_catalog(model)).parameters)
            for key, parameter in model.named_parameters():
                parameter.requires_grad_(key in chosen)
            seconds = _trained(model, work, training, numerics, shape.vocab_size)
            yield {"case": f"Trainer, {case.name}", **figures(seconds, work, shape)}
            del model


def _trained(
    model: nn.Module, work: Work, training: Training, numerics: Numerics, vocabulary: int
) -> list[float]:
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    steps = WARM_UP + STEPS + 1
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=len(work.lengths),
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            optim="adamw_torch_fused",
            deepspeed=deepspeed_config(training, numerics, 1, trained) | {"gradient_clipping": 1.0},
            bf16=numerics.dtype == torch.bfloat16,
            use_cpu=numerics.device.type == "cpu",
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        timer = Timer()
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=work.items(vocabulary) * steps,
            data_collator=lambda items: collate(items, 0),
            callbacks=[timer],
        )
        trainer.train()
    times = timer.times
    return [b - a for a, b in pairwise(times)][WARM_UP:]
