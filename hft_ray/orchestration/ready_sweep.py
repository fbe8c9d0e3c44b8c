"""A sweep from its FILE to its front: every check first, then the cluster and the sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from hft_ray.background import BackgroundErrors
from hft_ray.config import Config, check_all
from hft_ray.orchestration.begin_warm import Say, start_warm
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.interrupts import signals
from hft_ray.orchestration.ray_cluster import (
    check_fits,
    check_sockets,
    connect,
    cores,
    joins,
    ray_nodes,
)
from hft_ray.orchestration.sweep import run_sweep
from hft_ray.orchestration.sweep_mirror import restore
from hft_ray.orchestration.sweep_view import Watch
from hft_ray.pareto import Front
from hft_ray.ranks import Ranks
from hft_ray.tracking import probe, tracking_uri
from hft_ray.training import Workspace, check
from hft_ray.training.hub import pinned


@dataclass(frozen=True)
class ReadySweep:
    """A sweep of which everything was checked; nothing is started.

    Attributes:
        folder: Its folder under the storage root.
        notes: What the user should know before it starts: the tracking store does not answer now.
        errors: Errors of its background work, filled while it runs.
    """

    folder: SweepFolder
    notes: list[str]
    _config: Config
    _address: str | None
    _begin_warm: Callable[[Say], None]
    _source: str | None = None
    errors: BackgroundErrors = field(default_factory=BackgroundErrors)

    def run(self, say: Say, watch: Watch) -> Front:
        """Join the cluster and run the sweep, or what is left of it; return its front.

        SIGINT and SIGTERM end it in order, if this is the main thread.

        Args:
            say: Shows a line about the start.
            watch: Called with every event, and the view after it.

        Raises:
            ConfigError: The cluster is too small, or the sweep is running already.
            ClusterError: A local Ray cluster does not start.
            SweepError: The base model cannot be scored, or Ray fails.
            InterruptedSweepError: A signal, or ``hft-ray stop``, asked for the end.
        """
        config, folder = self._config, self.folder
        say(f"{config.name}: logs in {folder.logs}")
        cluster = connect(self._address)
        check_fits(config.cluster, ray_nodes())
        if cluster["local"]:
            say(f"logs of the workers in {cluster['logs']}")
        with folder.held():
            if folder.claim(config):
                say(f"continuing the sweep in {folder.path}")
            self._begin_warm(say)
            with signals() as interrupted:
                return run_sweep(config, folder, watch, interrupted, self.errors, self._source)


def ready_sweep(
    config: Config, root: Path, address: str | None, fresh: bool, source: str | None
) -> ReadySweep:
    """Check everything about a sweep.

    Args:
        config: FILE with ``search``.
        root: Storage root.
        address: Address of a Ray cluster; see :func:`~hft_ray.orchestration.ray_cluster.connect`.
        fresh: Refuse to continue an earlier sweep of this name.
        source: FILE's name, for messages.

    Raises:
        ConfigError: Everything that is wrong.
    """
    # The commit of a hub name may change while the sweep runs, or before it is continued.
    config = pinned(config)
    folder = SweepFolder(root, config.name)
    restore(config, folder)
    folder.check(config, fresh)
    begin_warm = start_warm(config, folder)
    tracking = _Tracking(config, folder)
    check_all(
        lambda: check(config, Workspace(root, Ranks(), torch.device("cpu")), source),
        lambda: check_cluster(config, address),
        tracking.look,
        source=source,
    )
    # All else is right: the store may be written.
    tracking.try_out()
    return ReadySweep(folder, tracking.notes(), config, address, begin_warm, source)


def check_cluster(config: Config, address: str | None) -> None:
    """Refuse what a local cluster cannot run; another cluster is checked once it is joined."""
    if not joins(address):
        check_sockets()
        check_fits(config.cluster, [{"CPU": cores(), "GPU": torch.cuda.device_count()}])


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

    def notes(self) -> list[str]:
        """Return the sentences that say that the store does not answer now."""
        if self._away is None:
            return []
        return [
            f"the tracking store {self._uri} does not answer: {self._away}",
            f"The sweep starts; its events wait in {self._folder.spool} until it answers.",
        ]
