"""``hft-ray tune --dry-run``: all that can be wrong before a sweep starts, on every node."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hft_ray.artifacts import Mirror, MirrorError
from hft_ray.config import Config, ConfigError, Problem, problems_of
from hft_ray.config.keys import searched_values
from hft_ray.config.rules.by_arm import by_arm
from hft_ray.data import locate
from hft_ray.evaluation import files_of
from hft_ray.orchestration.begin_warm import start_warm
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.node_check import (
    DRIVER,
    NodeQuestion,
    NodeReport,
    look_around,
    versions,
)
from hft_ray.orchestration.ray_cluster import check_fits, check_sockets, connect, joins, ray_nodes
from hft_ray.orchestration.sweep_errors import ClusterError
from hft_ray.ranks import Ranks
from hft_ray.tracking import probe, tracking_uri
from hft_ray.training import Workspace, check
from hft_ray.training.hub import pinned

PATIENCE = 300.0
"""Seconds within which every node answers: its process has to start and import libraries."""


@dataclass(frozen=True)
class CheckedNode:
    """A node of the cluster.

    Attributes:
        name: Host name and address.
        driver: Whether the driver runs on it.
        report: What was found there.
    """

    name: str
    driver: bool
    report: NodeReport


@dataclass
class DryRun:
    """What a dry run found.

    Attributes:
        nodes: The cluster's nodes, the driver's first; empty if no cluster was joined.
        problems: Everything that is wrong, on the nodes and elsewhere.
    """

    nodes: list[CheckedNode] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return what ``hft-ray tune --dry-run --json`` prints."""
        return {
            "nodes": [
                {
                    "node": each.name,
                    "driver": each.driver,
                    **each.report.found,
                    "versions": each.report.versions,
                    "problems": list(each.report.problems.values()),
                }
                for each in self.nodes
            ],
            "problems": [str(each) for each in self.problems],
        }


def dry_run(
    config: Config, root: Path, address: str | None, fresh: bool, source: str | None
) -> DryRun:
    """Check a sweep as :func:`~hft_ray.orchestration.ready_sweep.ready_sweep` does, and all nodes.

    Nothing is started, and what the checks write is deleted.
    """
    config = pinned(config)
    folder = SweepFolder(root, config.name)
    found = DryRun()
    found.problems += problems_of(
        lambda: folder.check(config, fresh),
        folder.check_free,
        lambda: start_warm(config, folder),
        lambda: check(config, Workspace(root, Ranks(), torch.device("cpu")), source),
    )
    found.problems += problems_of(lambda: _check_tracking(config, root))
    local = not joins(address)
    try:
        if local:
            check_sockets()
        connect(address)
        found.problems += problems_of(lambda: check_fits(config.cluster, ray_nodes()))
        with _left_for_the_nodes(config, root) as place:
            found.nodes = _ask_nodes(config, root, place)
        found.problems += _problems_on(found.nodes)
    except ConfigError as error:
        found.problems += error.problems
    except ClusterError as error:
        found.problems.append(Problem("Ray", f"a local cluster did not start: {error}"))
    finally:
        if local:
            ray.shutdown()
    return found


def _check_tracking(config: Config, root: Path) -> None:
    """Look for the tracking store from here alone: workers do not use it."""
    uri, experiment = tracking_uri(config.tracking.uri, root), config.tracking.experiment
    if (away := probe(uri, experiment, root, write=False)) is not None:
        raise ConfigError(Problem("tracking.uri", f"does not answer: {away}", uri))


@contextmanager
def _left_for_the_nodes(config: Config, root: Path) -> Iterator[str]:
    """Leave something in the root and in the mirror, which the nodes have to see.

    Raises:
        ConfigError: It cannot be written.
    """
    place = f".check-{uuid4().hex}"
    mirror = config.cluster.mirror
    try:
        (root / place).mkdir(parents=True)
        (root / place / DRIVER).write_text("here", encoding="utf-8")
        if mirror is not None:
            with tempfile.TemporaryDirectory() as empty:
                (Mirror(mirror) / place).put(Path(empty), DRIVER)
        yield place
    except OSError as error:
        message = f"the driver cannot write there: {error.strerror or error}"
        raise ConfigError(Problem("storage root", message, str(root))) from error
    except MirrorError as error:
        raise ConfigError(Problem("cluster.mirror", str(error))) from error
    finally:
        shutil.rmtree(root / place, ignore_errors=True)
        if mirror is not None:
            with suppress(MirrorError):
                Mirror(mirror).delete(place)


