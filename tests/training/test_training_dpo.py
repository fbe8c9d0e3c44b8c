"""Preference losses: by hand, against TRL, and however the pairs are batched."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from hft_ray.config import Data, Preferences
from hft_ray.data import prepare_pairs
from hft_ray.ranks import Ranks
from hft_ray.training.dpo import DirectPreference, preference_loss
from hft_ray.training.reference import ReferenceStore

BETA = 0.3
# TRL's sigmoid has no label smoothing. Its aot has; sorted within a batch, which of a single pair
# is nothing to sort, it is the conservative DPO loss.
LOSSES = {
    "sigmoid": ({"loss": "sigmoid"}, {"loss_type": ["sigmoid"]}),
    "smoothed": (
        {"loss": "sigmoid", "label_smoothing": 0.2},
        {"loss_type": ["aot"], "label_smoothing": 0.2},
    ),
    "ipo": ({"loss": "ipo"}, {"loss_type": ["ipo"]}),
}


@pytest.fixture(scope="module")
def records(tiny_file):
    lines = Path(tiny_file["data"]["train"]).read_text().splitlines()
    texts = [json.loads(line) for line in lines][:7]
    return [
        {"prompt": one["prompt"], "chosen": one["completion"], "rejected": other["completion"]}
        for one, other in zip(texts, texts[1:] + texts[:1], strict=True)
    ]


@pytest.fixture(scope="module")
def base(tiny_models):
    return AutoModelForCausalLM.from_pretrained(tiny_models["untied"], dtype=torch.float32)


@pytest.fixture(scope="module")
def tuned(tiny_models, tmp_path_factory):
    """The folder of a model that has moved from the base."""
    model = AutoModelForCausalLM.from_pretrained(tiny_models["untied"], dtype=torch.float32)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += 0.05 * parameter.abs().mean() * noise
    folder = tmp_path_factory.mktemp("tuned")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pairs(records, tiny_models, tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    file = root / "pairs.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["untied"])
    return prepare_pairs(Data(train=str(file), max_length=64), tokenizer, root)


def objective(pairs, base, tmp_path, settings, packed=False, batch_size=3):
    made = DirectPreference(
        Preferences(beta=BETA, **settings), pairs, 2, ReferenceStore(tmp_path), batch_size
    )
    made.begin(base, Ranks(), None, packed)
    return made


def ours(objective, folder, micros, packed=False):
    """Return loss, sums and gradients per pair, from micro-batches of these sizes."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    total, sums, first = 0.0, {}, 0
    for size in micros:
        indices = list(range(first, first + size))
        first += size
        loss = objective.loss(model, objective.batch(indices, packed))
        (loss.value / len(objective)).backward()
        total += loss.value.item() / len(objective)
        for name, value in loss.sums.items():
            sums[name] = sums.get(name, 0.0) + value.item() / len(objective)
    assert first == len(objective)
    return total, sums, {name: p.grad for name, p in model.named_parameters()}


def trls(records, folder, base, tokenizer, settings, tmp_path):
    """Return TRL's loss, metrics and gradients, means over batches of one pair."""
    from datasets import Dataset

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    trainer = DPOTrainer(
        model=model,
        ref_model=AutoModelForCausalLM.from_pretrained(base.name_or_path, dtype=torch.float32),
        args=DPOConfig(
            str(tmp_path),
            beta=BETA,
            per_device_train_batch_size=1,
            max_length=64,
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            **settings,
        ),
        train_dataset=Dataset.from_list(records),
        processing_class=tokenizer,
    )
    model.train()
    total = 0.0
    for index in range(len(records)):
        inputs = trainer.data_collator([trainer.train_dataset[index]])
        loss = trainer.compute_loss(model, inputs) / len(records)
        loss.backward()
        total += loss.item()
    metrics = {name: np.mean(values) for name, values in trainer._metrics["train"].items()}
    return total, metrics, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_rewards_and_gradients_are_trls(
    name, records, pairs, base, tuned, tiny_models, tmp_path
):
    settings, trl_settings = LOSSES[name]
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["untied"])
    loss, sums, gradients = ours(objective(pairs, base, tmp_path, settings), tuned, [7])
    expected, metrics, their_gradients = trls(
        records, tuned, base, tokenizer, trl_settings, tmp_path
    )
    assert loss == pytest.approx(expected, abs=1e-5)
    for ours_name, theirs in {
        "rewards_chosen": "rewards/chosen",
        "rewards_rejected": "rewards/rejected",
        "rewards_margin": "rewards/margins",
        "rewards_accuracy": "rewards/accuracies",
        "logprob_chosen": "logps/chosen",
        "logprob_rejected": "logps/rejected",
    }.items():
        assert sums[ours_name] == pytest.approx(metrics[theirs], abs=1e-5, rel=1e-6), ours_name
    assert abs(sums["rewards_margin"]) > 1e-3
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, their_gradients[parameter], atol=1e-5, rtol=1e-5, msg=parameter
        )


