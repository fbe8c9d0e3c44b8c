"""What becomes of Adam's state at a re-selection, under every policy, stage and precision."""

import pytest
from footprint_cases import PRECISIONS
from training_cases import STAGES


@pytest.fixture(params=[1, 2])
def state(request, engines):
    """What the engines on one rank, then those on two, came to: rank by rank."""
    assert engines.codes(f"state-{request.param}") == [0] * request.param, engines.log("state")
    return [engines.result(f"state-{request.param}", rank) for rank in range(request.param)]


def kinds(precision):
    """What is kept of a parameter."""
    more = {"fp32": [], "bf16": ["master"], "lean": ["compensation"]}[precision]
    return sorted([*more, "exp_avg", "exp_avg_sq"])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stage", STAGES)
def test_selecting_the_same_set_again_changes_nothing(state, stage, precision):
    for rank in state:
        found = rank[f"same_set-{stage}-{precision}"]
        assert found["kinds"] == [*kinds(precision), "weight"]
        assert found["different"] == []
        assert found["same_steps"]
        one, other = found["losses"]
        assert len(one) == 4
        assert one == other


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stage", STAGES)
def test_moments_that_return_are_those_that_left(state, stage, precision):
    for rank in state:
        found = rank[f"stored-{stage}-{precision}"]
        assert found["kinds"] == kinds(precision)
        assert found["moved"] == found["names"] > 0
        assert found["away"] == []
        assert found["back"] == []
        # Two steps before they left; what stayed has seen the one in between too.
        assert found["steps"] == [[2], [2]]
        assert found["others"] == [3]


@pytest.mark.parametrize("policy", ["keep_selected", "keep_all"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_kept_matrix_evolves_as_under_an_optimizer_that_was_never_rebuilt(state, stage, policy):
    for rank in state:
        assert max(rank[f"reference-{stage}-{policy}"]) < 1e-6


def test_the_comparison_tells_policies_apart(engines):
    found = engines.result("state-1")
    assert max(found["reference-2-reset"]) < 1e-6
    for policy in ("reset", "keep_all"):
        assert max(found[f"other-{policy}"]) > 4e-6
