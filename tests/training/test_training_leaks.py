"""Re-selections leave nothing behind, and neither does a run."""

import pytest
from footprint_cases import SHORT, reselections_job
from training_cases import STAGES

LONG, SETTLED = 200, 50


def nothing_left(found, rounds):
    assert found["rounds"] == rounds
    counts = found["counts"]
    assert len(counts) == rounds
    # The first steps start what stays: threads of the backward pass, connections.
    assert all(each == counts[3] for each in counts[3:])
    assert found["after"] == counts[3] | {"hooks": 0}
    assert len(found["alive"]) > 0
    # The model and what is below its head, and one engine with its parts.
    assert len(set(found["alive"])) == 1, found["alive"]
    assert found["alive"][0] <= 2 + 3
    # The model and its last engine are gone with the run.
    assert found["engines"] == 0


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_re_selections_leave_nothing_behind(engines, stage, ranks):
    for rank in range(ranks):
        nothing_left(engines.result(f"reselections-{ranks}", rank)[f"zero{stage}"], SHORT[ranks])


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("ranks", [1, 2])
def test_two_hundred_re_selections_take_no_more_memory(jobs, tiny_file, tmp_path, ranks):
    lives = jobs.run(tmp_path, [reselections_job(ranks, tiny_file, LONG)])
    for rank in range(ranks):
        for case, found in lives.result(f"reselections-{ranks}", rank).items():
            nothing_left(found, LONG)
            settled = found["resident"][SETTLED - 1 : -1]
            growth = max(settled) / settled[0] - 1
            print(f"{case}, rank {rank} of {ranks}: {settled[0] >> 20} MiB, {growth:+.2%}")
            assert growth < 0.01, case
