"""Which kept weights of a sweep stay: those of the front, within the disk budget.

``sweeps/NAME/weights/TRIAL/`` holds ``final`` and ``step-N``. Averages and half-resets are made of
``final`` when they are exported, so it stays while one of them is on the front.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from hft_ray.artifacts import DiskBudget, size_of
from hft_ray.config import Config
from hft_ray.pareto import Front, Point, build_front


class KeptWeights:
    """The kept weights of one sweep.

    Args:
        folder: Their folder.
        budget: What they may take, None for any number of bytes.
        intermediate: Whether trials also keep intermediate models.
    """

    def __init__(
        self, folder: Path, budget: DiskBudget | None = None, intermediate: bool = False
    ) -> None:
        self._folder, self._budget, self._intermediate = folder, budget, intermediate
        self._largest = 0
        self._gone: set[str] = set()

    def of(self, point: Point) -> Path:
        """Return the folder from which a point is made."""
        return self._folder / point.trial / source_of(point.variant)

    def prune(self, front: Front, ended: Collection[str]) -> dict[tuple[str, str | None], str]:
        """Delete what no point of the front needs, of trials that have ended.

        Args:
            front: The front so far.
            ended: Trials that write no more.

        Returns:
            (trial, variant) -> what became of its weights, for the points of ``ended``. A trial
            is left out once all its weights are gone and that has been returned.
        """
        trials = set(ended) - self._gone
        there = [path for path in self._there() if path.parent.name in trials]
        sizes = {path: size_of(path) for path in there}
        self._largest = max([self._largest, *sizes.values()])
        needed = {self.of(point) for point in front.members}
        for path in there:
            if path not in needed:
                _delete(path)
        kept = {path: sizes[path] for path in there if path in needed}
        for path in self._over_budget(front, kept):
            _delete(path)
        left = {(path.parent.name, path.name) for path in kept}
        # What could not be deleted is tried again.
        self._gone |= {trial for trial in trials if not any((self._folder / trial).glob("*"))}
        return {
            (point.trial, point.variant): _fate(point, on_front, left)
            for point, on_front in zip(front.points, front.on_front, strict=True)
            if point.trial in trials and point.state == "complete"
        }

    def _there(self) -> list[Path]:
        """Return all that is there, what a killed process left half written included."""
        return sorted(self._folder.glob("*/*"))

    def _over_budget(self, front: Front, kept: dict[Path, int]) -> list[Path]:
        """Take out of ``kept`` what has to go, least loss of hypervolume first, and return it."""
        if self._budget is None or not kept:
            return []
        room = self._budget.room_for_ended(self._largest, self._intermediate)
        gone: list[Path] = []
        members = list(front.members)
        while len(kept) > 1 and sum(kept.values()) > room:
            losses = {
                path: -_hypervolume(front, [each for each in members if self.of(each) != path])
                for path in kept
            }
            path = min(losses, key=lambda each: losses[each])
            members = [each for each in members if self.of(each) != path]
            del kept[path]
            gone.append(path)
        return gone


def disk_budget(config: Config, folder: Path) -> DiskBudget | None:
    """Return what the kept weights in ``folder`` may take, None for any number of bytes."""
    assert config.search is not None
    most = config.search.disk_bytes
    return None if most is None else DiskBudget(folder, most, config.cluster.groups)


def source_of(variant: str | None) -> str:
    """Return the name of the kept weights that a variant is made from."""
    return variant if variant is not None and variant.startswith("step-") else "final"


def _fate(point: Point, on_front: bool, there: Collection[tuple[str, str]]) -> str:
    if (point.trial, source_of(point.variant)) in there:
        return "kept"
    return "deleted: disk budget" if on_front else "deleted: dominated"


def _hypervolume(front: Front, points: list[Point]) -> float:
    built = build_front(front.sweep, front.objectives, points, front.base, front.reference_point)
    return built.hypervolume


def _delete(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.parent.rmdir()  # unless other weights of the trial are there
