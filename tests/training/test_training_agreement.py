"""The course of a run does not depend on ZeRO's stage, the ranks, or how a batch is cut."""

import math

import pytest
from training_cases import FULL, HALF, STAGES

RELATIVE = 1e-4


def agree(first, second):
    assert len(first) == len(second) == FULL
    assert first == pytest.approx(second, rel=RELATIVE)


@pytest.mark.parametrize("stage", STAGES)
def test_losses_agree_across_zero_stages(runs, stage):
    agree(runs.losses(f"zero{stage}"), runs.losses("zero0"))
    # Such a run goes on to learn.
    longer = runs.losses("variants-0")
    assert longer[:HALF] == runs.losses("zero0")[:HALF]
    assert longer[-1] < 0.8 * longer[0]


@pytest.mark.parametrize("stage", STAGES)
def test_gradient_norms_agree_across_zero_stages(runs, stage):
    """Each kind of optimizer measures them in its own way."""
    found = [runs.outcome(f"zero{each}")["values"]["train/grad_norm"] for each in (stage, 0)]
    assert found[0] == pytest.approx(found[1], rel=RELATIVE)
    assert found[0] > 0


@pytest.mark.parametrize("stage", STAGES)
def test_lean_states_take_the_course_of_fp32_states(runs, stage):
    lean = runs.losses(f"lean-{stage}")
    assert lean == pytest.approx(runs.losses("lean-0"), rel=RELATIVE)
    # Another beta2 and bf16's own noise are between the two.
    assert lean == pytest.approx(runs.losses("bf16-1"), rel=1e-3)
    assert lean[-1] < 0.9 * lean[0]


@pytest.mark.parametrize("stage", STAGES)
def test_losses_agree_across_one_and_two_ranks(one_rank, two_ranks, stage):
    agree(two_ranks.losses(f"zero{stage}"), one_rank.losses(f"zero{stage}"))
    agree(two_ranks.losses(f"zero{stage}"), one_rank.losses("accumulated"))


@pytest.mark.parametrize("stage", STAGES)
def test_carried_moments_agree_across_stages_and_ranks(runs, one_rank, stage):
    agree(runs.losses(f"zero{stage}-carry"), one_rank.losses("zero0-carry"))
    reset, carried = one_rank.losses("zero0"), one_rank.losses("zero0-carry")
    # The rebuilt engine's first step still sees the same weights.
    assert carried[: HALF + 1] == reset[: HALF + 1]
    assert carried[HALF + 1 :] != reset[HALF + 1 :]


def test_the_same_file_twice_gives_the_same_losses_to_the_bit(one_rank):
    assert one_rank.losses("again") == one_rank.losses("zero2")
    assert (
        one_rank.outcome("again")["values"]["task/score"]
        == (one_rank.outcome("zero2")["values"]["task/score"])
    )
    hashes = [
        [round["hash"] for round in one_rank.outcome(case)["selection"]]
        for case in ("again", "zero2")
    ]
    assert hashes[0] == hashes[1]


def test_a_longer_run_begins_like_a_shorter_one_to_the_bit(runs):
    for stage in STAGES:
        assert runs.losses(f"zero{stage}")[:HALF] == runs.losses(f"zero{stage}-half")


def test_another_seed_is_another_run(one_rank):
    assert one_rank.losses("other-seed")[0] != one_rank.losses("zero0")[0]
    one, other = (one_rank.outcome(case)["selection"][0] for case in ("zero0", "other-seed"))
    assert one["hash"] != other["hash"]


def test_checkpointed_activations_give_the_same_losses(one_rank):
    on, off = one_rank.losses("checkpointing-on"), one_rank.losses("checkpointing-off")
    assert on == pytest.approx(off, rel=1e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_passes_change_nothing(runs, one_rank, stage):
    losses = runs.losses(f"zero{stage}-passes")
    assert losses == pytest.approx(one_rank.losses("zero0-half"), rel=1e-5)


@pytest.mark.parametrize("stage", [0, 3])
def test_padding_changes_nothing(runs, one_rank, stage):
    losses = runs.losses(f"zero{stage}-padded")
    assert losses == pytest.approx(one_rank.losses("zero0-half"), rel=1e-5)


def test_passes_of_an_offloaded_optimizer_are_summed(runs, one_rank):
    losses = runs.losses("offload-passes")
    assert losses == pytest.approx(one_rank.losses("zero0-half"), rel=1e-5)


@pytest.mark.parametrize("stage", [0, 3])
def test_a_diverging_run_is_an_error_on_every_rank(runs, stage):
    result = runs.results[f"diverging-{stage}"]
    assert result["outcome"] is None
    assert len(result["errors"]) in (1, 2)
    for error in result["errors"]:
        assert "the loss became" in error
        assert "try a lower learning rate" in error
    assert all(math.isfinite(loss) for loss in result["losses"])
    assert not (runs.folder / f"diverging-{stage}").exists()
