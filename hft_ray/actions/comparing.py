"""``hft-ray compare``: the fronts of several sweeps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from hft_ray.out_folder import OutFolder
from hft_ray.storage_root import storage_root

if TYPE_CHECKING:
    from hft_ray.pareto import Comparison

FILES = ("compare.json", "compare.html", "compare.png")


@dataclass(frozen=True)
class Compared:
    """Sweeps side by side.

    Attributes:
        comparison: Hypervolumes with intervals, differences, values at equal scores.
        files: ``compare.json``, ``compare.html`` and ``compare.png``.
        not_logged: Why MLflow did not take the comparison; None if it did.
    """

    comparison: Comparison
    files: list[Path]
    not_logged: str | None


def compare(
    names: Sequence[str],
    *,
    out: str | Path | None = None,
    storage: str | Path | None = None,
    tracking_uri: str | None = None,
    experiment: str | None = None,
) -> Compared:
    """Compare the fronts of sweeps, write the comparison, and log it to MLflow.

    Args:
        names: Names of two or more sweeps.
        out: Where to write; by default ``comparisons/NAMES`` below the storage root.
        storage: Storage root; by default ``$HFT_RAY_HOME``, else ``~/hft-ray``.
        tracking_uri: MLflow server or store that has all of them; by default that of the first
            sweep, as its folder below the storage root says, else that of the storage root.
        experiment: MLflow experiment that has all of them; by default that of the first sweep,
            else ``hft-ray``.

    Raises:
        ConfigError: A sweep does not exist, or they cannot be compared; all reasons together.
    """
    root = storage_root(storage)
    folder = None if out is None else OutFolder(Path(out), "compare", FILES)
    if folder is not None:
        folder.check({})
    from hft_ray import tracking
    from hft_ray.orchestration.sweep_comparison import compare_from_tracking
    from hft_ray.orchestration.sweep_place import tracked_at
    from hft_ray.report.files import write_comparison

    store, experiment = tracked_at(root, names[0], tracking_uri, experiment)
    found = compare_from_tracking(store, experiment, names)
    if folder is None:
        files = write_comparison(found, root / "comparisons" / _folder_name(names))
    else:
        with folder.held({}):
            files = write_comparison(found, folder.path)
    try:
        tracking.log_comparison(store, experiment, names, _metrics(found), files)
    except tracking.NotLoggedError as error:
        return Compared(found, files, str(error))
    return Compared(found, files, None)


def _folder_name(names: Sequence[str]) -> str:
    """Return a name for the folder; file systems take 255 characters."""
    text = "_".join(names)
    return text if len(text) <= 200 else f"{text[:180]}_{sha256(text.encode()).hexdigest()[:8]}"


def _metrics(comparison: Comparison) -> dict[str, float]:
    """Return the numbers to log: hypervolumes, their estimates and intervals, and differences."""
    found = {}
    for side in comparison.sides:
        found[f"hypervolume/{side.sweep}"] = side.front.hypervolume
        if side.hypervolume is not None:
            low, high = side.hypervolume.interval()
            found[f"estimate/{side.sweep}"] = side.hypervolume.value
            found[f"low/{side.sweep}"], found[f"high/{side.sweep}"] = low, high
    for each in comparison.differences:
        found[f"difference/{each.a} {each.b}"] = each.hypervolume
    return found
