"""A simulated sweep from its FILE to its front: no Ray, no training, nothing in MLflow."""

from __future__ import annotations

import threading
from pathlib import Path

from hft_ray.config import Config, ConfigError, Problem
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.fronts import TrialPoints, front_builder, searched
from hft_ray.orchestration.sweep_view import SweepView, Watch
from hft_ray.pareto import Front
from hft_ray.report.files import write_front
from hft_ray.search import Study
from hft_ray.search.prior_trials import WarmStart
from hft_ray.search.simulate import SimulatedEvent, simulate
from hft_ray.search.table import Table


def run_simulated(
    config: Config, folder: SweepFolder, table: Table, watch: Watch, interrupted: threading.Event
) -> Front | None:
    """Replay a sweep, or what is left of it, from a table of learning curves.

    Args:
        config: FILE with ``search``; ``cluster.groups`` trials run at the same virtual time.
        folder: The simulated sweep's folder, claimed.
        table: The results that training would have had.
        watch: Called when the view has changed.
        interrupted: Set from outside to end early.

    Returns:
        The front, written to the folder; None when ``interrupted`` ended the sweep before its last
        trial. The same call continues it.

    Raises:
        ConfigError: The table is another one than before, or the sweep is running.
    """
    reference = _reference(config, table)
    with folder.held():
        check_table(folder, table)
        _digest_in(folder).write_text(table.digest, encoding="utf-8")
        study = Study(config, folder.study, WarmStart.read(folder.warm))
        study.set_base_scores(table.base, reference)
        view = SweepView(config.name, study.planned(), config.cluster.groups)
        view.phase = "replaying"
        view.states = {known.trial: known.state for known in study.trials()}
        for event in simulate(study, table, config.cluster.groups, interrupted.is_set, table.base):
            _show(event, view)
            if event.kind != "report":
                view.planned = study.planned()
            watch({"event": "simulated", "trial": event.trial}, view)
        if study.left():
            return None
        if study.ended_early is not None:
            view.phase = f"ended early: {study.ended_early}"
            watch({"event": "phase", "trial": ""}, view)
        builder, points = front_builder(config, table.base, reference), TrialPoints(config)
        for known in study.trials():
            builder.put(known.trial, points.of(known))
        front = builder.front()
        write_front(front, searched(config), folder.path / "front")
    return front


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
