"""The intermediate models of a run that may be on the front, and their weights."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import nn

from hft_ray.artifacts import size_of
from hft_ray.pareto.dominance import is_dominated
from hft_ray.pareto.spread import least_needed
from hft_ray.ranks import Ranks
from hft_ray.training.kept import bytes_to_keep, keep
from hft_ray.training.outcome import ScoredVariant
from hft_ray.training.variant_builder import RunArtifacts

FINAL = "final"


class IntermediateModels:
    """Takes the scored models of a run, and keeps the weights of those that may be exported.

    Args:
        wanted: Where weights are kept, within which budget, and what is better.
        model: The model.
        base: Hash of the base weights.
        ranks: The processes that train together; every method is a collective.
    """

    def __init__(self, wanted: RunArtifacts, model: nn.Module, base: str, ranks: Ranks) -> None:
        self._wanted, self._model, self._base, self._ranks = wanted, model, base, ranks
        self.found: list[ScoredVariant] = []

    def take(self, step: int, values: dict[str, float], touched: Collection[str]) -> bool:
        """Take the model after ``step`` steps, unless an earlier one is better throughout.

        Where there are more than ``variants.steps`` then, the least needed one goes.

        Returns:
            Whether it was taken.
        """
        objectives, most = self._wanted.objectives, self._wanted.variants.steps
        if is_dominated(values, (each.values for each in self.found), objectives):
            return False
        new = ScoredVariant(f"step-{step}", step, values)
        self.found.append(new)
        self._drop_dominated_by(values)
        while len(self.found) > most:
            gone = least_needed([each.values for each in self.found], objectives)
            self._delete(self.found.pop(gone).variant)
        if new not in self.found:
            return False
        self._keep(new.variant, touched)
        return True

    def take_last(self, values: dict[str, float], touched: Collection[str]) -> None:
        """Take the trained model, of which the averages and the half-reset are made."""
        self._drop_dominated_by(values)
        self._keep(FINAL, touched)

    def _drop_dominated_by(self, values: dict[str, float]) -> None:
        """Delete the weights of what cannot be on a front any more."""
        for each in self.found:
            if is_dominated(each.values, [values], self._wanted.objectives):
                self._delete(each.variant)

    def _keep(self, name: str, touched: Collection[str]) -> None:
        folder = self._wanted.folder
        if folder is None:
            return
        with self._room_for(name, bytes_to_keep(self._model, touched)) as there_is:
            if there_is:
                keep(folder / name, self._model, touched, self._base, self._ranks)

    @contextmanager
    def _room_for(self, name: str, size: int) -> Iterator[bool]:
        """Yield whether so many bytes fit into the budget; no other trial writes meanwhile.

        Intermediate models give way to the last one of their run.
        """
        budget = self._wanted.budget
        if budget is None:
            yield True
            return
        if not self._ranks.main:
            yield self._ranks.broadcast(False)
            return
        with budget.locked():
            self._delete(name)  # of a process that was killed after it
            room = budget.room_for_final() if name == FINAL else budget.room_for_intermediate(size)
            for each in self.found if name == FINAL else []:
                if room < size:
                    room += self._delete(each.variant)
            yield self._ranks.broadcast(room >= size)

    def _delete(self, name: str) -> int:
        """Delete kept weights; return the bytes that were in them."""
        folder = self._wanted.folder
        if folder is None or not self._ranks.main:
            return 0
        freed = size_of(folder / name)
        shutil.rmtree(folder / name, ignore_errors=True)
        return freed
