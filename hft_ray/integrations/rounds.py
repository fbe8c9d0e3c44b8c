"""The rounds of one training in another library's loop: draws, optimizer, audit, record."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from hft_ray.config import ConfigError, Problem, Selection
from hft_ray.integrations.optimizer import PartialOptimizer
from hft_ray.selection import (
    Checksums,
    Draw,
    FrozenChangedError,
    History,
    Schedule,
    Touched,
    apply,
    build_catalog,
    changed_message,
    draw,
    history_of,
    pool,
)


class TrainerRounds:
    """Selects what is trained from one optimizer step to the next.

    Args:
        model: Its parameters are the optimizer's.
        optimizer: Holds everything that may be drawn.
        selection: How to draw.
        schedule: When to draw again.
        first: Number of the first round.

    Raises:
        ConfigError: The model has parameters that may be drawn and that the optimizer lacks, or its
            structure is not understood.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: PartialOptimizer,
        selection: Selection,
        schedule: Schedule,
        first: int,
    ) -> None:
        self._model, self._optimizer = model, optimizer
        self._selection, self._schedule, self._first = selection, schedule, first
        self._parameters = dict(model.named_parameters())
        self._catalog = build_catalog(model)
        self._touched = Touched(self._catalog)
        self._checksums = Checksums(model) if selection.audit else None
        self._history = History()
        self._draw: Draw | None = None
        self._require_all()

    def _require_all(self) -> None:
        """Refuse an optimizer without all parameters that may be drawn: these would never train."""
        units = set(pool(self._catalog, self._selection))
        if self._selection.embeddings == "trained":
            units |= set(self._catalog.outside)
        names = [name for unit in self._catalog.units if unit in units for name in unit.parameters]
        members = self._optimizer.members
        missing = [name for name in names if self._parameters[name] not in members]
        if missing:
            raise ConfigError(
                Problem(
                    "optimizer",
                    f"lacks {len(missing)} parameters that may be selected, which would never be "
                    f"trained ({', '.join(missing[:3])}, ...): freeze nothing before the optimizer "
                    "is made, and use no adapters",
                )
            )

    def begin(self) -> None:
        """Select for the first step."""
        self._history = history_of(self._catalog, self._selection, self._first)
        self._select(draw(self._catalog, self._selection, self._first, self._history))

    def resume(self, step: int, record: Mapping[str, Any]) -> None:
        """Select what was selected when the :attr:`record` was made, after ``step`` steps.

        Raises:
            ConfigError: The record is of another selection or another model.
        """
        self._history = History(record["times_drawn"])
        number = self._round_of(step - 1)
        drawn = draw(self._catalog, self._selection, number, self._history)
        if drawn.hash != record["hash"]:
            raise ConfigError(
                Problem(
                    "resume_from_checkpoint",
                    f"the checkpoint's selection of round {record['round']} is not the one drawn "
                    f"for step {step}, round {number}: it is of another model, or of epochs of "
                    "another length",
                    record["hash"],
                )
            )
        earlier = [unit for unit in self._catalog.units if self._history.times_drawn.get(unit.name)]
        self._touched.restore(name for unit in earlier for name in unit.parameters)
        self._select(drawn, resumed=True)

    def at(self, step: int) -> None:
        """Draw again if a round begins with the optimizer step ``step`` (from 0).

        Raises:
            FrozenChangedError: What was frozen in the round before has changed.
        """
        assert self._draw is not None
        number = self._round_of(step)
        if number == self._draw.round:
            return
        self.prove()
        self._history = self._history.after(self._draw.units)
        self._select(draw(self._catalog, self._selection, number, self._history))

    def _round_of(self, step: int) -> int:
        return self._first + self._schedule.round_of(step)

    def _select(self, drawn: Draw, *, resumed: bool = False) -> None:
        self._draw = drawn
        self._touched.add(drawn)
        apply(self._model, drawn)
        chosen = [self._parameters[name] for name in drawn.parameters]
        self._optimizer.select(chosen, resumed=resumed)
        if self._checksums is not None:
            self._checksums.start(drawn.parameters)

    def prove(self) -> None:
        """Prove that what is frozen is as it was at the beginning of the round.

        Raises:
            FrozenChangedError: It is not.
        """
        changed: Collection[str] = self._checksums.changed() if self._checksums else ()
        if changed:
            raise FrozenChangedError(changed_message(changed))

    @property
    def record(self) -> dict[str, Any]:
        """What :meth:`resume` needs, for JSON: the round, its hash and the draws before it."""
        assert self._draw is not None
        return {
            "round": self._draw.round,
            "hash": self._draw.hash,
            "times_drawn": dict(self._history.times_drawn),
        }

    @property
    def values(self) -> dict[str, float]:
        """The metrics of the selection, named as in ``hft-ray train``."""
        assert self._draw is not None
        return self._touched.metrics(self._draw)

    def end(self) -> None:
        """Restore the optimizer, and make all of its parameters trainable again."""
        self._optimizer.release()
        for parameter in self._optimizer.members:
            parameter.requires_grad_(True)
