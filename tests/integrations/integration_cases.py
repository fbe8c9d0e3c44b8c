"""A Trainer on the tiny model with this project's data in this project's order, and what it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback
from transformers import TrainingArguments as Arguments

from hft_ray.config import Data, Selection
from hft_ray.data import batch_indices, collate, prepare
from hft_ray.integrations.transformers import HalfFineTuningCallback
from hft_ray.selection import Draw, build_catalog, draw

STEPS, BATCH = 6, 8
SELECTION: dict[str, Any] = {"reselect": 2, "seed": 3}
"""Three rounds of two steps each."""
SETTINGS: dict[str, Any] = {
    "max_steps": STEPS,
    "per_device_train_batch_size": BATCH,
    "learning_rate": 3e-3,
    "lr_scheduler_type": "linear",
    "weight_decay": 0.1,
    "logging_steps": 1,
    "save_strategy": "no",
    "train_sampling_strategy": "sequential",
    "remove_unused_columns": False,
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
}


class Recorder(TrainerCallback):
    """Notes after every step what the optimizer holds, and the weights before and after."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []
        self.stepped: list[set[str]] = []
        self.decayed: list[set[str]] = []
        self.stateful: list[set[str]] = []

    def on_train_begin(self, args, state, control, *, model, **kwargs):
        self.weights = [weights_of(model)]

    def on_step_end(self, args, state, control, *, model, optimizer, **kwargs):
        names = {parameter: name for name, parameter in model.named_parameters()}
        groups = [{names[each] for each in group["params"]} for group in optimizer.param_groups]
        decays = [group["weight_decay"] > 0 for group in optimizer.param_groups]
        self.weights.append(weights_of(model))
        self.stepped.append(set().union(*groups))
        self.decayed.append(
            set().union(*(group for group, decay in zip(groups, decays, strict=True) if decay))
        )
        self.stateful.append({names[each] for each in optimizer.state})

    def moved(self, step: int) -> set[str]:
        """Return the parameters that the optimizer step ``step``, from 0, changed in any bit."""
        before, after = self.weights[step], self.weights[step + 1]
        return {name for name in before if not torch.equal(before[name], after[name])}


class StopAfter(TrainerCallback):
    """Ends or breaks a training off after a step."""

    def __init__(self, step: int, *, error: bool = False) -> None:
        self.step, self.error = step, error

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step and self.error:
            raise KeyboardInterrupt
        control.should_training_stop |= state.global_step == self.step


def weights_of(model) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in model.named_parameters()}


def draws(model, rounds: int, **selection: Any) -> list[Draw]:
    catalog = build_catalog(model)
    return [draw(catalog, Selection(**selection), number) for number in range(rounds)]


def ordered_items(file: dict[str, Any], cache) -> list[dict[str, Tensor]]:
    """Return the sequences of FILE's training data in the order in which ``hft-ray train`` goes."""
    tokenizer = AutoTokenizer.from_pretrained(file["model"])
    data = prepare(Data(**file["data"]), tokenizer, cache)
    order = [i for step in range(STEPS) for i in batch_indices(step, len(data), BATCH, seed=0)]
    return [data[index] for index in order]


def write_pairs(file: dict[str, Any], folder: Path) -> str:
    """Write FILE's records as pairs, another record's answer rejected; return the path."""
    lines = Path(file["data"]["train"]).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    answers = [record["completion"] for record in records]
    pairs = [
        {"prompt": record["prompt"], "chosen": record["completion"], "rejected": rejected}
        for record, rejected in zip(records, answers[1:] + answers[:1], strict=True)
    ]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return str(path)


def make_trainer(model_path: str, items, out, *callbacks, model=None, **settings: Any) -> Trainer:
    """Return a Trainer over ``items`` in their order."""
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    return Trainer(
        model=model or AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32),
        args=Arguments(output_dir=str(out), **(SETTINGS | settings)),
        train_dataset=items,
        eval_dataset=items[:BATCH],
        data_collator=lambda batch: collate(batch, tokenizer.pad_token_id),
        callbacks=list(callbacks),
    )


def half(moments: str = "reset", round: int = 0, **selection: Any) -> HalfFineTuningCallback:
    return HalfFineTuningCallback(SELECTION | selection, moments=moments, round=round)


def losses(trainer: Trainer) -> list[float]:
    return [each["loss"] for each in trainer.state.log_history if "loss" in each]
