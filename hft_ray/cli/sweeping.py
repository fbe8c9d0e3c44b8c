"""What ``hft-ray tune`` does once FILE is read: checks, cluster, sweep, last words."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch
from rich.console import Console

from hft_ray.cli.interrupts import signals
from hft_ray.cli.logs import terminal
from hft_ray.cli.progress import Progress
from hft_ray.cli.tables import arm_tables, front_table
from hft_ray.cli.warming import start_warm
from hft_ray.config import Config
from hft_ray.orchestration.cluster import ClusterError, check_fits, connect, cores, ray_nodes
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.mirror import restore
from hft_ray.orchestration.sweep import InterruptedSweepError, SweepError, run_sweep
from hft_ray.pareto import Front, front_json
from hft_ray.ranks import Ranks
from hft_ray.tracking import tracking_uri
from hft_ray.training import Workspace, check
from hft_ray.training.hub import pinned


def run(
    config: Config, source: str, root: Path, address: str | None, fresh: bool, as_json: bool
) -> NoReturn:
    """Check everything, run the sweep, say what came of it; end the process with the exit code.

    Raises:
        ConfigError: Something is wrong; nothing was started.
    """
    # What a hub name stands for may change while the sweep runs, or until it goes on.
    config = pinned(config)
    folder = SweepFolder(root, config.name)
    restore(config, folder)
    folder.check(config, fresh)
    warm = start_warm(config, folder)
    check(config, Workspace(root, Ranks(), torch.device("cpu")), source)
    if not (address or os.environ.get("RAY_ADDRESS")):
        check_fits(config.cluster, [{"CPU": cores(), "GPU": torch.cuda.device_count()}])
    try:
        with terminal(folder.logs / "driver.log", quiet=as_json) as console:
            front = _on_cluster(config, folder, address, console, warm)
            _last_words(config, folder, front, console)
    except ClusterError as error:
        _say(f"a local Ray cluster did not start: {error}")
        _say("The machine may be too busy. Nothing was lost; the same command tries again.")
        _leave(1)
    except SweepError as error:
        _say(f"the sweep failed: {error}")
        _say(f"Finished trials are saved in {folder.path}; the same command goes on.")
        _say(f"What happened is in {folder.logs / 'driver.log'}")
        _leave(1)
    except InterruptedSweepError:
        _say("stopped; finished trials are saved, the same command goes on")
        _leave(130)
    if as_json:
        print(front_json(front))
    _leave(0)


def _on_cluster(
    config: Config,
    folder: SweepFolder,
    address: str | None,
    console: Console,
    warm: Callable[[Console], None],
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
        with signals() as interrupted, Progress(console, config.name) as progress:
            return run_sweep(config, folder, progress, interrupted)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _leave(code: int) -> NoReturn:
    """End the process as it is; the cluster ends what belongs to it.

    The threads of Tune and Train cannot be called off, and one that still uses Ray while Ray is
    shut down ends the process with a code of its own.
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
