"""``hft-ray tune`` on the terminal: the live view, the result, and how it ended."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from rich.console import Console

from hft_ray.cli.logs import terminal
from hft_ray.cli.next_commands import next_commands
from hft_ray.cli.sweep_progress import SweepProgress
from hft_ray.cli.tables import arm_tables, front_table
from hft_ray.config import Config, ConfigError
from hft_ray.disk_errors import disk_problem
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.ready_sweep import ReadySweep
from hft_ray.orchestration.sweep_errors import ClusterError, InterruptedSweepError, SweepError
from hft_ray.pareto import Front
from hft_ray.report import front_json
from hft_ray.tracking import tracking_uri


def run(config: Config, ready: ReadySweep, as_json: bool) -> NoReturn:
    """Run the sweep and print the result; end the process with the exit code.

    Raises:
        ConfigError: The cluster is too small, or the sweep is running already.
    """
    folder = ready.folder
    for line in ready.notes:
        _say(line)
    front = None
    try:
        with terminal(folder.logs / "driver.log", quiet=as_json) as console:
            with SweepProgress(console, config.name) as progress:
                front = ready.run(progress.say, progress)
            _last_words(config, folder, front, console)
        code = 1 if ready.errors.undone else 0
    except ConfigError:
        raise
    except Exception as error:
        failed = _explain(error, folder)
        if failed is None:
            raise
        code = failed
    _say_background(ready)
    if as_json and front is not None:
        print(front_json(front))
    _leave(code)


def _explain(error: Exception, folder: SweepFolder) -> int | None:
    """Say why the sweep did not end; return the exit code, None for an unforeseen error."""
    if isinstance(error, InterruptedSweepError):
        _say(str(error))
        return 130
    if isinstance(error, ClusterError):
        _say(f"a local Ray cluster did not start: {error}")
        _say("The machine may be overloaded. Nothing was lost; run the same command again.")
        return 1
    reason = str(error) if isinstance(error, SweepError) else disk_problem(error)
    if reason is None:
        return None
    _say(f"the sweep failed: {reason}")
    _say(f"Finished trials are saved in {folder.path}; the same command continues the sweep.")
    _say(f"Details are in {folder.logs / 'driver.log'}")
    return 1


def _say_background(ready: ReadySweep) -> None:
    """Print what failed in the background, and what is left undone."""
    for line in ready.errors.summary():
        _say(line)
    if ready.errors.counts:
        _say(f"Details are in {ready.folder.logs / 'driver.log'}")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _leave(code: int) -> NoReturn:
    """End the process at once; the cluster ends its own processes.

    Threads of Tune and Train cannot be stopped, and one that still uses Ray while Ray shuts down
    would end the process with another code.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _last_words(config: Config, folder: SweepFolder, front: Front, console: Console) -> None:
    """Print the front and where to look next."""
    for table in (front_table(front), *arm_tables(front)):
        console.print(table)
    if front.knee_index is not None:
        label = front.points[front.knee_index].label
        console.print(
            f"knee: [bold]{label}[/], the best compromise of {len(front.averaged.members)}"
        )
    console.print(f"hypervolume {front.hypervolume:.4f}")
    lines = [("report", str(folder.report))]
    uri = tracking_uri(config.tracking.uri, folder.root)
    lines += next_commands(config.name, folder.root, uri)
    for what, line in lines:
        console.print(f"{what + ':':9}{line}", soft_wrap=True, highlight=False, markup=False)
