"""Pictures of single trials, drawn beside the sweep: a picture takes longer than all else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hft_ray.report.selection_png import render_selection
from hft_ray.report.tasks_png import render_sequence, sequence_csv

log = logging.getLogger(__name__)


class TrialPictures:
    """Draws what a trial has selected, and what its tasks scored in turn, in a thread of its own.

    A picture that cannot be drawn is logged and left out.

    Args:
        folder: Where the files are written.
        sweep: Name of the sweep, for titles.
        keep: Logs a file: its path, its name among the artifacts, the trial.
    """

    def __init__(
        self, folder: Path, sweep: str, keep: Callable[[Path, str, str | None], None]
    ) -> None:
        self._folder, self._sweep, self._keep = folder, sweep, keep
        self._thread = ThreadPoolExecutor(1, "pictures")

    def draw(self, trial: str, event: Mapping[str, Any]) -> None:
        """Draw a trial that has ended, from the event that says so; returns at once."""
        for key, draw in (("selection", self._selection), ("continual", self._tasks)):
            if event.get(key):
                self._thread.submit(draw, trial, event).add_done_callback(_logged)

    def close(self) -> None:
        """Wait until all is drawn."""
        self._thread.shutdown()

    def _selection(self, trial: str, event: Mapping[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{trial}.png"
        render_selection(event["selection"], event["steps"], f"{trial} of {self._sweep}", path)
        self._keep(path, "selection.png", trial)

    def _tasks(self, trial: str, event: Mapping[str, Any]) -> None:
        """Write what a trial of tasks in turn scored after each: a table and its picture."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{trial}-tasks"
        table, picture = path.with_suffix(".csv"), path.with_suffix(".png")
        table.write_text(sequence_csv(event["continual"]), encoding="utf-8")
        render_sequence(event["continual"], f"{trial} of {self._sweep}", picture)
        self._keep(table, "tasks.csv", trial)
        self._keep(picture, "tasks.png", trial)


def _logged(drawn: Future[None]) -> None:
    if error := drawn.exception():
        log.warning("a picture was not drawn: %s", error, exc_info=error)
