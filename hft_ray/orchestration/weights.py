"""Which kept weights of a sweep stay: those of the front, within the disk budget.

``sweeps/NAME/weights/TRIAL/`` holds ``final`` and ``step-N``. Averages and half-resets are made of
``final`` when they are exported, so it stays while one of them is on the front.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hft_ray.pareto import Front, Point, build_front


@dataclass(frozen=True)
class Pruned:
    """Weights that were deleted, and why: ``dominated`` or ``disk budget``."""

    trial: str
    name: str
    reason: str


class KeptWeights:
    """The kept weights of one sweep.

    Args:
        folder: Their folder.
        budget: Most bytes that they may take, None for any.
        spare: How many trials write at the same time: the budget leaves room for as many more.
    """

    def __init__(self, folder: Path, budget: int | None, spare: int) -> None:
        self._folder, self._budget, self._spare = folder, budget, spare

    def of(self, point: Point) -> Path:
        """Return the folder from which a point is made."""
        return self._folder / point.trial / source_of(point.variant)

    def prune(self, front: Front, ended: Collection[str]) -> list[Pruned]:
        """Delete what no point of the front needs, of trials that have ended.

        Args:
            front: The front so far.
            ended: Trials that write no more.
        """
        there = [
            path for trial in sorted(ended) for path in sorted((self._folder / trial).glob("[!.]*"))
        ]
        needed = {self.of(point) for point in front.members}
        pruned = [_delete(path, "dominated") for path in there if path not in needed]
        kept = {path: size_of(path) for path in there if path in needed}
        for path in self._over_budget(front, kept):
            pruned.append(_delete(path, "disk budget"))
        return pruned

    def _over_budget(self, front: Front, kept: dict[Path, int]) -> list[Path]:
        """Return what has to go: least loss of hypervolume first."""
        if self._budget is None or not kept:
            return []
        room = self._budget - self._spare * max(kept.values())
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


def source_of(variant: str | None) -> str:
    """Return the name of the kept weights that a variant is made from."""
    return variant if variant is not None and variant.startswith("step-") else "final"


def size_of(folder: Path) -> int:
    """Return the bytes of the files in ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _hypervolume(front: Front, points: list[Point]) -> float:
    built = build_front(front.sweep, front.objectives, points, front.base, front.reference_point)
    return built.hypervolume


def _delete(path: Path, reason: str) -> Pruned:
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.parent.rmdir()  # unless other weights of the trial are there
    return Pruned(path.parent.name, path.name, reason)
