"""``hft-ray tune``: a sweep, on a Ray cluster or replayed from a table."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hft_ray.background import log_handler
from hft_ray.config import Config, ConfigError, Problem
from hft_ray.storage_root import storage_root

if TYPE_CHECKING:
    from hft_ray.orchestration.dry_run import DryRun
    from hft_ray.orchestration.ready_sweep import ReadySweep
    from hft_ray.orchestration.simulation import ReadySimulation
    from hft_ray.orchestration.sweep_view import SweepView, Watch
    from hft_ray.pareto import Front

Say = Callable[[str], object]
"""Shows the user a line."""


def tune(
    config: Config,
    *,
    storage: str | Path | None = None,
    address: str | None = None,
    fresh: bool = False,
    say: Say | None = print,
) -> Front:
    """Run a sweep, or what is left of it: the same name goes on where it stopped.

    It runs on the Ray cluster that this process is in; else on that at ``address`` or
    ``$RAY_ADDRESS``; else on a local one, which stays until this process ends. An interrupt
    (Ctrl-C, or a notebook's stop button) ends it in order.

    Args:
        config: What :func:`hft_ray.load` returned.
        storage: Storage root; by default ``$HFT_RAY_HOME``, else ``~/hft-ray``. On a cluster of
            several nodes a folder that all of them share.
        address: Address of a Ray cluster.
        fresh: Refuse to continue an earlier sweep of this name.
        say: Called with a line for what happens; None for silence.

    Returns:
        The front of all trials of the sweep, those of earlier calls included.

    Raises:
        ConfigError: Settings, model, data or cluster are wrong; nothing was started.
        ClusterError: A local Ray cluster does not start.
        SweepError: The sweep cannot continue; what is finished is saved.
        InterruptedSweepError: It was asked to end; what is finished is saved.
    """
    ready = ready_to_tune(config, storage=storage, address=address, fresh=fresh)
    for line in ready.notes:
        warnings.warn(line, stacklevel=2)
    try:
        with _logged(ready.folder.logs / "driver.log"):
            return ready.run(*_told(say))
    finally:
        for line in ready.errors.summary():
            warnings.warn(line, stacklevel=2)


def simulate(
    config: Config,
    table: str | Path,
    *,
    storage: str | Path | None = None,
    fresh: bool = False,
    say: Say | None = None,
) -> Front:
    """Replay a sweep from a table of learning curves: nothing is trained or written to MLflow.

    Args:
        config: What :func:`hft_ray.load` returned.
        table: A .jsonl, .jsonl.gz or .parquet file of rows ``{params, step, metrics, seconds}``.
        storage: Storage root; the front is written to ``simulated/NAME/front`` below it.
        fresh: Refuse to continue an earlier simulated sweep of this name.
        say: Called with a line for what happens; None for silence.

    Raises:
        ConfigError: Settings or table are wrong; nothing was started.
        InterruptedSweepError: It was interrupted; the same call goes on.
    """
    ready = ready_to_simulate(config, table, storage=storage, fresh=fresh)
    return ready.run(*_told(say))


def ready_to_tune(
    config: Config,
    *,
    storage: str | Path | None = None,
    address: str | None = None,
    fresh: bool = False,
    source: str | None = None,
) -> ReadySweep:
    """Check everything about a sweep; arguments and errors as :func:`tune`.

    ``source`` is FILE's name, for messages.
    """
    _require_search(config, source)
    root = storage_root(storage)
    _stay_on_loopback(address)
    from hft_ray.orchestration.ready_sweep import ready_sweep

    return ready_sweep(config, root, address, fresh, source)


def look_only(
    config: Config,
    *,
    storage: str | Path | None = None,
    address: str | None = None,
    fresh: bool = False,
    source: str | None = None,
) -> DryRun:
    """Check everything about a sweep, on every node of the cluster too, and start nothing.

    Arguments as :func:`ready_to_tune`.
    """
    _require_search(config, source)
    root = storage_root(storage)
    _stay_on_loopback(address)
    from hft_ray.orchestration.dry_run import dry_run

    return dry_run(config, root, address, fresh, source)


def ready_to_simulate(
    config: Config,
    table: str | Path,
    *,
    storage: str | Path | None = None,
    fresh: bool = False,
    source: str | None = None,
) -> ReadySimulation:
    """Check everything about a simulated sweep; arguments and errors as :func:`simulate`."""
    _require_search(config, source)
    from hft_ray.orchestration.simulation import ready_simulation

    return ready_simulation(config, Path(table), storage_root(storage), fresh)


def _stay_on_loopback(address: str | None) -> None:
    """Have a local cluster listen on loopback only; comes before Ray is imported."""
    if not (address or os.environ.get("RAY_ADDRESS")):
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


def _require_search(config: Config, source: str | None) -> None:
    if config.search is None:
        problem = "is missing; for a single run without a search use hft-ray train"
        raise ConfigError(Problem("search", problem), source)


def _told(say: Say | None) -> tuple[Callable[[str], None], Watch]:
    """Return what shows a line, and what shows the line of an event."""
    from hft_ray.orchestration.sweep_lines import describe

    def tell(line: str) -> None:
        if say is not None:
            say(line)

    def watch(event: dict[str, Any], view: SweepView) -> None:
        line = describe(event, view)
        if line is not None:
            tell(line)

    return tell, watch


@contextmanager
def _logged(file: Path) -> Iterator[None]:
    """Append what this package logs to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler, log = log_handler(file), logging.getLogger("hft_ray")
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(handler)
        handler.close()
