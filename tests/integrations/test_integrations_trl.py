"""Half fine-tuning in TRL's SFTTrainer and DPOTrainer, across re-selections and a resume."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from integration_cases import (
    BATCH,
    SELECTION,
    Recorder,
    StopAfter,
    draws,
    half,
    losses,
    weights_of,
    write_pairs,
)
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from hft_ray.data import batch_indices

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


def sft(model, records, out, *callbacks, **settings):
    return SFTTrainer(
        model=model,
        args=SFTConfig(str(out), **(SETTINGS | settings)),
        train_dataset=Dataset.from_list(records),
        callbacks=list(callbacks),
    )


def dpo(model, records, out, *callbacks, **settings):
    return DPOTrainer(
        model=model,
        args=DPOConfig(str(out), **(SETTINGS | settings)),
        train_dataset=Dataset.from_list(records),
        callbacks=list(callbacks),
    )


def read(path):
    return [json.loads(line) for line in Path(path).open()]


@pytest.fixture
def records(tiny_file, tmp_path):
    """The records of both: for SFTTrainer, and pairs for DPOTrainer."""
    return {sft: read(tiny_file["data"]["train"]), dpo: read(write_pairs(tiny_file, tmp_path))}


@pytest.mark.parametrize("make", [sft, dpo])
def test_exactly_what_is_drawn_moves_and_a_resume_is_exact(make, tiny_models, records, tmp_path):
    model = tiny_models["untied"]
    recorder = Recorder()
    whole = make(model, records[make], tmp_path / "whole", half("keep_selected"), recorder)
    whole.train()
    expected = [set(each.parameters) for each in draws(whole.model, 2, **SELECTION)]
    for step in range(STEPS):
        assert recorder.moved(step) == expected[step // 2]
        assert recorder.stepped[step] == recorder.stateful[step] == expected[step // 2]
    assert "selection/touched_fraction" in whole.state.log_history[0]

    parts = tmp_path / "parts"
    make(model, records[make], parts, half("keep_selected"), StopAfter(3)).train()
    resumed = make(model, records[make], parts, half("keep_selected"))
    resumed.train(resume_from_checkpoint=True)
    assert losses(resumed) == losses(whole)
    weights = weights_of(whole.model)
    assert all(torch.equal(each, weights[name]) for name, each in weights_of(resumed.model).items())


@pytest.mark.parametrize(("make", "case"), [(sft, "keep_selected"), (dpo, "dpo")])
def test_losses_are_those_of_our_own_loop(make, case, own_runs, tiny_models, records, tmp_path):
    """TRL makes its own tokens of the same records, in the order of ``hft-ray train``."""
    own, count = own_runs[case]["losses"], len(records[make])
    order = [i for step in range(len(own)) for i in batch_indices(step, count, BATCH, seed=0)]
    one = make(
        AutoModelForCausalLM.from_pretrained(tiny_models["untied"], dtype=torch.float32),
        [records[make][index] for index in order],
        tmp_path,
        half("keep_selected"),
        max_steps=len(own),
        per_device_train_batch_size=BATCH,
        lr_scheduler_type="linear",
        train_sampling_strategy="sequential",
        save_strategy="no",
        max_length=96,
    )
    one.train()
    assert losses(one) == pytest.approx(own, rel=1e-4)
    assert len(set(own)) == len(own)
