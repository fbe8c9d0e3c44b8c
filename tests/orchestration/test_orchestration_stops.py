"""A job that is stopped again and again: the next goes on, and nothing is left of the last."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from fault_sweeps import REPEATED, STEPS, FaultSweep, cluster
from sweep_runs import Runs

pytestmark = [pytest.mark.soak, pytest.mark.cluster, pytest.mark.timeout(7200)]

SHARED = Path("/dev/shm")
STOPS, TRIALS, EARLY = 10, 14, 30
"""The last in seconds: within that a sweep is stopped that is stopped before it trains, or soon."""


SLOW = {"what": "pause", "moment": "step", "seconds": 0.4, "times": 10_000}
"""Every step of every trial, or there would be nothing left to stop."""


def test_ten_stops_of_the_job(tiny_file, tmp_path):
    with cluster(tmp_path, 3) as nodes:
        sweep = FaultSweep(nodes, tiny_file, "stopped", TRIALS, [SLOW])
        rng, shared = random.Random(2), set(SHARED.iterdir())
        took = [stop(sweep, f"stopped-{n}", n % 3 == 2, rng, shared) for n in range(STOPS)]
        assert sweep.finish() == 1
        sweep.check_books({})
        repeated = sweep.total() - STEPS * len(sweep.names)
        print(
            f"{STOPS} stops within {sorted(took)} s, {repeated} of {sweep.total()} steps repeated"
        )
        assert repeated <= STOPS * REPEATED
        nodes.wait_until_clean()
        free = FaultSweep(nodes, tiny_file, "free", TRIALS)
        assert free.finish() == 1
        sweep.check_values(free)


def stop(sweep, job, early, rng, shared):
    """Start the job and stop it at a random moment; return the seconds from there to its end."""
    nodes = sweep.nodes
    nodes.submit(job, *sweep.tune)
    if early:
        nodes.wait_for_driver()
        time.sleep(rng.random() * EARLY)
    else:
        sweep.wait_for_steps(sweep.total() + rng.randrange(1, STEPS - 1), job)
    begin = time.monotonic()
    nodes.stop_job(job)
    assert nodes.wait_for_job(job)["status"] == "STOPPED"
    took = round(time.monotonic() - begin, 1)
    nodes.wait_until_clean()
    print(f"{job} after {took} s, nothing left after {time.monotonic() - begin:.1f} s")
    left = [each.name for each in set(SHARED.iterdir()) - shared]
    # The cluster's store keeps no name there; the others are of programs beside this test.
    assert not [name for name in left if not name.startswith(("tmp", "PostgreSQL"))]
    if sweep.total():
        runs = Runs(nodes.root, sweep.name)
        assert "RUNNING" not in {runs.parent.info.status, *runs.statuses().values()}
    return took
