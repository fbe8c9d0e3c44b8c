"""A cluster of three nodes that loses one and gets another, while trials meet faults."""

from __future__ import annotations

import pytest
from fault_sweeps import EVERY, REPEATED, STEPS, FaultSweep, injected
from ray_nodes import CONTROLLING, RayNodes

pytestmark = [pytest.mark.soak, pytest.mark.cluster, pytest.mark.timeout(3600)]

FAULTS = [
    {"what": "memory", "trial": "t0001", "moment": "step", "step": 2},
    {"what": "kill", "trial": "t0002", "moment": "checkpoint", "step": 7},
    {"what": "hold", "trial": "t0003", "moment": "step", "step": 6, "until": "lost"},
    {"what": "hold", "trial": "t0004", "moment": "step", "step": 6, "until": "lost"},
]


@pytest.fixture(scope="module")
def swept(tiny_file, tmp_path_factory):
    """A sweep on two groups by ``ray job submit``: of the nodes that train the last is lost."""
    folder = tmp_path_factory.mktemp("nodes")
    nodes = RayNodes(folder, injected(folder / "plans"))
    try:
        nodes.add(3)
        # One group fits; the other starts when a node for it joins.
        cluster = {"groups": 2, "min_groups": 1, "retries": 1}
        sweep = FaultSweep(nodes, tiny_file, "nodes", 4, FAULTS, **cluster)
        nodes.submit("sweep", *sweep.tune)
        nodes.wait_for_line("sweep", "t0000 started")
        nodes.add(4)
        nodes.wait_for_line("sweep", "t0003 started")
        nodes.wait_for_line("sweep", "t0004 started")
        sweep.wait_until_met(2, 3)
        controlling = nodes.controlling()
        mapped = [nodes.mapped(address) for address in ("127.0.0.3", "127.0.0.4")]
        nodes.kill("127.0.0.4")
        nodes.wait_for_line("sweep", "will be retried: a node was lost")
        nodes.add(5)
        (sweep.plans / "lost").touch()
        yield nodes, sweep, (controlling, mapped), nodes.wait_for_job("sweep")
    finally:
        nodes.close()


def test_the_sweep_ends_with_the_planned_trials(swept):
    nodes, sweep, _, job = swept
    assert job["status"] == "SUCCEEDED", nodes.job_log("sweep")
    runs = sweep.check_books({"t0001": "failed"})
    assert runs.trials["t0001"].data.tags["hft_ray.fault"] == "out_of_memory"


def test_what_controls_the_sweep_is_on_the_node_of_its_driver(swept):
    _, _, (controlling, _), _ = swept
    assert set(controlling) == set(CONTROLLING)
    assert set(controlling.values()) == {"127.0.0.2"}


def test_the_nodes_share_one_encoding_of_the_data(swept):
    nodes, sweep, (_, (one, other)), _ = swept
    # The driver and four lives of workers on three nodes have used it.
    assert len((sweep.plans / "encoded").read_text().splitlines()) == 1
    assert len(list((nodes.root / "cache" / "data").glob("*/counts.json"))) == 1
    assert one == other
    assert {path.name for path in one} >= {"input_ids.npy", "labels.npy"}


def test_only_what_may_end_otherwise_is_tried_again(swept):
    _, sweep, _, _ = swept
    retried = sweep.retried()
    (lost,) = retried.keys() - {"t0002"}
    assert lost in ("t0003", "t0004")
    assert retried == {"t0002": ["worker_crash"], lost: ["node_lost"]}


def test_a_lost_worker_costs_no_more_than_the_steps_since_its_last_whole_checkpoint(swept):
    _, sweep, _, _ = swept
    made = sweep.steps()
    for trial in ("t0000", "t0002", "t0003", "t0004"):
        times = [made[trial, step] for step in range(STEPS)]
        assert min(times) == 1
        assert sum(times) - STEPS <= REPEATED
    # Killed while it wrote the second checkpoint: the first was whole. Training went on meanwhile.
    times = [made["t0002", step] for step in range(2 * EVERY)]
    assert times == [1] * EVERY + [2] * EVERY
    assert max(step for trial, step in made if trial == "t0001") == 1


def test_nothing_is_left_behind(swept):
    nodes, *_ = swept
    nodes.wait_until_clean()
