"""Gradients and optimizer state take what arithmetic says of the share that is trained."""

import pytest
from footprint_cases import METHODS, PRECISIONS, RATIOS
from training_cases import STAGES


def arithmetic(stage, precision, ranks):
    """Return bytes per trained number between the backward pass and the step, on one rank.

    Gradient, two moments, and the fp32 master copy, which ZeRO 1 to 3 keep of fp32 weights too.
    Lean: two bytes each of gradient, moments and compensation; ZeRO steps on a copy, but there is
    no ZeRO 1 or 2 on one rank.
    """
    if precision == "lean":
        stage = 0 if stage < 3 and ranks == 1 else stage
        return (10 if stage else 8) / (ranks if stage else 1)
    gradient = 2 if precision == "bf16" else 4
    master = 0 if (stage, precision) == (0, "fp32") else 4
    return (gradient + 8 + master) / (ranks if stage else 1)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stage", STAGES)
def test_memory_follows_the_trained_share(engines, stage, precision, ranks):
    for rank in range(ranks):
        # One engine after the other on the same model.
        found = engines.result(f"memory-{ranks}", rank)[f"{stage}-{precision}"]
        trained = [each["trained"] for each in found]
        assert trained == sorted(trained, reverse=True)
        if precision == "fp32":
            shares = [each / trained[0] for each in trained]
            assert shares == pytest.approx(RATIOS, abs=0.06)
        for each in found:
            expected = each["trained"] * arithmetic(stage, precision, ranks)
            assert each["bytes"] == pytest.approx(expected, rel=0.05), (each, rank)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("stage", [0, 2])
@pytest.mark.parametrize("method", METHODS)
def test_lora_and_lisa_take_the_memory_of_what_they_train(engines, method, stage, ranks):
    for rank in range(ranks):
        (found,) = engines.result(f"memory-{ranks}", rank)[f"{stage}-{method}"]
        assert found["trained"] == METHODS[method][2]
        expected = found["trained"] * arithmetic(stage, "fp32", ranks)
        assert found["bytes"] == pytest.approx(expected, rel=0.05), (found, rank)
