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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hft_ray.config import Dpo
from hft_ray.data import PairSet, collate_pairs
from hft_ray.training.loss import IGNORED, answer_logprobs
from hft_ray.training.objective import Batch, Loss


def preference_loss(
    method: Dpo, logprobs: Tensor, reference: Tensor, lengths: Tensor
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
        capacity: Tokens of a row that several sequences share; ``None``: a row for each.
    """

    def __init__(self, method: Dpo, pairs: PairSet, pad_id: int, capacity: int | None) -> None:
        self._method, self._pairs = method, pairs
        self._pad_id, self._capacity = pad_id, capacity
        self.identity = pairs.identity
        self.reference: NDArray[np.float32] | None = None
        """log ref(y | x) of all pairs, [n, 2]: see ``reference``."""

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longer sequence of each pair, [n]."""
        return self._pairs.lengths

    def units(self, indices: Sequence[int]) -> int:
        """Return the number of pairs."""
        return len(indices)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Return these pairs as one batch, with their reference."""
        assert self.reference is not None
        reference = torch.from_numpy(self.reference[list(indices)])
        return self.plain_batch(indices) | {"reference": reference}

    def plain_batch(self, indices: Sequence[int]) -> Batch:
        """Return these pairs as one batch, as the reference itself is asked."""
        pairs = [self._pairs[index] for index in indices]
        return collate_pairs(pairs, self._pad_id, self._capacity)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the summed loss, and sums of what the rewards are."""
        count = len(batch["reference"])
        logprobs = answer_logprobs(model, batch, 2 * count).view(count, 2)
        lengths = _lengths(batch, 2 * count).view(count, 2)
        losses, rewards = preference_loss(self._method, logprobs, batch["reference"], lengths)
        chosen, rejected = rewards.detach().unbind(dim=1)
        return Loss(
            losses.sum(),
            {
                "rewards_chosen": chosen.sum(),
                "rewards_rejected": rejected.sum(),
                "rewards_margin": (chosen - rejected).sum(),
                "rewards_accuracy": (chosen > rejected).float().sum(),
                "logprob_chosen": logprobs[:, 0].detach().sum(),
                "logprob_rejected": logprobs[:, 1].detach().sum(),
            },
        )


def _lengths(batch: Batch, count: int) -> Tensor:
    """Return the trained tokens of each document, [count]."""
    owners = batch["documents"][batch["labels"] != IGNORED]
    return (owners == torch.arange(count, device=owners.device)[:, None]).sum(dim=1)
