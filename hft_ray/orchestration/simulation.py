"""A simulated sweep from its FILE to its front: no Ray, no training, nothing in MLflow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hft_ray.config import Config, ConfigError, Problem
from hft_ray.orchestration.begin_warm import Say, start_warm
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.fronts import TrialPoints, front_builder, searched
from hft_ray.orchestration.interrupts import signals
from hft_ray.orchestration.sweep_errors import InterruptedSweepError
from hft_ray.orchestration.sweep_view import SweepView, Watch
from hft_ray.pareto import Front
from hft_ray.report.files import write_front
from hft_ray.search import Study
from hft_ray.search.prior_trials import WarmStart
from hft_ray.search.simulate import SimulatedEvent, simulate
from hft_ray.search.table import Table, read_table


@dataclass(frozen=True)
class ReadySimulation:
    """A sweep that is checked, and the table of learning curves that it is replayed from.

    Attributes:
        folder: The simulated sweep's folder.
    """

    folder: SweepFolder
    _config: Config
    _table: Table
    _begin_warm: Callable[[Say], None]

    def run(self, say: Say, watch: Watch) -> Front:
        """Replay the sweep, or what is left of it; return its front, written to the folder.

        Args:
            say: Shows a line about the start.
            watch: Called when the view has changed.

        Raises:
            ConfigError: The sweep is running already.
            InterruptedSweepError: A signal ended it before its last trial.
        """
        config, folder, table = self._config, self.folder, self._table
        with folder.held():
            folder.claim(config)
            say(f"{config.name}, simulated: nothing is trained or logged to MLflow")
            self._begin_warm(say)
            check_table(folder, table)
            _digest_in(folder).write_text(table.digest, encoding="utf-8")
            study = Study(config, folder.study, WarmStart.read(folder.warm))
            study.set_base_scores(table.base, reference := _reference(config, table))
            with signals() as interrupted:
                _replay(config, study, table, watch, interrupted)
            builder, points = front_builder(config, table.base, reference), TrialPoints(config)
            for known in study.trials():
                builder.put(known.trial, points.of(known))
            front = builder.front()
            write_front(front, searched(config), folder.path / "front")
        return front


def ready_simulation(config: Config, table: Path, root: Path, fresh: bool) -> ReadySimulation:
    """Read the table and check whether the sweep can be replayed from it.

    Args:
        config: FILE with ``search``; ``cluster.groups`` trials run at the same virtual time.
        table: The results that training would have had: a .jsonl, .jsonl.gz or .parquet file.
        root: Storage root.
        fresh: Refuse to continue an earlier simulated sweep of this name.

    Raises:
        ConfigError: Something is wrong; nothing was started.
    """
    folder = SweepFolder(root, config.name, simulated=True)
    folder.check(config, fresh)
    curves = read_table(table, config)
    check_table(folder, curves)
    return ReadySimulation(folder, config, curves, start_warm(config, folder))


def _replay(
    config: Config, study: Study, table: Table, watch: Watch, interrupted: threading.Event
) -> None:
    view = SweepView(config.name, study.planned(), config.cluster.groups)
    view.phase = "replaying"
    view.states = {known.trial: known.state for known in study.trials()}
    for event in simulate(study, table, config.cluster.groups, interrupted.is_set, table.base):
        _show(event, view)
        if event.kind != "report":
            view.planned = study.planned()
        watch({"event": "simulated", "trial": event.trial}, view)
    if study.left():
        raise InterruptedSweepError
    if study.ended_early is not None:
        view.phase = f"ended early: {study.ended_early}"
        watch({"event": "phase", "trial": ""}, view)


def _show(event: SimulatedEvent, view: SweepView) -> None:
    state = event.details.get("state", "running") if event.kind == "finished" else "running"
    view.states[event.trial] = state


def _reference(config: Config, table: Table) -> dict[str, float]:
    """Return the given reference point, completed by the worst values in the table."""
    assert config.search is not None
    return table.worst(config.search.objectives) | (config.search.reference_point or {})


def check_table(folder: SweepFolder, table: Table) -> None:
    """Refuse to continue a simulated sweep with another table.

    Raises:
        ConfigError: The sweep in this folder began with another table.
    """
    kept = _digest_in(folder)
    if kept.is_file() and kept.read_text("utf-8") != table.digest:
        problem = f"the simulated sweep in {folder.path} began with another table"
        raise ConfigError(Problem("--simulate", f"{problem}; take another name"))


def _digest_in(folder: SweepFolder) -> Path:
    return folder.path / "table.sha256"
