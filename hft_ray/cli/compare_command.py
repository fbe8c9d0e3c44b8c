"""``hft-ray compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hft_ray.cli.options import Experiment, Json, Storage, Uri
from hft_ray.strict_json import dumps

if TYPE_CHECKING:
    from hft_ray.pareto import Comparison


def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME NAME...", help="Names of the sweeps.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Output folder; default ROOT/comparisons/NAMES."),
    ] = None,
    uri: Uri = None,
    experiment: Experiment = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Compare the fronts of sweeps: hypervolume with interval, forgetting at equal scores.

    Example: hft-ray compare demo demo-layers
    """
    from hft_ray.actions.comparing import compare as compare_sweeps
    from hft_ray.report import comparison_json

    found = compare_sweeps(names, out=out, storage=storage, tracking_uri=uri, experiment=experiment)
    if as_json:
        typer.echo(dumps(json.loads(comparison_json(found.comparison))))
    else:
        console = Console()
        _print(found.comparison, console)
        console.print(f"report: {found.files[1]}", soft_wrap=True, highlight=False)
    if found.not_logged is not None:
        place = found.files[0].parent
        typer.echo(
            f"not logged to MLflow: {found.not_logged}\nThe comparison is in {place}", err=True
        )
        raise typer.Exit(1)


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
