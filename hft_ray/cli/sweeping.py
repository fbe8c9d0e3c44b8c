"""What ``hft-ray tune`` does once FILE is read: checks, cluster, sweep, last words."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import ray
import torch
from rich.console import Console

from hft_ray.cli.logs import log_to, quiet_loggers
from hft_ray.cli.progress import Progress
from hft_ray.cli.tables import front_table
from hft_ray.config import Config
from hft_ray.orchestration.cluster import check_fits, connect, cores, ray_nodes
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.sweep import Interrupted, SweepFailed, run_sweep
from hft_ray.pareto import Front
from hft_ray.ranks import Ranks
from hft_ray.tracking import tracking_uri
from hft_ray.training import Workspace, check


def run(
    config: Config,
    source: str,
    root: Path,
    address: str | None,
    fresh: bool,
    console: Console,
    as_json: bool,
) -> int:
    """Check everything, run the sweep, say what came of it; return the exit code."""
    folder = SweepFolder(root, config.name)
    check(config, Workspace(root, Ranks(), torch.device("cpu")), source)
    joined = address or os.environ.get("RAY_ADDRESS")
    if not joined:
        check_fits(config.cluster, [{"CPU": cores(), "GPU": torch.cuda.device_count()}])
    folder.check(config, fresh)
    connect(address)
    try:
        check_fits(config.cluster, ray_nodes())
        continued = folder.claim(config)
        log_to(folder.logs / "driver.log")
        say = console.print if not as_json else (lambda *_, **__: None)
        verb = "continuing" if continued else "running"
        say(f"{verb} [bold]{config.name}[/]; logs in {folder.logs}", highlight=False)
        with _signals() as interrupted, Progress(console, config.name, as_json) as progress:
            front = run_sweep(config, folder, progress, interrupted)
    except SweepFailed as error:
        console.print(f"[red]the sweep failed:[/] {error}", highlight=False)
        console.print(f"Finished trials are saved in {folder.path}; the same command goes on.")
        return 1
    except Interrupted:
        console.print("stopped; finished trials are saved, the same command goes on")
        return 130
    finally:
        ray.shutdown()
    if as_json:
        print(front.to_json())
    else:
        _last_words(config, folder, front, console)
    return 0


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
