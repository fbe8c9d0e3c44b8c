"""Proof that frozen parameters do not change: checksums at the start and the end of a round."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from hft_ray.ranks import Ranks
from hft_ray.selection import Checksums, FrozenChangedError, changed_message
from hft_ray.training.partitioned import held


class Audit:
    """Checksums of the frozen parameters of a model.

    Args:
        model: The model.
        ranks: The processes that train together. Each looks at what it holds: the whole parameter,
            or its part under ZeRO-3.
    """

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        self._checksums = Checksums(model, held)
        self._ranks = ranks

    def start(self, trained: Collection[str]) -> None:
        """Note the checksums of all parameters but the ``trained`` ones, as a round starts."""
        self._checksums.start(trained)

    def prove(self) -> None:
        """Compare with the checksums noted (a collective).

        Raises:
            FrozenChangedError: On every rank, when a frozen parameter changed on any.
        """
        gathered = self._ranks.gather(self._checksums.changed())
        names = {name for each in gathered for name in each}
        if names:
            raise FrozenChangedError(changed_message(names))
