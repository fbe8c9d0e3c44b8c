"""Every class of fault, at many moments: the end state is that without faults."""

from __future__ import annotations

import pytest
from fault_sweeps import FaultSweep, cluster
from servers import MlflowServer

pytestmark = [pytest.mark.soak, pytest.mark.cluster, pytest.mark.timeout(3600)]

ALWAYS = 99
"""Times of a fault that is the trial's own."""
ALONE = [
    {"what": "nan", "trial": "t0001", "moment": "step", "step": 5, "times": ALWAYS},
    {"what": "memory", "trial": "t0002", "moment": "step", "step": 5, "times": ALWAYS},
    {"what": "data", "trial": "t0003", "moment": "step", "step": 5, "times": ALWAYS},
    {"what": "kill", "trial": "t0004", "moment": "step", "step": 0},
    {"what": "kill", "trial": "t0005", "moment": "checkpoint", "step": 7},
    # As the system does to a process whenever memory runs out.
    {"what": "kill", "trial": "t0006", "moment": "step", "step": 5, "times": ALWAYS},
    {"what": "full", "trial": "t0007", "moment": "checkpoint", "step": 3, "times": ALWAYS},
    {"what": "away", "trial": "t0008", "moment": "checkpoint", "step": 3},
    {"what": "kill", "trial": "", "moment": "front", "step": 3},
    {"what": "kill", "trial": "", "moment": "report"},
]
FAILED = {
    "t0001": "not_finite",
    "t0002": "out_of_memory",
    "t0003": "data",
    "t0006": "worker_crash",
    "t0007": "storage_full",
}
TOGETHER = [
    {"what": "kill", "trial": "t0001", "moment": "collective", "step": 5, "rank": 1},
    {"what": "kill", "trial": "t0002", "moment": "step", "step": 0, "rank": 1},
    {"what": "memory", "trial": "t0003", "moment": "step", "step": 5, "rank": 1, "times": ALWAYS},
    {"what": "kill", "trial": "t0004", "moment": "checkpoint", "step": 7},
]
HELD = [
    {"what": "hold", "trial": "t0001", "moment": "step", "step": 6, "until": "lost"},
    {"what": "hold", "trial": "t0002", "moment": "step", "step": 6, "until": "lost"},
    {"what": "hold", "trial": "t0003", "moment": "step", "step": 6, "until": "left"},
    {"what": "hold", "trial": "t0004", "moment": "step", "step": 6, "until": "left"},
]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("matrix"), 3, 4) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def free(nodes, tiny_file):
    """The sweep as it is when nothing goes wrong."""
    sweep = FaultSweep(nodes, tiny_file, "free", 8, groups=2)
    assert sweep.finish() == 1
    assert set(sweep.steps().values()) == {1}
    return sweep


def test_every_fault_of_a_trial_and_of_the_driver(nodes, free, tiny_file):
    sweep = FaultSweep(nodes, tiny_file, "faults", 8, ALONE, groups=2)
    # Killed at the front, killed at the report.
    assert sweep.finish() == 3
    runs = sweep.check_books(dict.fromkeys(FAILED, "failed"))
    assert {name: runs.trials[name].data.tags["hft_ray.fault"] for name in FAILED} == FAILED
    sweep.check_values(free, changed=list(FAILED))
    again = {"t0004": 1, "t0005": 1, "t0006": 2}
    retried = {name: ["worker_crash"] * times for name, times in again.items()}
    assert sweep.retried() == retried | {"t0008": ["storage"]}
    nodes.wait_until_clean()


def test_every_fault_of_one_rank_of_two(nodes, tiny_file):
    two = {"workers": 2, "placement": "spread"}
    free = FaultSweep(nodes, tiny_file, "free2", 4, **two)
    assert free.finish() == 1
    sweep = FaultSweep(nodes, tiny_file, "ranks", 4, TOGETHER, **two)
    assert sweep.finish() == 1
    runs = sweep.check_books({"t0003": "failed"})
    assert runs.trials["t0003"].data.tags["hft_ray.fault"] == "out_of_memory"
    sweep.check_values(free, changed=["t0003"])
    again = ("t0001", "t0002", "t0004")
    assert sweep.retried() == {name: ["worker_crash"] for name in again}
    nodes.wait_until_clean()


def test_a_tracking_server_that_is_lost_while_a_front_is_logged(nodes, free, tiny_file, tmp_path):
    server = MlflowServer(tmp_path)
    server.launch()
    try:
        server.wait()
        hold = {"what": "hold", "trial": "", "moment": "front", "step": 2, "until": "away"}
        file = {"tracking": {"uri": server.uri}}
        sweep = FaultSweep(nodes, tiny_file, "untracked", 8, [hold], file, groups=2)
        nodes.submit("untracked", *sweep.tune)
        sweep.wait_until_met(0)
        server.stop()
        (sweep.plans / "away").touch()
        nodes.wait_for_line("untracked", "t0006 started")
        server.launch()
        server.wait()
        assert nodes.wait_for_job("untracked")["status"] == "SUCCEEDED"
        sweep.check_books({})
        sweep.check_values(free)
    finally:
        server.stop()
    nodes.wait_until_clean()


def test_every_fault_of_a_node(nodes, free, tiny_file):
    sweep = FaultSweep(nodes, tiny_file, "leaving", 4, HELD, groups=2, retries=0)
    nodes.submit("leaving", *sweep.tune)
    sweep.wait_until_met(0, 1)
    nodes.kill("127.0.0.4")
    nodes.wait_for_line("leaving", "will be retried: a node was lost")
    nodes.add(5)
    (sweep.plans / "lost").touch()
    sweep.wait_until_met(2, 3)
    nodes.take_away("127.0.0.3", seconds=15)
    nodes.wait_for_line("leaving", "will be retried: a node was lost", times=2)
    nodes.add(6)
    (sweep.plans / "left").touch()
    assert nodes.wait_for_job("leaving")["status"] == "SUCCEEDED", nodes.job_log("leaving")
    sweep.check_books({})
    sweep.check_values(free)
    assert [*sweep.retried().values()] == [["node_lost"]] * 2
    nodes.wait_until_clean()
