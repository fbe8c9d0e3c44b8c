"""A driver that is killed again and again: every planned trial once, little work twice."""

from __future__ import annotations

import random
import time

import pytest
from fault_sweeps import EVERY, STEPS, FaultSweep, cluster

pytestmark = [pytest.mark.soak, pytest.mark.cluster, pytest.mark.timeout(7200)]

TRIALS = 12
EARLY = 25
"""Seconds within which a driver dies that dies before it trains, or soon after."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("kills"), 3, 4) as nodes:
        yield nodes


def kill_drivers(sweep, kills, rng):
    """Start the sweep and kill its driver at a random moment, so many times; yield after each."""
    nodes = sweep.nodes
    for number in range(kills):
        job = f"{sweep.name}-{number}"
        nodes.submit(job, *sweep.tune)
        nodes.wait_for_driver()
        if number % 4 == 3:
            time.sleep(rng.random() * EARLY)
        else:
            sweep.wait_for_steps(sweep.total() + rng.randrange(1, STEPS), job)
            time.sleep(rng.random() / 10)
        nodes.kill_driver()
        assert nodes.wait_for_job(job)["status"] == "FAILED"
        yield number


def test_twenty_kills_change_nothing(nodes, tiny_file):
    free = FaultSweep(nodes, tiny_file, "free", TRIALS, groups=2)
    assert free.finish() == 1
    assert set(free.steps().values()) == {1}
    sweep = FaultSweep(nodes, tiny_file, "killed", TRIALS)
    kills = [*kill_drivers(sweep, 20, random.Random(1))]
    assert sweep.finish() == 1
    sweep.check_books({})
    sweep.check_values(free)
    repeated = sweep.total() - STEPS * len(sweep.names)
    print(f"{len(kills)} kills, {repeated} of {sweep.total()} steps repeated")
    # What is under way at a kill goes on from its last checkpoint.
    assert repeated <= len(kills) * EVERY
    nodes.wait_until_clean()