def _ask_nodes(config: Config, root: Path, place: str) -> list[CheckedNode]:
    """Have every node look around at once, and wait for them."""
    here = ray.get_runtime_context().get_node_id()
    living = [node for node in ray.nodes() if node["Alive"]]
    living.sort(key=lambda node: (node["NodeID"] != here, node["NodeManagerAddress"]))
    files = _files(config)
    work = ray.remote(look_around)
    asked = {}
    for node in living:
        question = NodeQuestion(
            node=node["NodeID"],
            root=str(root),
            place=place,
            mirror=config.cluster.mirror,
            files=files,
            gpus=node["Resources"].get("GPU", 0.0),
        )
        # It takes nothing of the cluster, so that it runs beside other sweeps.
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": there}
        asked[node["NodeID"]] = work.options(**options).remote(question)
    ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=PATIENCE)
    found = []
    for node in living:
        answer = asked[node["NodeID"]]
        report = _answer(answer) if answer in ready else _late(answer)
        name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        found.append(CheckedNode(name, node["NodeID"] == here, report))
        _see_traces(report, config, root / place / node["NodeID"])
    return found


def _answer(answer: Any) -> NodeReport:
    try:
        report: NodeReport = ray.get(answer)
    except Exception as error:  # noqa: BLE001 - such as that hft-ray is not installed there
        line = [each for each in str(error).strip().splitlines() if each.strip()][-1:]
        said = (line or [type(error).__name__])[0]
        return NodeReport(problems={"node": f"cannot be checked: {said}"})
    return report


def _late(answer: Any) -> NodeReport:
    ray.cancel(answer, force=True)
    return NodeReport(problems={"node": f"did not answer within {PATIENCE:.0f} s"})


def _see_traces(report: NodeReport, config: Config, trace: Path) -> None:
    """Look whether the driver sees what a node has written."""
    if report.found and "root" not in report.problems and not trace.is_file():
        report.problems["root"] = "what the node wrote there is not seen by the driver"
    mirror = config.cluster.mirror
    if mirror is None or not report.found or "mirror" in report.problems:
        return
    if trace.name not in (Mirror(mirror) / trace.parent.name).names():
        report.problems["mirror"] = f"what the node wrote to {mirror} is not seen by the driver"


def _files(config: Config) -> dict[str, str]:
    """Return name -> setting, of the models and the data of all arms that this machine has."""
    names = [("model.name", str(name)) for name in searched_values(config, "model.name")]
    for each in by_arm(config).values():
        names.append(("model.name", each.model.name))
        names += [(path, data.train) for path, data in each.training_data.items()]
        names += [(path, data.train) for path, data in each.pair_data.items()]
        for path, item in each.scored.places():
            names += [(f"{path}.{key}", name) for key, name in files_of(item)]
    found = {}
    for setting, name in dict.fromkeys(names):
        with suppress(ConfigError):  # it is among the problems already
            if locate(name, setting) is not None:
                found[name] = setting
    return found


def _problems_on(nodes: list[CheckedNode]) -> list[Problem]:
    """Return what is wrong on the nodes, versions that differ from the driver's included."""
    here = versions()
    for node in nodes:
        if node.report.versions and (others := _other_versions(here, node.report.versions)):
            node.report.problems["versions"] = f"{others}; install the same on every node"
    return [
        Problem(f"node {node.name}", f"{what}: {message}" if what != "node" else message)
        for node in nodes
        for what, message in node.report.problems.items()
    ]


def _other_versions(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    return ", ".join(
        f"{name} {there.get(name, 'missing')} (the driver has {mine})"
        for name, mine in here.items()
        if there.get(name) != mine
    )
