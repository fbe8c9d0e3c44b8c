"""Runs that weigh, mask or hold tokens to the base: on any ranks and ZeRO stage, and resumed."""

from __future__ import annotations

import json

import pytest
import torch
from pydantic import ValidationError
from training_cases import UNASKED, merged, start

from hft_ray.config import Config

STM = {"training.token_weights": "stm", "training.stm_perplexity": 300.0}
METHODS = {
    "dft": {"training.token_weights": "dft"},
    "eaft": {"training.token_weights": "eaft"},
    "stm": STM,
    "kl": {"training.kl_to_base": 0.5, "training.kl_top": 16},
    "asft": {
        "training.token_weights": "dft",
        "training.kl_to_base": 0.5,
        "training.kl_direction": "reverse",
    },
}
STAGES = (0, 2, 3)


def in_turn(file):
    """Return a FILE of two tasks, of 2 and 3 steps, on other examples."""
    train, texts = file["data"]["train"], file["evaluation"]["general"][0]
    few = {"train": train, "limit": 8}
    tasks = [
        {"name": "a", "data": few, "steps": 2, "evaluation": [texts]},
        {"name": "b", "data": train, "steps": 3, "evaluation": [texts]},
    ]
    general = {"general": [texts | {"name": "u"}]}
    changes = {"data": {"max_length": 48}, "tasks": tasks, "evaluation": general}
    return merged(file | changes | {"method": "continual"}, STM)


def cases(file):
    changes = {}
    for name, method in METHODS.items():
        changes[f"{name}-0"] = method | {"training.zero_stage": 0}
        for stage in STAGES[1:]:
            micro = {"training.micro_batch_size": 2, "data.packing": False}
            changes[f"{name}-{stage}"] = method | {"training.zero_stage": stage} | micro
    changes["plain"] = {}
    saved = {"training.checkpoint_every": 3}
    stopped = {"stop_at": 4, "again": True}
    changes["whole"] = STM | METHODS["kl"] | {"training.steps": 5}
    changes["again"] = changes["whole"] | saved | stopped
    found = {name: merged(file, UNASKED | each) for name, each in changes.items()}
    turn = in_turn(file)
    return found | {"turn": turn, "turn-again": merged(turn, saved | stopped)}


@pytest.fixture(scope="module")
def one(jobs, tiny_file, tmp_path_factory):
    return start(jobs, tmp_path_factory.mktemp("one"), cases(tiny_file))


@pytest.fixture(scope="module", params=[1, 2])
def runs(request, jobs, tiny_file, tmp_path_factory):
    if request.param == 1:
        return request.getfixturevalue("one")
    return start(jobs, tmp_path_factory.mktemp("two"), cases(tiny_file), ranks=2)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("method", METHODS)
def test_losses_agree_across_ranks_zero_stages_and_passes(runs, one, method, stage):
    expected = one.losses(f"{method}-0")
    assert runs.losses(f"{method}-{stage}") == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kinds", [{"method": "dpo"}, {"stages": ["sft", "dpo"]}])
def test_with_preferences_they_are_refused(tiny_file, kinds):
    file = tiny_file | kinds | {"training": {"token_weights": "eaft", "kl_to_base": 0.1}}
    if "stages" in kinds:
        file["data"] = file["data"] | {"preferences": "p.jsonl"}
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(file)
    assert {error["loc"]: error["msg"] for error in caught.value.errors()} == {
        ("training", "token_weights"): "weighs the tokens of sft; the loss of dpo is of pairs: "
        "set none",
        ("training", "kl_to_base"): "is of the tokens of sft; dpo holds the model to its reference "
        "by beta: set 0",
    }


def test_methods_train_differently(one):
    ends = [one.weights(f"{method}-0")["lm_head.weight"] for method in METHODS]
    assert not any(torch.equal(ends[n], ends[n - 1]) for n in range(len(ends)))


@pytest.mark.parametrize("method", ["dft", "eaft"])
def test_weights_and_the_loss_without_them_are_told(one, method):
    values = one.outcome(f"{method}-0")["values"]
    assert 0 < values["train/token_weight"] < 1
    assert values["train/loss"] < values["train/cross_entropy"]


def test_the_model_begins_at_the_base_and_leaves_it(one):
    first, *_ = one.losses("kl-0")
    assert first == pytest.approx(one.losses("plain")[0], rel=1e-5)
    values = one.outcome("kl-0")["values"]
    assert values["train/kl_to_base"] > 1e-3
    # What is held to the base is nearer to it.
    assert values["distance/all"] < one.outcome("plain")["values"]["distance/all"]


@pytest.mark.parametrize(("whole", "again"), [("whole", "again"), ("turn", "turn-again")])
def test_a_resume_is_exact(runs, whole, again):
    weights, others = runs.weights(whole), runs.weights(again)
    assert all(torch.equal(each, others[name]) for name, each in weights.items())


def test_each_training_set_is_asked_about_once(runs):
    lines = (runs.folder / "root/cache/reference/computed.jsonl").read_text().splitlines()
    tokens = [json.loads(line)["tokens"] for line in lines]
    # For stm, and for each kl_top; then stm of the first task, which has fewer. All of the base,
    # whatever came before.
    assert tokens[0] == tokens[1] == tokens[2] > tokens[3]
    assert len(tokens) == 4
