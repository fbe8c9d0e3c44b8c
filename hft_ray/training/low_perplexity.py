"""Selective token masking: tokens that the base finds unlikely are not trained.

    w_t = 1 if exp(-log p_base(y_t)) <= tau, else 0

with p_base the base's distribution at the position that predicts token t, y_t the token that
followed, and tau a perplexity (Wu et al., "Mitigating Forgetting in LLM Fine-Tuning via
Low-Perplexity Token Learning", arXiv 2501.14315). As in the authors' code the mask is made once, of
the base; what is masked stays in the context, and does not count among the trained tokens.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hft_ray.config import ConfigError, Problem
from hft_ray.data import Item
from hft_ray.evaluation.tokens import target_logprobs
from hft_ray.ranks import Ranks
from hft_ray.training.base_tokens import BaseTokens
from hft_ray.training.loss import IGNORED
from hft_ray.training.reference import Numbers

NAME = "log-probability"
"""What the base is asked for; see :class:`BaseTokens`."""

log = logging.getLogger(__name__)


def logprobs(logits: Tensor, targets: Tensor) -> Numbers:
    """Return log p(y_t) of some positions, float32, [P]."""
    found: Numbers = target_logprobs(logits, targets).cpu().numpy()
    return found


class LowPerplexity:
    """The mask of a data set.

    Attributes:
        kept: Trained tokens of each example, [examples].

    Args:
        said: What the base says of the data: ``logprobs``.
        threshold: The highest perplexity that is trained, tau.
    """

    def __init__(self, said: BaseTokens, threshold: float) -> None:
        self._said, self._threshold = said, threshold
        self.kept: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def ask(self, model: Any, ranks: Ranks, base: str | None, packed: bool) -> None:
        """Make the mask; arguments as of :meth:`BaseTokens.ask`.

        Raises:
            ConfigError: No token is left.
        """
        self._said.ask(model, ranks, base, packed)
        self.kept = self._said.sums(lambda rows: self._likely(rows).astype(np.int64))
        all_of_them = self._said.sums(lambda rows: np.ones(len(rows), dtype=np.int64))
        count, of = int(self.kept.sum()), int(all_of_them.sum())
        if count == 0:
            message = f"leaves out all {of} tokens: the base finds none of them that likely"
            raise ConfigError(Problem("training.stm_perplexity", message, self._threshold))
        if ranks.main:
            log.info(
                "%d of %d tokens are trained: the others have a perplexity above %g",
                *(count, of, self._threshold),
            )

    def masked(self, index: int, item: Item) -> Item:
        """Return an example with the labels of what is left out taken away."""
        labels = item["labels"].copy()
        trained = 1 + np.flatnonzero(labels[1:] != IGNORED)
        labels[trained[~self.likely(index)]] = IGNORED
        return {**item, "labels": labels}

    def likely(self, index: int) -> NDArray[np.bool_]:
        """Return which of an example's trained tokens are left, [its trained tokens]."""
        return self._likely(self._said.rows(index))

    def _likely(self, rows: Numbers) -> NDArray[np.bool_]:
        return np.asarray(rows >= -math.log(self._threshold))
