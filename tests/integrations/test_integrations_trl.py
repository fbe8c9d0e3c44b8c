"""Half fine-tuning in TRL's SFTTrainer and DPOTrainer, across re-selections and a resume."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from integration_cases import SELECTION, Recorder, StopAfter, draws, half, losses, weights_of
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

STEPS = 4
SETTINGS = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 4,
    "learning_rate": 3e-3,
    "weight_decay": 0.1,
    "logging_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
}


def sft(model, records, out, *callbacks):
    return SFTTrainer(
        model=model,
        args=SFTConfig(str(out), **SETTINGS),
        train_dataset=Dataset.from_list(records),
        callbacks=list(callbacks),
    )


def dpo(model, records, out, *callbacks):
    answers = [record["completion"] for record in records]
    pairs = [
        {"prompt": record["prompt"], "chosen": record["completion"], "rejected": rejected}
        for record, rejected in zip(records, answers[1:] + answers[:1], strict=True)
    ]
    return DPOTrainer(
        model=model,
        args=DPOConfig(str(out), **SETTINGS),
        train_dataset=Dataset.from_list(pairs),
        callbacks=list(callbacks),
    )


@pytest.fixture
def records(tiny_file):
    return [json.loads(line) for line in Path(tiny_file["data"]["train"]).open()]


@pytest.mark.parametrize("make", [sft, dpo])
def test_exactly_what_is_drawn_moves_and_a_resume_is_exact(make, tiny_models, records, tmp_path):
    model = tiny_models["untied"]
    recorder = Recorder()
    whole = make(model, records, tmp_path / "whole", half("carry"), recorder)
    whole.train()
    expected = [set(each.parameters) for each in draws(whole.model, 2, **SELECTION)]
    for step in range(STEPS):
        assert recorder.moved(step) == expected[step // 2]
        assert recorder.stepped[step] == recorder.stateful[step] == expected[step // 2]
    assert "selection/touched_fraction" in whole.state.log_history[0]

    parts = tmp_path / "parts"
    make(model, records, parts, half("carry"), StopAfter(3)).train()
    resumed = make(model, records, parts, half("carry"))
    resumed.train(resume_from_checkpoint=True)
    assert losses(resumed) == losses(whole)
    weights = weights_of(whole.model)
    assert all(torch.equal(each, weights[name]) for name, each in weights_of(resumed.model).items())
