"""``hft-ray tune --simulate TABLE`` on the terminal."""

from __future__ import annotations

import typer

from hft_ray.cli.logs import terminal
from hft_ray.cli.sweep_progress import SweepProgress
from hft_ray.cli.tables import front_table
from hft_ray.orchestration.simulation import ReadySimulation
from hft_ray.orchestration.sweep_errors import InterruptedSweepError
from hft_ray.report import front_json


def run(ready: ReadySimulation, as_json: bool) -> None:
    """Replay the sweep and print the result.

    Raises:
        ConfigError: The sweep is running already.
        typer.Exit: It was interrupted (130).
    """
    folder = ready.folder
    try:
        with terminal(folder.logs / "driver.log", quiet=as_json) as console:
            with SweepProgress(console, folder.path.name) as progress:
                front = ready.run(progress.say, progress)
            console.print(front_table(front))
            console.print(f"hypervolume {front.hypervolume:.4f}")
            console.print(f"report:  {folder.report}", soft_wrap=True, highlight=False)
    except InterruptedSweepError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(130) from error
    if as_json:
        typer.echo(front_json(front))