@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_and_packing_change_nothing(name, pairs, base, tuned, tmp_path):
    settings = LOSSES[name][0]
    loss, sums, gradients = ours(objective(pairs, base, tmp_path, settings), tuned, [7])
    for packed, micros in ((False, [1] * 7), (False, [3, 4]), (True, [7]), (True, [2, 5])):
        other = objective(pairs, base, tmp_path, settings, packed, batch_size=len(micros))
        again, other_sums, other_gradients = ours(other, tuned, micros, packed)
        assert again == pytest.approx(loss, abs=1e-5)
        assert other_sums == pytest.approx(sums, abs=1e-5, rel=1e-6)
        for parameter, gradient in gradients.items():
            torch.testing.assert_close(gradient, other_gradients[parameter], atol=1e-5, rtol=1e-5)


def test_a_packed_row_holds_all_sequences(pairs, base, tmp_path):
    made = objective(pairs, base, tmp_path, {}, packed=True)
    batch = made.batch([0, 1, 2], packed=True)
    assert batch["input_ids"].shape == (1, sum(made.lengths([0, 1, 2])))
    assert len(batch["cu_seq_lens_q"]) == 6 + 1
    assert len(batch["reference"]) == 3


def test_losses_by_hand():
    logprobs, reference = torch.tensor([[-3.0, -5.0]]), torch.tensor([[-4.0, -4.5]])
    lengths = torch.tensor([[2, 4]])

    def sigma(x):
        return 1 / (1 + math.exp(-x))

    def loss(**settings):
        found, rewards = preference_loss(Preferences(**settings), logprobs, reference, lengths)
        return found.item(), rewards[0].tolist()

    # Log-ratios 1 and -0.5: at beta 2 rewards 2 and -1, a margin of 3.
    assert loss(beta=2.0) == (pytest.approx(-math.log(sigma(3))), [2.0, -1.0])
    smoothed = -0.9 * math.log(sigma(3)) - 0.1 * math.log(sigma(-3))
    assert loss(beta=2.0, label_smoothing=0.1)[0] == pytest.approx(smoothed)
    # Per token 0.5 and -0.125.
    assert loss(beta=2.0, loss="ipo")[0] == pytest.approx((0.625 - 0.25) ** 2)


def test_the_reference_itself_has_no_reward(pairs, base, tmp_path):
    made = objective(pairs, base, tmp_path, {}, batch_size=7)
    loss = made.loss(base, made.batch(range(7), packed=False))
    assert loss.value.item() == pytest.approx(7 * math.log(2), abs=1e-4)
    assert loss.sums["rewards_margin"].item() == pytest.approx(0, abs=1e-4)


def test_the_bases_reference_is_asked_once(pairs, base, tuned, tmp_path):
    store = ReferenceStore(tmp_path)

    def begin(base_name, model):
        made = DirectPreference(Preferences(), pairs, 2, store, 3)
        made.begin(model, Ranks(), base_name, packed=False)
        return made.batch(range(7), packed=False)["reference"]

    moved = AutoModelForCausalLM.from_pretrained(tuned, dtype=torch.float32)
    first = begin("one", base)
    assert torch.equal(begin("one", moved), first)  # not asked
    assert not torch.equal(begin("other", moved), first)
    assert [each["pairs"] for each in store.computed] == [7, 7]
