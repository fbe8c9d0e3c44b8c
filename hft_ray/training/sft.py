"""Supervised fine-tuning: cross-entropy of the answers' tokens, weighted, or held to the base."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hft_ray.data import Item, Mixture, TrainingSet, as_batch
from hft_ray.evaluation.linear import Terms
from hft_ray.ranks import Ranks
from hft_ray.training.kl_to_base import HeldToBase
from hft_ray.training.loss import answer_loss
from hft_ray.training.low_perplexity import LowPerplexity
from hft_ray.training.objective import Batch, Loss
from hft_ray.training.token_weights import WEIGHTS, Weighing


class SupervisedFineTuning:
    """Cross-entropy of the answers' tokens.

    Attributes:
        data: The tokenised examples.

    Args:
        data: The tokenised examples.
        pad_id: Token id of padding.
        token_weights: ``training.token_weights``.
        mask: Which tokens are left out, for ``stm``.
        held: The penalty towards the base, if there is one.
    """

    width = 1

    def __init__(
        self,
        data: TrainingSet | Mixture,
        pad_id: int,
        token_weights: str = "none",
        mask: LowPerplexity | None = None,
        held: HeldToBase | None = None,
    ) -> None:
        self.data, self._pad_id = data, pad_id
        self._weighed = token_weights if token_weights in WEIGHTS else None
        self._mask, self._held = mask, held
        self.identity = data.identity

    @property
    def of_base(self) -> bool:
        """Whether the loss depends on what the base says."""
        return self._mask is not None or self._held is not None

    def __len__(self) -> int:
        return len(self.data)

    def units(self, indices: Sequence[int]) -> int:
        """Return the trained tokens of these examples."""
        return max(1, self.trained(indices))

    def trained(self, indices: Sequence[int]) -> int:
        """Return the tokens of the answers, but those that are left out."""
        counts = self.data.answer_tokens if self._mask is None else self._mask.kept
        return int(counts[list(indices)].sum())

    def lengths(self, indices: Sequence[int]) -> list[int]:
        """Return the tokens of each of these examples."""
        lengths: list[int] = self.data.lengths[list(indices)].tolist()
        return lengths

    def batch(self, indices: Sequence[int], packed: bool) -> Batch:
        """Return these examples, in one row or padded to the longest."""
        items: list[Item] = [self.data[index] for index in indices]
        mask = self._mask
        if mask is not None:
            items = [mask.masked(*each) for each in zip(indices, items, strict=True)]
        batch = as_batch(items, self._pad_id, packed)
        if self._held is None:
            return batch
        kept = [None if mask is None else mask.likely(index) for index in indices]
        return batch | self._held.fields(zip(indices, kept, strict=True))

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the summed cross-entropy of the trained tokens, in nats, as it is weighed.

        With the penalty towards the base, if there is one.
        """
        weighing = None if self._weighed is None else Weighing(self._weighed)
        penalty = None if self._held is None else self._held.of(batch)
        value = answer_loss(model, batch, Terms(weighing, penalty))
        return Loss(
            value, {} | (weighing.sums if weighing else {}) | (penalty.sums if penalty else {})
        )

    def begin(self, model: nn.Module, ranks: Ranks, base: str | None, packed: bool) -> None:
        """Learn what the base says, if the loss depends on it."""
        for each in (self._mask, self._held):
            if each is not None:
                each.ask(model, ranks, base, packed)

    def state(self) -> dict[str, Tensor]:
        """Nothing: what the base said is asked again."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing."""
