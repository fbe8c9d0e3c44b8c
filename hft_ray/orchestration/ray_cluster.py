"""Joining a Ray cluster, and refusing what does not fit it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import ray

from hft_ray.config import Cluster, ConfigError, Problem
from hft_ray.orchestration.sweep_errors import ClusterError

QUIET = {
    # Tune refuses reports that lack a metric and so ends trials that failed before their first one.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # The sweep watches its nodes itself; Ray Train's watcher would be one more process for a group.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
LONGEST_SOCKET = 107
"""Bytes of the path of a Unix socket on Linux."""
_SOCKET = "/ray/session_2000-12-31_23-59-59_000000_1234567/sockets/plasma_store"


def connect(address: str | None) -> dict[str, Any]:
    """Join the cluster at ``address`` or ``RAY_ADDRESS`` (a job has that); else start a local one.

    A process that has joined a cluster already, such as a notebook's, stays in it.

    Returns:
        ``{"address", "local", "logs"}``: the last the folder of what the processes of a local
        cluster print, which this call has started.

    Raises:
        ConfigError: No cluster answers at the address, or this process is in another cluster.
        ClusterError: A local one does not start.
    """
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    if ray.is_initialized():
        joined = ray.get_runtime_context().gcs_address
        if address and address != joined:
            problem = f"this process is in the Ray cluster at {joined}; leave the address out, or "
            raise ConfigError(Problem("--address", f"{problem}call ray.shutdown() first", address))
        return {"address": joined, "local": False, "logs": None}
    existing = address or os.environ.get("RAY_ADDRESS")
    try:
        context = _init(existing)
    except (ConnectionError, ValueError) as error:
        if not existing:
            raise ClusterError(_first_line(error)) from error
        problem = f"no Ray cluster can be joined there: {_first_line(error)}"
        raise ConfigError(Problem("--address", problem, existing)) from error
    except Exception as error:
        # A node that takes too long to start, as on an overloaded machine, is a bare Exception.
        if existing:
            raise
        raise ClusterError(_first_line(error)) from error
    info = context.address_info
    logs = Path(info["session_dir"]) / "logs"
    return {"address": info["address"], "local": not existing, "logs": logs}


def check_sockets(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a temporary folder in which the sockets of a local Ray cluster have too long a path.

    Raises:
        ConfigError: It is too long.
    """
    # As Ray chooses it.
    name = next((key for key in ("RAY_TMPDIR", "TMPDIR") if key in environment), None)
    if name is None:
        return
    room = LONGEST_SOCKET - len(_SOCKET)
    if len(os.fsencode(environment[name])) > room:
        problem = (
            f"is too long for the sockets of a local Ray cluster, whose paths begin with it: at "
            f"most {room} bytes; set RAY_TMPDIR to a short one, such as /tmp"
        )
        raise ConfigError(Problem(f"${name}", problem, environment[name]))


def joins(address: str | None) -> bool:
    """Whether :func:`connect` joins a cluster that is there, and starts no local one."""
    return bool(address or os.environ.get("RAY_ADDRESS")) or ray.is_initialized()


def _init(existing: str | None) -> Any:
    return ray.init(
        address=existing or "local",
        namespace="hft_ray",
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=False,
        include_dashboard=None if existing else True,
        **({} if existing else {"dashboard_host": "127.0.0.1", "num_cpus": cores()}),
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def cores() -> int:
    """Return the CPU cores that this process may use."""
    return len(psutil.Process().cpu_affinity() or []) or os.cpu_count() or 1


def problems_fitting(cluster: Cluster, nodes: list[dict[str, float]]) -> list[Problem]:
    """Return why the worker groups do not fit on ``nodes``; waiting would be for ever.

    Args:
        cluster: The section of FILE.
        nodes: Resources of each node, ``{"CPU": n, "GPU": n}``.
    """
    needs = {"CPU": cluster.cpus_per_worker, "GPU": cluster.gpus_per_worker}
    groups = cluster.needed_groups
    workers = groups * cluster.workers
    places = sum(
        min(int(node.get(kind, 0) / need + 1e-9) for kind, need in needs.items() if need)
        for node in nodes
    )
    if places >= workers:
        return []
    has = {kind: sum(node.get(kind, 0) for node in nodes) for kind in needs}
    message = (
        f"{groups} groups x {cluster.workers} workers of {cluster.cpus_per_worker:g} CPU "
        f"and {cluster.gpus_per_worker:g} GPU do not fit: the cluster has {has['CPU']:g} CPU and "
        f"{has['GPU']:g} GPU on {len(nodes)} node{'s' if len(nodes) != 1 else ''}, room for "
        f"{places} workers"
    )
    return [Problem("cluster", message)]


def check_fits(cluster: Cluster, nodes: list[dict[str, float]]) -> None:
    """Raise :class:`ConfigError` when the worker groups do not fit on ``nodes``."""
    problems = problems_fitting(cluster, nodes)
    if problems:
        raise ConfigError(problems)


def ray_nodes() -> list[dict[str, float]]:
    """Return the resources of each living node of the joined cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
