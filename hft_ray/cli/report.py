"""``hft-ray report``."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from hft_ray.cli.options import Json, Storage
from hft_ray.config.storage import storage_root


def report(
    name: Annotated[str, typer.Argument(help="Name of the sweep.")],
    uri: Annotated[
        str | None, typer.Option("--tracking-uri", help="MLflow server or store; default local.")
    ] = None,
    experiment: Annotated[str, typer.Option(help="MLflow experiment.")] = "hft-ray",
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Rebuild the front of a sweep from MLflow alone.

    Example: hft-ray report demo
    """
    root = storage_root(storage)
    from hft_ray.cli.tables import front_table
    from hft_ray.orchestration.folder import SweepFolder
    from hft_ray.orchestration.record import front_from_tracking, write_front
    from hft_ray.tracking import tracking_uri

    front = front_from_tracking(tracking_uri(uri, root), experiment, name)
    files = write_front(front, SweepFolder(root, name).path / "front")
    if as_json:
        typer.echo(json.dumps(json.loads(front.to_json())))
        return
    console = Console()
    console.print(front_table(front))
    console.print(f"report: {files[1]}", soft_wrap=True, highlight=False)
