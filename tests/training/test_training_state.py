"""What becomes of Adam's state at a re-selection, under every policy, stage and precision."""

import pytest
from footprint_cases import HELD
from training_cases import STAGES


@pytest.fixture
def state(engines):
    """What the engines on so many ranks came to: rank by rank."""

    def of(ranks):
        assert engines.codes(f"state-{ranks}") == [0] * ranks, engines.log(f"state-{ranks}")
        return [engines.result(f"state-{ranks}", rank) for rank in range(ranks)]

    return of


held = pytest.mark.parametrize(
    ("ranks", "stage", "precision"), [(ranks, *each) for ranks in HELD for each in HELD[ranks]]
)


def kinds(precision):
    """What is kept of a parameter."""
    more = {"fp32": [], "bf16": ["master"], "lean": ["compensation"]}[precision]
    return sorted([*more, "exp_avg", "exp_avg_sq"])


@held
def test_selecting_the_same_set_again_changes_nothing(state, ranks, stage, precision):
    for rank in state(ranks):
        found = rank[f"same_set-{stage}-{precision}"]
        assert found["kinds"] == [*kinds(precision), "weight"]
        assert found["different"] == []
        assert found["same_steps"]
        one, other = found["losses"]
        assert len(one) == 4
        assert one == other


@held
def test_moments_that_return_are_those_that_left(state, ranks, stage, precision):
    for rank in state(ranks):
        found = rank[f"stored-{stage}-{precision}"]
        assert found["kinds"] == kinds(precision)
        assert found["moved"] == found["names"] > 0
        assert found["away"] == []
        assert found["back"] == []
        # Two steps before they left; what stayed has seen the one in between too.
        assert found["steps"] == [[2], [2]]
        assert found["others"] == [3]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("policy", ["keep_selected", "keep_all"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_kept_matrix_evolves_as_under_an_optimizer_that_was_never_rebuilt(
    state, ranks, stage, policy
):
    for rank in state(ranks):
        assert max(rank[f"reference-{stage}-{policy}"]) < 1e-6


def test_the_comparison_tells_policies_apart(engines):
    found = engines.result("state-1")
    assert max(found["reference-2-reset"]) < 1e-6
    for policy in ("reset", "keep_all"):
        assert max(found[f"other-{policy}"]) > 4e-6
