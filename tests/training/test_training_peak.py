"""A plan's memory against the bytes that steps were counted to take."""

import pytest
from footprint_cases import PEAKS

CASES = [(name, ranks) for ranks, names in PEAKS.items() for name in names]


@pytest.mark.parametrize(("name", "ranks"), CASES)
def test_a_plan_is_within_a_tenth_of_the_peak(peaks, name, ranks):
    for rank in range(ranks):
        found = peaks.result(f"peaks-{ranks}", rank)[name]
        planned = sum(found["planned"].values())
        assert planned == pytest.approx(found["measured"], rel=0.1), found
