"""Pictures of single trials, drawn in the background: a picture takes longer than all else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from hft_ray.background import CLOSING_ATTEMPTS, RETRY, BackgroundErrors, Worker
from hft_ray.report.selection_png import render_selection
from hft_ray.report.tasks_png import render_sequence, sequence_csv
from hft_ray.strict_json import dumps_exact, loads_exact

WORK = "pictures of trials"
DRAWN = ("selection", "steps", "continual")
"""What a picture is drawn from: keys of the event that ends a trial."""


class TrialPictures:
    """Draws what a trial has selected, and what its tasks scored in turn.

    What is to be drawn lies in the folder as ``TRIAL.json`` until it is drawn, so that the next
    start of the sweep draws what this one could not.

    Args:
        folder: Where the files are written.
        sweep: Name of the sweep, for titles.
        keep: Logs a file: its path, its name among the artifacts, the trial.
        errors: Takes the errors, and what is left undone.
        retry: First and longest pause after an error, in seconds.
    """

    def __init__(
        self,
        folder: Path,
        sweep: str,
        keep: Callable[[Path, str, str | None], None],
        errors: BackgroundErrors,
        retry: tuple[float, float] = RETRY,
    ) -> None:
        self._folder, self._sweep, self._keep, self._errors = folder, sweep, keep, errors
        self._new: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._failures: Counter[str] = Counter()
        self._worker = Worker(WORK, self._step, errors.caught, retry)

    def start(self) -> None:
        """Draw what an earlier start of the sweep has left."""
        self._worker.wake()

    def draw(self, trial: str, event: Mapping[str, Any]) -> None:
        """Draw a trial from the event that ends it; returns at once."""
        if event.get("selection") or event.get("continual"):
            content = {key: event.get(key) for key in DRAWN}
            self._new.put((trial, dumps_exact(content)))
            self._worker.wake()

    def close(self, timeout: float) -> None:
        """Draw what is left, for at most so many seconds."""
        self._worker.close(timeout)
        left = len(self._waiting()) + self._new.qsize()
        if left:
            trials = f"{left} trial{'s' if left > 1 else ''}"
            undone = f"the pictures of {trials} are not drawn; the same command draws them"
            self._errors.leave(WORK, undone)

    def _waiting(self) -> list[Path]:
        return sorted(self._folder.glob("*.json"))

    def _step(self) -> None:
        """Draw every trial that waits; raise the first error when all have had their turn."""
        while not self._new.empty():
            trial, content = self._new.get()
            try:
                self._write(self._folder / f"{trial}.json", content)
            except OSError:
                self._new.put((trial, content))
                raise
        errors = []
        for path in self._waiting():
            # A picture that cannot be drawn is left to the next start.
            if self._failures[path.stem] >= CLOSING_ATTEMPTS:
                continue
            try:
                self._draw(path.stem, loads_exact(path.read_bytes()))
                path.unlink()
            except Exception as error:  # noqa: BLE001 - the others are drawn all the same
                self._failures[path.stem] += 1
                errors.append(error)
        if errors:
            raise errors[0]

    def _write(self, path: Path, content: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        partial.write_text(content, encoding="utf-8")
        partial.replace(path)

    def _draw(self, trial: str, content: Mapping[str, Any]) -> None:
        title, path = f"{trial} of {self._sweep}", self._folder / f"{trial}.png"
        if selection := content["selection"]:
            render_selection(selection, content["steps"], title, path)
            self._keep(path, "selection.png", trial)
        if tasks := content["continual"]:
            path = self._folder / f"{trial}-tasks"
            table, picture = path.with_suffix(".csv"), path.with_suffix(".png")
            table.write_text(sequence_csv(tasks), encoding="utf-8")
            render_sequence(tasks, title, picture)
            self._keep(table, "tasks.csv", trial)
            self._keep(picture, "tasks.png", trial)
