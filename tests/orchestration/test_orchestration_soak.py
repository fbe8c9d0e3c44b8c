"""Drivers killed and jobs stopped at random moments: the end state is that without faults."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from fault_sweeps import EVERY, STEPS, FaultSweep, injected
from ray_nodes import RayNodes

pytestmark = [pytest.mark.soak, pytest.mark.cluster, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soak")
    cluster = RayNodes(folder, injected(folder / "plans"))
    try:
        cluster.add(3)
        cluster.add(4)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def free(nodes, tiny_file):
    """The sweep as it is when nothing goes wrong."""
    sweep = FaultSweep(nodes, tiny_file, "free", 12, groups=2)
    run(nodes, sweep)
    assert set(sweep.steps().values()) == {1}
    return sweep


def run(nodes, sweep):
    """Run a sweep, or what is left of it, to its end."""
    job = f"{sweep.name}-whole"
    nodes.submit(job, *sweep.tune)
    assert nodes.wait_for_job(job)["status"] == "SUCCEEDED", nodes.job_log(job)


def test_twenty_kills_of_the_driver(nodes, free, tiny_file):
    sweep = FaultSweep(nodes, tiny_file, "killed", 12)
    rng, kills = random.Random(1), 20
    for number in range(kills):
        nodes.submit(f"killed-{number}", *sweep.tune)
        sweep.wait_for_steps(sweep.total() + rng.randrange(1, 8))
        time.sleep(rng.random() / 10)
        nodes.kill_driver()
        assert nodes.wait_for_job(f"killed-{number}")["status"] == "FAILED"
    run(nodes, sweep)
    sweep.check_books({})
    sweep.check_values(free)
    repeated = sweep.total() - STEPS * len(sweep.names)
    print(f"{kills} kills, {repeated} of {sweep.total()} steps repeated")
    assert repeated <= kills * EVERY
    nodes.wait_until_clean()


def test_ten_stops_of_the_job(nodes, free, tiny_file):
    sweep = FaultSweep(nodes, tiny_file, "stopped", 12, groups=2)
    rng, stops = random.Random(2), 10
    nodes.wait_until_clean()
    shared = set(Path("/dev/shm").iterdir())
    took = []
    for number in range(stops):
        job = f"stopped-{number}"
        nodes.submit(job, *sweep.tune)
        if number % 3 == 2:
            time.sleep(rng.random() * 30)
        else:
            sweep.wait_for_steps(sweep.total() + rng.randrange(1, 15))
        begin = time.monotonic()
        nodes.stop_job(job)
        assert nodes.wait_for_job(job)["status"] == "STOPPED"
        took.append(time.monotonic() - begin)
        nodes.wait_until_clean()
        left = {each.name for each in set(Path("/dev/shm").iterdir()) - shared}
        assert not {name for name in left if not name.startswith("plasma")}
        sweep.check_none_running()
    run(nodes, sweep)
    print(f"stopped after {', '.join(f'{each:.1f}' for each in took)} s")
    sweep.check_books({})
    sweep.check_values(free)
    assert sweep.total() - STEPS * len(sweep.names) <= stops * 2 * EVERY
