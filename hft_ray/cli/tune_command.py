"""``hft-ray tune``."""

from __future__ import annotations

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
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Start nothing: check FILE and every node of the cluster (storage root, mirror, "
            "tracking, model and data, devices, versions), and print one table.",
        ),
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

    Example: ray job submit --working-dir . -- hft-ray tune demo.yaml --dry-run
    """
    if dry_run and simulate is not None:
        raise typer.BadParameter("--dry-run checks a cluster, which --simulate does without")
    from hft_ray.actions.tuning import look_only, ready_to_simulate, ready_to_tune
    from hft_ray.config.load import load

    config, source = load(file, overrides or ()), str(file)
    if simulate is not None:
        simulated = ready_to_simulate(config, simulate, storage=storage, fresh=fresh, source=source)
        from hft_ray.cli import tune_simulated

        tune_simulated.run(simulated, as_json)
        return
    if sys.stdout.isatty() and not as_json:
        # The imports that follow take many seconds.
        typer.echo(f"{config.name}: checking model and data")
    if dry_run:
        found = look_only(config, storage=storage, address=address, fresh=fresh, source=source)
        from hft_ray.cli import tune_dry_run

        tune_dry_run.show(found, source, as_json)
        return
    ready = ready_to_tune(config, storage=storage, address=address, fresh=fresh, source=source)
    from hft_ray.cli import tune_sweep

    tune_sweep.run(config, ready, as_json)
