"""``hft-ray export``: a model of a sweep's front."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hft_ray.artifacts.mirror import S3
from hft_ray.out_folder import check_new
from hft_ray.storage_root import storage_root

if TYPE_CHECKING:
    from hft_ray.pareto import Point


def export(
    name: str,
    select: str,
    out: str | Path,
    *,
    delta: bool = False,
    storage: str | Path | None = None,
    tracking_uri: str | None = None,
) -> Point:
    """Write a model of a sweep's front as a Hugging Face directory.

    Args:
        name: Name of the sweep.
        select: ``knee``, ``best:METRIC``, ``trial:ID`` or a bound such as ``task/score>=0.9``; see
            :func:`hft_ray.pareto.choose`.
        out: The directory to make, or ``s3://BUCKET/PREFIX``.
        delta: Write only what differs from the base.
        storage: Storage root of the sweep; by default ``$HFT_RAY_HOME``, else ``~/hft-ray``.
        tracking_uri: MLflow server or store; by default FILE's.

    Returns:
        The point whose model was written.

    Raises:
        ConfigError: The sweep or the point does not exist, its weights are not kept, or ``out``
            exists.
    """
    root = storage_root(storage)
    if not str(out).startswith(S3):
        check_new(Path(out), {})
    from hft_ray.orchestration.model_export import export_point, export_to_store

    if str(out).startswith(S3):
        return export_to_store(root, name, select, str(out), delta, tracking_uri)
    return export_point(root, name, select, Path(out), delta, tracking_uri)
