"""What ``hft-ray tune`` does once FILE is read: checks, cluster, sweep, last words."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import ray
import torch
from rich.console import Console

from hft_ray.cli.logs import terminal
from hft_ray.cli.progress import Progress
from hft_ray.cli.tables import front_table
from hft_ray.config import Config
from hft_ray.orchestration.cluster import check_fits, connect, cores, ray_nodes
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.sweep import InterruptedSweepError, SweepError, run_sweep
from hft_ray.pareto import Front
from hft_ray.ranks import Ranks
from hft_ray.tracking import tracking_uri
from hft_ray.training import Workspace, check


def run(
    config: Config, source: str, root: Path, address: str | None, fresh: bool, as_json: bool
) -> int:
    """Check everything, run the sweep, say what came of it; return the exit code."""
    folder = SweepFolder(root, config.name)
    folder.check(config, fresh)
    check(config, Workspace(root, Ranks(), torch.device("cpu")), source)
    if not (address or os.environ.get("RAY_ADDRESS")):
        check_fits(config.cluster, [{"CPU": cores(), "GPU": torch.cuda.device_count()}])
    with terminal(folder.logs / "driver.log", quiet=as_json) as console:
        console.print(f"[bold]{config.name}[/]: logs in {folder.logs}", soft_wrap=True)
        connect(address)
        try:
            check_fits(config.cluster, ray_nodes())
            continued = folder.claim(config)
            if continued:
                console.print(f"continuing the sweep in {folder.path}", soft_wrap=True)
            code, front = _sweep(config, folder, console)
        finally:
            ray.shutdown()
        if front is not None:
            _last_words(config, folder, front, console)
    if as_json and front is not None:
        print(front.to_json())
    return code


def _sweep(config: Config, folder: SweepFolder, console: Console) -> tuple[int, Front | None]:
    """Run the sweep under the live view; return the exit code, and the front if it got that far."""
    try:
        with _signals() as interrupted, Progress(console, config.name) as progress:
            return 0, run_sweep(config, folder, progress, interrupted)
    except SweepError as error:
        console.print(f"[red]the sweep failed:[/] {error}")
        console.print(f"Finished trials are saved in {folder.path}; the same command goes on.")
        return 1, None
    except InterruptedSweepError:
        console.print("stopped; finished trials are saved, the same command goes on")
        return 130, None


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM (``ray job stop``) set."""
    event = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        event.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _last_words(config: Config, folder: SweepFolder, front: Front, console: Console) -> None:
    """Print the front and where to look next."""
    console.print(front_table(front))
    if front.knee is not None:
        console.print(f"knee: [bold]{front.knee}[/], the best compromise of {sum(front.on_front)}")
    console.print(f"hypervolume {front.hypervolume:.4f}")
    console.print(f"report:  {folder.report}", soft_wrap=True, highlight=False)
    uri = tracking_uri(config.tracking.uri, folder.root)
    console.print(f"compare: mlflow ui --backend-store-uri {uri}", soft_wrap=True, highlight=False)
