"""The work of ``hft-ray tune`` after FILE is read: checks, cluster, sweep, result."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch
from rich.console import Console

from hft_ray.background import BackgroundErrors
from hft_ray.cli.interrupts import signals
from hft_ray.cli.logs import terminal
from hft_ray.cli.sweep_progress import SweepProgress
from hft_ray.cli.tables import arm_tables, front_table
from hft_ray.cli.tune_warm_start import start_warm
from hft_ray.config import Config, ConfigError, check_all
from hft_ray.disk_errors import disk_problem
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.ray_cluster import (
    ClusterError,
    check_fits,
    check_sockets,
    connect,
    cores,
    ray_nodes,
)
from hft_ray.orchestration.sweep import InterruptedSweepError, SweepError, run_sweep
from hft_ray.orchestration.sweep_mirror import restore
from hft_ray.pareto import Front
from hft_ray.ranks import Ranks
from hft_ray.report import front_json
from hft_ray.tracking import probe, tracking_uri
from hft_ray.training import Workspace, check
from hft_ray.training.hub import pinned


def run(
    config: Config, source: str, root: Path, address: str | None, fresh: bool, as_json: bool
) -> NoReturn:
    """Check everything, run the sweep and print the result; end the process with the exit code.

    Raises:
        ConfigError: Something is wrong; nothing was started.
    """
    # The commit of a hub name may change while the sweep runs, or before it is continued.
    config = pinned(config)
    folder = SweepFolder(root, config.name)
    restore(config, folder)
    folder.check(config, fresh)
    warm = start_warm(config, folder)
    tracking = _Tracking(config, folder)
    check_all(
        lambda: check(config, Workspace(root, Ranks(), torch.device("cpu")), source),
        lambda: check_cluster(config, address),
        tracking.look,
        source=source,
    )
    # All else is right: the store may be written.
    tracking.try_out()
    tracking.say_away()
    errors = BackgroundErrors()
    front = None
    try:
        with terminal(folder.logs / "driver.log", quiet=as_json) as console:
            front = _on_cluster(config, folder, address, console, warm, errors)
            _last_words(config, folder, front, console)
        code = 1 if errors.undone else 0
    except ConfigError:
        raise
    except Exception as error:
        failed = _explain(error, folder)
        if failed is None:
            raise
        code = failed
    _say_background(errors, folder)
    if as_json and front is not None:
        print(front_json(front))
    _leave(code)


def _explain(error: Exception, folder: SweepFolder) -> int | None:
    """Say why the sweep did not end; return the exit code, None for an unforeseen error."""
    if isinstance(error, InterruptedSweepError):
        _say("stopped; finished trials are saved, the same command goes on")
        return 130
    if isinstance(error, ClusterError):
        _say(f"a local Ray cluster did not start: {error}")
        _say("The machine may be too busy. Nothing was lost; the same command tries again.")
        return 1
    reason = str(error) if isinstance(error, SweepError) else disk_problem(error)
    if reason is None:
        return None
    _say(f"the sweep failed: {reason}")
    _say(f"Finished trials are saved in {folder.path}; the same command goes on.")
    _say(f"What happened is in {folder.logs / 'driver.log'}")
    return 1


class _Tracking:
    """Checks of the tracking store before a sweep starts."""

    def __init__(self, config: Config, folder: SweepFolder) -> None:
        self._config, self._folder = config.tracking, folder
        self._away: str | None = None
        self._uri = ""

    def look(self) -> None:
        """Refuse a store that can never be written, as far as a read can show."""
        self._uri = tracking_uri(self._config.uri, self._folder.root)
        self._away = self._probe(write=False)

    def try_out(self) -> None:
        """Refuse a store that rejects a tag, unless it is known to be unreachable."""
        if self._away is None:
            self._away = self._probe(write=True)

    def _probe(self, write: bool) -> str | None:
        return probe(self._uri, self._config.experiment, self._folder.root, write)

    def say_away(self) -> None:
        """Print that the store does not answer now."""
        if self._away is not None:
            _say(f"the tracking store {self._uri} is not reached: {self._away}")
            _say(f"The sweep starts; its events wait in {self._folder.spool} until it answers.")


def check_cluster(config: Config, address: str | None) -> None:
    """Refuse what a local cluster cannot run; another cluster is checked once it is joined."""
    if not (address or os.environ.get("RAY_ADDRESS")):
        check_sockets()
        check_fits(config.cluster, [{"CPU": cores(), "GPU": torch.cuda.device_count()}])


def _say_background(errors: BackgroundErrors, folder: SweepFolder) -> None:
    """Print what failed in the background, and what is left undone."""
    for line in errors.summary():
        _say(line)
    if errors.counts:
        _say(f"What happened is in {folder.logs / 'driver.log'}")


def _on_cluster(
    config: Config,
    folder: SweepFolder,
    address: str | None,
    console: Console,
    warm: Callable[[Console], None],
    errors: BackgroundErrors,
) -> Front:
    """Join the cluster and run the sweep under the live view; return the front."""
    console.print(f"[bold]{config.name}[/]: logs in {folder.logs}", soft_wrap=True)
    cluster = connect(address)
    check_fits(config.cluster, ray_nodes())
    if cluster["local"]:
        console.print(f"logs of the workers in {cluster['logs']}", soft_wrap=True)
    with folder.held():
        if folder.claim(config):
            console.print(f"continuing the sweep in {folder.path}", soft_wrap=True)
        warm(console)
        with signals() as interrupted, SweepProgress(console, config.name) as progress:
            return run_sweep(config, folder, progress, interrupted, errors)


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
    console.print(f"report:  {folder.report}", soft_wrap=True, highlight=False)
    uri = tracking_uri(config.tracking.uri, folder.root)
    console.print(f"compare: mlflow ui --backend-store-uri {uri}", soft_wrap=True, highlight=False)
