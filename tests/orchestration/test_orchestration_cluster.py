"""What fits on a cluster and what is refused before it waits for ever."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import ray

from hft_ray.config import Cluster, ConfigError
from hft_ray.orchestration.ray_cluster import (
    check_fits,
    check_sockets,
    connect,
    cores,
    joins,
    problems_fitting,
)
from hft_ray.orchestration.sweep_errors import ClusterError

CPU4 = {"CPU": 4.0, "memory": 1e9, "node:10.0.0.1": 1.0}
GPU = {"CPU": 16.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("cluster", "nodes"),
    [
        ({}, [{"CPU": 1.0}]),
        ({"groups": 4}, [CPU4]),
        ({"groups": 2, "workers": 2}, [CPU4]),
        ({"groups": 2, "workers": 4}, [CPU4, CPU4]),
        ({"groups": 8, "cpus_per_worker": 0.5}, [CPU4]),
        ({"groups": 8, "gpus_per_worker": 1}, [CPU4, GPU]),
        # The others come when there is room.
        ({"groups": 9, "min_groups": 2, "workers": 2}, [CPU4]),
        ({"groups": 16, "gpus_per_worker": 0.5}, [GPU]),
        # In floating point ten tenths of a GPU are a little less than one.
        ({"groups": 10, "gpus_per_worker": 0.1}, [{"CPU": 16.0, "GPU": 1.0}]),
    ],
)
def test_what_fits(cluster, nodes):
    assert problems_fitting(Cluster(**cluster), nodes) == []


@pytest.mark.parametrize(
    ("cluster", "nodes"),
    [
        ({"groups": 5}, [CPU4]),
        ({"groups": 9, "min_groups": 5}, [CPU4]),
        ({"workers": 3}, [{"CPU": 2.0}]),
        # A worker is on one node: three free halves of a worker are no worker.
        ({"cpus_per_worker": 4}, [{"CPU": 3.0}, {"CPU": 3.0}]),
        ({"groups": 3, "cpus_per_worker": 3}, [CPU4, CPU4]),
        ({"gpus_per_worker": 1}, [CPU4]),
        ({"groups": 17, "gpus_per_worker": 1}, [GPU, GPU]),
        ({"groups": 3, "cpus_per_worker": 8, "gpus_per_worker": 1}, [GPU]),
        ({}, []),
    ],
)
def test_what_does_not_fit(cluster, nodes):
    (problem,) = problems_fitting(Cluster(**cluster), nodes)
    assert problem.path == "cluster"


def test_the_message_says_what_is_asked_and_what_is_there():
    with pytest.raises(ConfigError) as caught:
        check_fits(Cluster(groups=2, workers=3, cpus_per_worker=2), [CPU4, CPU4])
    message = str(caught.value)
    assert "2 groups x 3 workers of 2 CPU and 0 GPU do not fit" in message
    assert "has 8 CPU and 0 GPU on 2 nodes, room for 4 workers" in message


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"gpus_per_worker": 1.5}, "gpus_per_worker 1.5 is neither below 1 nor whole"),
        ({"gpus_per_worker": 0.5, "workers": 2}, "could come to one GPU, which NCCL refuses"),
    ],
)
def test_shares_of_a_gpu_that_cannot_work_are_refused(given, problem):
    with pytest.raises(ValueError, match=problem):
        Cluster(**given)
    Cluster(gpus_per_worker=0.5)
    Cluster(gpus_per_worker=0.6, workers=2)
    Cluster(gpus_per_worker=2, workers=2)


def test_no_more_groups_are_needed_than_wanted():
    with pytest.raises(ValueError, match="min_groups 3 is more than groups 2"):
        Cluster(groups=2, min_groups=3)


def test_this_process_has_a_core():
    assert cores() >= 1


def test_a_local_cluster_that_does_not_start_is_said_in_a_line(monkeypatch):
    def too_busy(**_):
        raise Exception("The current node timed out during startup.\nMore of it.")

    monkeypatch.setattr(ray, "init", too_busy)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ClusterError) as error:
        connect(None)
    assert str(error.value) == "The current node timed out during startup."


def test_a_process_stays_in_the_cluster_that_it_has_joined(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    context = SimpleNamespace(gcs_address="10.0.0.1:6379")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for address in (None, "10.0.0.1:6379"):
        assert joins(address)
        assert connect(address) == {"address": "10.0.0.1:6379", "local": False, "logs": None}
    with pytest.raises(ConfigError, match=r"is in the Ray cluster at 10\.0\.0\.1:6379"):
        connect("10.0.0.2:6379")


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_temporary_folder_too_long_for_sockets_is_refused(name):
    with pytest.raises(ConfigError, match=rf"\${name}: is too long .* set RAY_TMPDIR"):
        check_sockets({name: "/" + "x" * 40})
    for environment in ({}, {name: "/tmp"}, {"TMPDIR": "/" + "x" * 99, "RAY_TMPDIR": "/tmp"}):
        check_sockets(environment)
