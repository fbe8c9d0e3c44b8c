"""``hft-ray tune``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hft_ray.cli.options import File, Json, Overrides, Storage


def tune(
    file: File,
    overrides: Overrides = None,
    storage: Storage = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster; default $RAY_ADDRESS, inside a job its own, else local."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Refuse to continue an earlier sweep of this name.")
    ] = False,
    simulate: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Replay learning curves instead of training: a .jsonl, .jsonl.gz or .parquet file "
            "of rows {params, step, metrics, seconds}, on cluster.groups groups in virtual time.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a sweep; the same name continues an earlier one where it stopped.

    Example: hft-ray tune search_spaces/demo.yaml --set search.trials=20
    """
    from hft_ray.config import ConfigError, Problem
    from hft_ray.config.load import load
    from hft_ray.storage_root import storage_root

    config = load(file, overrides or ())
    if config.search is None:
        problem = "is missing; for a single run without a search use hft-ray train"
        raise ConfigError(Problem("search", problem), str(file))
    root = storage_root(storage)
    if simulate is not None:
        from hft_ray.cli import tune_simulated

        tune_simulated.run(config, simulate, root, fresh, as_json)
        return
    if sys.stdout.isatty() and not as_json:
        # The imports that follow take many seconds.
        typer.echo(f"{config.name}: checking model and data")
    if not (address or os.environ.get("RAY_ADDRESS")):
        # With this, set before Ray is imported, a local cluster listens on loopback only.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    from hft_ray.cli import tune_sweep

    tune_sweep.run(config, str(file), root, address, fresh, as_json)
