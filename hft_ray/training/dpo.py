"""Direct preference optimisation: chosen answers become likelier than rejected ones.

Notation: x a prompt, y_w the chosen and y_l the rejected answer, |y| its tokens, pi the model,
ref the reference.

    r(y)     = beta (log pi(y | x) - log ref(y | x))                      the implicit reward
    margin m = r(y_w) - r(y_l)

    sigmoid    -(1 - e) log sigma(m) - e log sigma(-m)     Rafailov et al., arXiv 2305.18290, eq. 7,
                                                           with e = 0; e > 0 is their conservative
                                                           DPO: labels are wrong with probability e
    ipo        (h_w / |y_w| - h_l / |y_l| - 1 / (2 beta))^2, h = r / beta
                                                           Azar et al., arXiv 2310.12036, eq. 17,
                                                           per token as in TRL, whose authors have
                                                           it from the paper's; beta is its tau

The loss of a step is the sum over its pairs divided by their number, so it does not depend on
which pairs share a micro-batch, a row or a rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hft_ray.config import Preferences
from hft_ray.data import PairSet, collate_pairs, on_device
from hft_ray.evaluation.sharding import map_batches, scoring
from hft_ray.ranks import Ranks
from hft_ray.training.loss import IGNORED, answer_logprobs
from hft_ray.training.objective import Batch, Loss
from hft_ray.training.reference import ReferenceStore

Logprobs = NDArray[np.float32]
"""log ref(y | x) of the chosen and the rejected answer of every pair, [n, 2]."""

SUMS = (
    "rewards_chosen",
    "rewards_rejected",
    "rewards_margin",
    "rewards_accuracy",
    "logprob_chosen",
    "logprob_rejected",
)
"""What is measured of the pairs beside their loss; means over pairs are ``train/NAME``."""


def preference_loss(
    method: Preferences, logprobs: Tensor, reference: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the loss of each pair [B], and the rewards of its answers [B, 2].

    Args:
        method: The section of FILE.
        logprobs: log pi(y | x) of the chosen and the rejected answers, [B, 2].
        reference: log ref(y | x), [B, 2].
        lengths: Tokens of the answers, [B, 2].
    """
    ratios = logprobs - reference
    rewards = method.beta * ratios
    if method.loss == "ipo":
        chosen, rejected = (ratios / lengths).unbind(dim=1)
        return (chosen - rejected - 1 / (2 * method.beta)) ** 2, rewards
    margins = rewards[:, 0] - rewards[:, 1]
    wrong = method.label_smoothing
    losses = -(1 - wrong) * F.logsigmoid(margins) - wrong * F.logsigmoid(-margins)
    return losses, rewards


class DirectPreference:
    """The preference loss over pairs, against a fixed reference.

    Args:
        method: The section of FILE.
        pairs: The tokenised pairs.
        pad_id: Token id of padding.
        store: Where the reference is kept if it is the base.
        batch_size: Pairs of a forward pass in which the reference is asked.
    """

    width = 2
    of_base = False

    def __init__(
        self,
        method: Preferences,
        pairs: PairSet,
        pad_id: int,
        store: ReferenceStore,
        batch_size: int,
    ) -> None:
        self._method, self._pairs = method, pairs
        self._pad_id = pad_id
        self._store, self._batch_size = store, batch_size
        self._reference: Logprobs | None = None
        self.identity = pairs.identity

    def __len__(self) -> int:
        return len(self._pairs)

    def units(self, indices: Sequence[int]) -> int:
        """Return the number of pairs."""
        return len(indices)

    def trained(self, indices: Sequence[int]) -> int:
        """Return the tokens of both answers of these pairs."""
        return int(self._pairs.sequences.answer_tokens.reshape(-1, 2)[list(indices)].sum())

    def lengths(self, indices: Sequence[int]) -> list[int]:
        """Return the tokens of each of these pairs, both sequences together."""
        both = self._pairs.sequences.lengths.reshape(-1, 2).sum(axis=1)
        lengths: list[int] = both[list(indices)].tolist()
        return lengths

    def batch(self, indices: Sequence[int], packed: bool) -> Batch:
        """Return these pairs as one batch, with their reference."""
        assert self._reference is not None, "the stage has not begun"
        reference = torch.from_numpy(self._reference[list(indices)])
        return self._collate(indices, packed) | {"reference": reference}

    def _collate(self, indices: Sequence[int], packed: bool) -> Batch:
        return collate_pairs([self._pairs[index] for index in indices], self._pad_id, packed)

    def begin(self, model: nn.Module, ranks: Ranks, base: str | None, packed: bool) -> None:
        """Take ``model`` for the reference: ask it once, or know what the base said before."""

        def ask() -> Logprobs:
            return self._ask(model, ranks, packed)

        kept = ask() if base is None else self._store.get([base, self.identity], ranks, ask)
        self._reference = np.array(kept)

    def _ask(self, model: Any, ranks: Ranks, packed: bool) -> Logprobs:
        """Return log ref(y | x) of all pairs, [n, 2]."""
        device = next(model.parameters()).device

        def compute(indices: list[int]) -> list[list[float]]:
            batch = on_device(self._collate(indices, packed), device)
            logprobs, _ = answer_logprobs(model, batch, 2 * len(indices))
            found: list[list[float]] = logprobs.view(-1, 2).tolist()
            return found

        with scoring(model):
            rows = map_batches(compute, self._pairs.lengths, self._batch_size, ranks)
        return np.array(rows, dtype=np.float32)

    def state(self) -> dict[str, Tensor]:
        """Return the reference, which no later model can give again."""
        assert self._reference is not None
        return {"reference": torch.from_numpy(self._reference)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over the reference."""
        self._reference = state["reference"].numpy()

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the summed loss, and sums of what the rewards are."""
        count = len(batch["reference"])
        asked, router = answer_logprobs(model, batch, 2 * count)
        logprobs = asked.view(count, 2)
        lengths = _lengths(batch, 2 * count).view(count, 2)
        losses, rewards = preference_loss(self._method, logprobs, batch["reference"], lengths)
        chosen, rejected = rewards.detach().unbind(dim=1)
        found = (
            chosen,
            rejected,
            chosen - rejected,
            (chosen > rejected).float(),
            *logprobs.detach().unbind(dim=1),
        )
        loss = losses.sum()
        if router is not None:
            # As TRL does: the policy's forward pass, once for a mean over its pairs.
            loss = loss + router * count
        return Loss(loss, {name: x.sum() for name, x in zip(SUMS, found, strict=True)})


def _lengths(batch: Batch, count: int) -> Tensor:
    """Return the trained tokens of each document, [count]."""
    owners = batch["documents"][batch["labels"] != IGNORED]
    return (owners == torch.arange(count, device=owners.device)[:, None]).sum(dim=1)
