"""Runs on preference pairs: on any ranks, ZeRO stage and batch, after another stage, resumed."""

import json
import math

import pytest
import torch
from training_cases import STAGES

LOG_2 = pytest.approx(math.log(2), abs=1e-5)
"""The loss of a model that is its own reference."""


def same(first, second):
    assert len(first) == len(second)
    assert first == pytest.approx(second, rel=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_losses_agree_across_zero_stages_and_ranks(runs, one_rank, stage):
    losses = runs.losses(f"dpo-{stage}")
    same(losses, one_rank.losses("dpo-0"))
    assert losses[0] == LOG_2
    assert losses[-1] < 0.95 * losses[0]
    values = runs.outcome(f"dpo-{stage}")["values"]
    expected = one_rank.outcome("dpo-0")["values"]
    for name in ("rewards_margin", "rewards_accuracy", "rewards_chosen", "logprob_rejected"):
        assert values[f"train/{name}"] == pytest.approx(expected[f"train/{name}"], rel=1e-3)
    assert values["train/rewards_margin"] > 0


def test_losses_agree_however_pairs_are_batched(runs, one_rank):
    same(one_rank.losses("dpo-accumulated"), one_rank.losses("dpo-0"))
    same(runs.losses("dpo-padded"), one_rank.losses("dpo-0"))


def test_a_draw_by_gradients_sees_the_preference_loss(one_rank):
    assert one_rank.losses("dpo-gradient")[0] == LOG_2
    assert math.isfinite(one_rank.losses("dpo-gradient")[-1])


@pytest.mark.parametrize("stage", (0, 3))
def test_the_reference_of_a_later_stage_is_the_model_at_its_start(runs, stage):
    losses = runs.losses(f"stages-{stage}")
    assert len(losses) == 4 + 5
    assert losses[4] == LOG_2
    rounds = runs.outcome(f"stages-{stage}")["selection"]
    assert [each["step"] for each in rounds] == [0, 4]
    assert rounds[0]["hash"] != rounds[1]["hash"]


@pytest.mark.parametrize("stage", (0, 3))
def test_a_resume_within_a_later_stage_is_exact(runs, stage):
    whole, again = runs.weights(f"stages-{stage}"), runs.weights(f"stages-{stage}-again")
    assert all(torch.equal(each, again[name]) for name, each in whole.items())
    # To step 7, then from the checkpoint of step 6 on. The last scores before it, of step 4, are
    # told once more: whoever decides by them may have died before it heard.
    assert runs.results[f"stages-{stage}-again"]["reports"] == [*range(1, 8), 4, 7, 8, 9]


def test_runs_share_the_bases_reference_and_no_other(runs):
    lines = (runs.folder / "root/cache/reference/computed.jsonl").read_text().splitlines()
    keys = [json.loads(line)["key"] for line in lines]
    # All runs on the same pairs.
    assert len(keys) == 1
