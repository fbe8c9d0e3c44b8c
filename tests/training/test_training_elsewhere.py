"""A run that goes on with another number of ranks takes the course of the one that did not."""

import pytest
from training_cases import FULL, RESUMED, STAGES


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_goes_on_with_another_number_of_ranks(lives, one_rank, two_ranks, stage, ranks):
    """``ranks`` take over from the others: 2 from 1, 1 from 2."""
    case = f"zero{stage}-carry"
    expected = {1: two_ranks, 2: one_rank}[ranks]
    found = lives.result(f"elsewhere-{ranks}")[case]
    assert f"step {RESUMED} of {FULL}" in found["told"][-1]
    losses = {int(step): loss for step, loss in found["losses"].items()}
    assert list(losses) == list(range(RESUMED + 1, FULL + 1))
    assert list(losses.values()) == pytest.approx(expected.losses(case)[RESUMED:], rel=1e-4)
    ours, theirs = (each["selection"] for each in (found["outcome"], expected.outcome(case)))
    assert [each["hash"] for each in ours] == [each["hash"] for each in theirs]
