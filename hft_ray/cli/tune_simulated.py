"""The work of ``hft-ray tune --simulate TABLE`` after FILE is read."""

from __future__ import annotations

from pathlib import Path

import typer

from hft_ray.cli.interrupts import signals
from hft_ray.cli.logs import terminal
from hft_ray.cli.sweep_progress import SweepProgress
from hft_ray.cli.tables import front_table
from hft_ray.cli.tune_warm_start import start_warm
from hft_ray.config import Config
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.simulation import check_table, run_simulated
from hft_ray.report import front_json
from hft_ray.search.table import read_table


def run(config: Config, table: Path, root: Path, fresh: bool, as_json: bool) -> None:
    """Replay the sweep and print the result.

    Raises:
        ConfigError: Something is wrong; nothing was started.
        typer.Exit: It was interrupted (130).
    """
    folder = SweepFolder(root, config.name, simulated=True)
    folder.check(config, fresh)
    curves = read_table(table, config)
    check_table(folder, curves)
    warm = start_warm(config, folder)
    with folder.held(), terminal(folder.logs / "driver.log", quiet=as_json) as console:
        folder.claim(config)
        console.print(f"[bold]{config.name}[/], simulated: nothing is trained or logged to MLflow")
        warm(console)
        with signals() as interrupted, SweepProgress(console, config.name) as progress:
            front = run_simulated(config, folder, curves, progress, interrupted)
        if front is not None:
            console.print(front_table(front))
            console.print(f"hypervolume {front.hypervolume:.4f}")
            console.print(f"report:  {folder.report}", soft_wrap=True, highlight=False)
    if front is None:
        typer.echo(
            "stopped; finished trials are saved, the same command continues the sweep", err=True
        )
        raise typer.Exit(130)
    if as_json:
        typer.echo(front_json(front))
