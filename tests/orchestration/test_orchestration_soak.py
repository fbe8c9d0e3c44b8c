"""Everything that can die under a sweep, at many moments: the end state is that without faults."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from fault_sweeps import EVERY, STEPS, FaultSweep, injected
from ray_nodes import RayNodes

pytestmark = [pytest.mark.soak, pytest.mark.cluster, pytest.mark.timeout(7200)]

ALONE = [
    {"what": "nan", "trial": "t0001", "moment": "step", "step": 5},
    {"what": "memory", "trial": "t0002", "moment": "step", "step": 5},
    {"what": "data", "trial": "t0003", "moment": "step", "step": 5},
    {"what": "kill", "trial": "t0004", "moment": "step", "step": 0},
    {"what": "kill", "trial": "t0005", "moment": "checkpoint", "step": 7},
    # As the system does to a process whenever memory runs out.
    {"what": "kill", "trial": "t0006", "moment": "step", "step": 5, "times": 3},
    {"what": "full", "trial": "t0007", "moment": "checkpoint", "step": 3},
    {"what": "away", "trial": "t0008", "moment": "checkpoint", "step": 3},
    {"what": "hold", "trial": "t0009", "moment": "step", "step": 6, "until": "lost"},
    {"what": "hold", "trial": "t0010", "moment": "step", "step": 6, "until": "lost"},
    {"what": "hold", "trial": "t0011", "moment": "step", "step": 6, "until": "left"},
    {"what": "hold", "trial": "t0012", "moment": "step", "step": 6, "until": "left"},
    {"what": "kill", "trial": "", "moment": "front", "step": 5},
    {"what": "kill", "trial": "", "moment": "report"},
]
TOGETHER = [
    {"what": "kill", "trial": "t0001", "moment": "collective", "step": 5, "rank": 1},
    {"what": "kill", "trial": "t0002", "moment": "step", "step": 0, "rank": 1},
    {"what": "memory", "trial": "t0003", "moment": "step", "step": 5, "rank": 1},
    {"what": "kill", "trial": "t0004", "moment": "checkpoint", "step": 7},
]


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
    assert run(nodes, sweep) == 1
    assert set(sweep.steps().values()) == {1}
    return sweep


def run(nodes, sweep):
    """Run a sweep to its end, its driver started again whenever it is killed; return the starts."""
    for start in range(1, 100):
        job = f"{sweep.name}-{start}"
        nodes.submit(job, *sweep.tune)
        if nodes.wait_for_job(job, seconds=1800)["status"] == "SUCCEEDED":
            return start
        assert "failed" not in nodes.job_log(job).splitlines()[-1], nodes.job_log(job)
    raise AssertionError


def test_every_fault_of_a_trial_a_node_and_the_driver(nodes, free, tiny_file):
    sweep = FaultSweep(nodes, tiny_file, "faults", 12, ALONE, groups=2)
    nodes.submit("faults-1", *sweep.tune)
    assert nodes.wait_for_job("faults-1", seconds=1800)["status"] == "FAILED"
    nodes.submit("faults-2", *sweep.tune)
    sweep.wait_until_met(8, 9)
    nodes.kill("127.0.0.4")
    nodes.wait_for_line("faults-2", "will be started again: a node was lost")
    nodes.add(5)
    (sweep.plans / "lost").touch()
    sweep.wait_until_met(10, 11)
    nodes.take_away("127.0.0.3", seconds=15)
    nodes.wait_for_line("faults-2", "will be started again: a node was lost", times=2)
    nodes.add(6)
    (sweep.plans / "left").touch()
    assert nodes.wait_for_job("faults-2", seconds=1800)["status"] == "FAILED"
    nodes.submit("faults-3", *sweep.tune)
    assert nodes.wait_for_job("faults-3")["status"] == "SUCCEEDED", nodes.job_log("faults-3")

    failed = {
        "t0001": "not_finite",
        "t0002": "out_of_memory",
        "t0003": "data",
        "t0006": "worker_crash",
        "t0007": "storage_full",
    }
    runs = sweep.check_books(dict.fromkeys(failed, "failed"))
    assert {name: runs.trials[name].data.tags["hft_ray.fault"] for name in failed} == failed
    sweep.check_values(free, changed=list(failed))
    retried = sweep.retried()
    assert retried.pop("t0006") == ["worker_crash"] * 2
    assert retried.pop("t0004") == retried.pop("t0005") == ["worker_crash"]
    assert retried.pop("t0008") == ["storage"]
    assert set(retried) <= {"t0009", "t0010", "t0011", "t0012"}
    assert list(retried.values()) == [["node_lost"]] * 2
    nodes.wait_until_clean()


def test_every_fault_of_one_rank_of_two(nodes, tiny_file):
    two = {"workers": 2, "placement": "spread"}
    free = FaultSweep(nodes, tiny_file, "free2", 4, **two)
    assert run(nodes, free) == 1
    sweep = FaultSweep(nodes, tiny_file, "ranks", 4, TOGETHER, **two)
    assert run(nodes, sweep) == 1
    sweep.check_books({"t0003": "failed"})
    sweep.check_values(free, changed=["t0003"])
    again = ("t0001", "t0002", "t0004")
    assert sweep.retried() == {name: ["worker_crash"] for name in again}
    nodes.wait_until_clean()


def test_twenty_kills_of_the_driver(nodes, free, tiny_file):
    sweep = FaultSweep(nodes, tiny_file, "killed", 12)
    rng, kills = random.Random(1), 20
    for number in range(kills):
        nodes.submit(f"killed-{number}", *sweep.tune)
        sweep.wait_for_steps(sweep.total() + rng.randrange(1, 8))
        time.sleep(rng.random() / 10)
        nodes.kill_driver()
        assert nodes.wait_for_job(f"killed-{number}")["status"] == "FAILED"
    assert run(nodes, sweep) == 1
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
    assert run(nodes, sweep) == 1
    print(f"stopped after {', '.join(f'{each:.1f}' for each in took)} s")
    sweep.check_books({})
    sweep.check_values(free)
    assert sweep.total() - STEPS * len(sweep.names) <= stops * 2 * EVERY
