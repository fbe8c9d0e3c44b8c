"""``hft-ray report``: the front of a sweep, from MLflow alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hft_ray.config import ConfigError, Problem
from hft_ray.storage_root import storage_root

if TYPE_CHECKING:
    from hft_ray.device_cost import DeviceCost
    from hft_ray.pareto import Front, Point


@dataclass(frozen=True)
class Report:
    """The report of a sweep.

    Attributes:
        front: Its front.
        chosen: The point that was asked for, None if none was.
        files: ``front.json``, ``front.html`` and ``front.png``.
        cost: What the sweep's trials have cost, None if unknown.
    """

    front: Front
    chosen: Point | None
    files: list[Path]
    cost: DeviceCost | None


def front(
    name: str,
    *,
    storage: str | Path | None = None,
    tracking_uri: str | None = None,
    experiment: str | None = None,
) -> Front:
    """Return the front of a sweep, ended or running, from MLflow alone.

    Args:
        name: Name of the sweep.
        storage: Storage root; by default ``$HFT_RAY_HOME``, else ``~/hft-ray``.
        tracking_uri: MLflow server or store; by default the one that the sweep was written to, as
            its folder below the storage root says, else that of the storage root.
        experiment: MLflow experiment; by default the sweep's own, else ``hft-ray``.

    Raises:
        ConfigError: MLflow knows no such sweep, or no front of it.
    """
    from hft_ray.orchestration.fronts import front_from_tracking
    from hft_ray.orchestration.sweep_place import tracked_at

    place = tracked_at(storage_root(storage), name, tracking_uri, experiment)
    return front_from_tracking(*place, name)


def report(
    name: str,
    select: str | None = None,
    *,
    storage: str | Path | None = None,
    tracking_uri: str | None = None,
    experiment: str | None = None,
) -> Report:
    """Write the report of a sweep to its folder, and choose one of its points.

    Args:
        name: Name of the sweep.
        select: Which point; see :func:`hft_ray.pareto.choose`.
        storage: As for :func:`front`.
        tracking_uri: As for :func:`front`.
        experiment: As for :func:`front`.

    Raises:
        ConfigError: As for :func:`front`, or no point is as ``select`` asks for.
    """
    from hft_ray.orchestration.folder import SweepFolder
    from hft_ray.orchestration.fronts import config_of, front_of, searched
    from hft_ray.orchestration.sweep_cost import cost_facts, tracked_cost
    from hft_ray.orchestration.sweep_place import tracked_at
    from hft_ray.report.files import write_front
    from hft_ray.tracking import read_sweep

    root = storage_root(storage)
    record = read_sweep(*tracked_at(root, name, tracking_uri, experiment), name)
    config = config_of(record)
    found = front_of(record, config)
    chosen = None if select is None else _chosen(found, select)
    folder = SweepFolder(root, name)
    folder.mark()
    cost, place = tracked_cost(record, config), folder.path / "front"
    files = write_front(found, searched(config), place, cost_facts(cost))
    return Report(found, chosen, files, cost)


def _chosen(found: Front, rule: str) -> Point:
    from hft_ray.pareto import ChoiceError, choose

    try:
        return choose(found, rule)
    except ChoiceError as error:
        raise ConfigError(Problem("--select", str(error), rule)) from error
