"""``hft-ray compare``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hft_ray.cli.options import Experiment, Json, Storage, Uri
from hft_ray.strict_json import dumps

if TYPE_CHECKING:
    from hft_ray.out_folder import OutFolder
    from hft_ray.pareto import Comparison

FILES = ("compare.json", "compare.html", "compare.png")


def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME NAME...", help="Names of the sweeps.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Output folder; default ROOT/comparisons/NAMES."),
    ] = None,
    uri: Uri = None,
    experiment: Experiment = "hft-ray",
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Compare the fronts of sweeps: hypervolume with interval, forgetting at equal scores.

    Example: hft-ray compare demo demo-layers
    """
    from hft_ray.storage_root import storage_root

    root = storage_root(storage)
    if out is not None:
        _folder_of(out).check({})
    from hft_ray.orchestration.sweep_comparison import compare_from_tracking
    from hft_ray.report import comparison_json
    from hft_ray.report.files import write_comparison
    from hft_ray.tracking import NotLoggedError, log_comparison, tracking_uri

    store = tracking_uri(uri, root)
    comparison = compare_from_tracking(store, experiment, names)
    if out is None:
        files = write_comparison(comparison, root / "comparisons" / _folder(names))
    else:
        with _folder_of(out).held({}):
            files = write_comparison(comparison, out)
    console = Console()
    if as_json:
        typer.echo(dumps(json.loads(comparison_json(comparison))))
    else:
        _print(comparison, console)
        console.print(f"report: {files[1]}", soft_wrap=True, highlight=False)
    try:
        log_comparison(store, experiment, names, _metrics(comparison), files)
    except NotLoggedError as error:
        text = f"not logged to MLflow: {error}\nThe comparison is in {files[0].parent}"
        typer.echo(text, err=True)
        raise typer.Exit(1) from error


def _folder_of(out: Path) -> OutFolder:
    from hft_ray.out_folder import OutFolder

    return OutFolder(out, "compare", FILES)


def _folder(names: Sequence[str]) -> str:
    """Return a name for the folder; file systems take 255 characters."""
    text = "_".join(names)
    return text if len(text) <= 200 else f"{text[:180]}_{sha256(text.encode()).hexdigest()[:8]}"


def _print(comparison: Comparison, console: Console) -> None:
    from hft_ray.cli.tables import plain_table
    from hft_ray.report.rows import difference_rows, distance_rows, match_rows, side_rows

    console.print(plain_table("Sweeps", side_rows(comparison)))
    console.print(plain_table("Differences of hypervolume", difference_rows(comparison)))
    console.print(plain_table("Between the fronts", distance_rows(comparison)))
    for match in comparison.matches:
        rows = match_rows(comparison, match)
        if rows:
            console.print(plain_table(f"{match.objective} at the same {match.at}", rows))
    for note in comparison.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)


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
