"""What a stage of training minimises: a loss that is summed, over data that is addressed by index.

The engine divides the sums by the units of the whole step, so that the result does not depend on
how the step was cut into micro-batches and ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from hft_ray.ranks import Ranks

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Loss:
    """What one forward pass gives.

    Attributes:
        value: Scalar, the summed loss of the batch; its gradient is what trains.
        sums: Further sums over the batch, scalars without a gradient: name -> sum. Divided by the
            step's units they are logged as ``train/NAME``.
    """

    value: Tensor
    sums: dict[str, Tensor] = field(default_factory=dict)


LossFunction = Callable[[nn.Module, Batch], Loss]


class Objective(Protocol):
    """A loss and the examples that it is taken of."""

    @property
    def identity(self) -> str:
        """Hash of the data, by which a checkpoint knows its run."""

    @property
    def width(self) -> int:
        """Sequences of one example."""

    @property
    def of_base(self) -> bool:
        """Whether :meth:`begin` wants the untouched base, whatever stage it is of."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def units(self, indices: Sequence[int]) -> int:
        """Return what the summed loss of these examples is divided by, at least 1."""

    def trained(self, indices: Sequence[int]) -> int:
        """Return the tokens of these examples that have a loss."""

    def lengths(self, indices: Sequence[int]) -> list[int]:
        """Return the tokens of each of these examples."""

    def batch(self, indices: Sequence[int], packed: bool) -> Batch:
        """Return these examples as one batch, on the CPU; ``input_ids`` is among its tensors.

        Args:
            indices: The examples.
            packed: Whether they are one row, which needs ``Documents.apart``, or padded.
        """

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of a batch, which is on the model's device."""

    def begin(self, model: nn.Module, ranks: Ranks, base: str | None, packed: bool) -> None:
        """Look at the model as it is before the stage changes it (a collective).

        If it is ``of_base``, the model is the one before the run's first step.

        Args:
            model: The model.
            ranks: The processes of the run.
            base: What the model is, if it is the untouched base: its weights and number format.
            packed: As for :meth:`batch`.
        """

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint within the stage has to keep: CPU tensors by name."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what :meth:`state` gave, in the place of :meth:`begin`."""
