"""Exporting a point of a sweep: from its name in tracking to the weights in the sweep's folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hft_ray.artifacts import Mirror, MirrorError
from hft_ray.config import ConfigError, Problem
from hft_ray.config.keys import with_settings
from hft_ray.config.load import parse
from hft_ray.config.sections.cluster import checked_mirror
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.fronts import front_from_tracking
from hft_ray.orchestration.kept_weights import KeptWeights
from hft_ray.orchestration.sweep_place import tracked_at
from hft_ray.pareto import ChoiceError, Point, choose
from hft_ray.weights.export import export


def export_point(
    root: Path, name: str, select: str, out: Path, delta: bool, uri: str | None = None
) -> Point:
    """Write the point that ``select`` chooses to ``out``; return it.

    Args:
        root: Storage root.
        name: Name of the sweep.
        select: See :func:`hft_ray.pareto.choose`.
        out: The directory to make.
        delta: Write only what differs from the base.
        uri: Tracking server or store, by default FILE's.

    Raises:
        ConfigError: There is no such sweep or point, or its weights are not kept.
    """
    folder = SweepFolder(root, name)
    if not folder.config.is_file():
        raise ConfigError(Problem("NAME", f"no sweep of this name lies under {root}", name))
    config = parse(folder.config.read_text(encoding="utf-8"), str(folder.config))
    front = front_from_tracking(*tracked_at(root, name, uri), name)
    try:
        point = choose(front, select)
    except ChoiceError as error:
        raise ConfigError(Problem("--select", str(error), select)) from error
    kept = KeptWeights(folder.weights).of(point)
    if not kept.is_dir():
        members = ", ".join(each.label for each in front.members)
        problem = f"the weights of {point.label} are not kept; on the front are {members}"
        raise ConfigError(Problem("--select", problem, select))
    export(with_settings(config, point.params), kept, point.variant, out, root, delta)
    return point


def export_to_store(
    root: Path, name: str, select: str, out: str, delta: bool, uri: str | None = None
) -> Point:
    """Write the point to ``s3://BUCKET/PREFIX``; arguments and errors as :func:`export_point`."""
    try:
        place, _, last = checked_mirror(out).rstrip("/").rpartition("/")
    except ValueError as error:
        raise ConfigError(Problem("--out", str(error), out)) from error
    if place == "s3:/":
        raise ConfigError(Problem("--out", "must name a prefix within the bucket", out))
    try:
        if Mirror(out).names():
            raise ConfigError(Problem("--out", "exists already; name a new one", out))
        # A model is large: it belongs on the disk that has the others.
        with tempfile.TemporaryDirectory(dir=root if root.is_dir() else None) as folder:
            point = export_point(root, name, select, Path(folder) / last, delta, uri)
            Mirror(place).put(Path(folder) / last, last)
    except MirrorError as error:
        raise ConfigError(Problem("--out", str(error), out)) from error
    return point
