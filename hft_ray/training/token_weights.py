"""Weights of the trained tokens, from what the model itself says where they are predicted.

Notation: p the model's distribution at the position that predicts token t, y_t the token that
followed, sg a value without a gradient. A step minimises, over its N trained tokens,

    L = -1/N sum_t w_t log p(y_t)

    dft    w_t = sg p(y_t)          Wu et al., "On the Generalization of SFT: A Reinforcement
                                    Learning Perspective with Reward Rectification", arXiv
                                    2508.05629; ``use_dft_loss`` of LLaMA-Factory
    eaft   w_t = sg H_K(p) / ln K   Diao et al., "Entropy-Adaptive Fine-Tuning", arXiv 2601.02151,
                                    equations 2 and 3

H_K is the entropy of the K = 20 likeliest tokens, their probabilities divided by their sum: the
approximation of the paper, as in LLaMA-Factory (``use_eaft_loss``), which rounds ln 20 = 2.996 to
3. All positions count in N, whatever they weigh, so that a weight is a factor of the gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hft_ray.evaluation.linear import Weigh

LIKELIEST = 20
"""Tokens of which the entropy is taken."""


def own_probability(logprobs: Tensor, chosen: Tensor) -> Tensor:
    """Return the probability of the token that followed, [P] (dft).

    Args:
        logprobs: Log-probabilities of all tokens, [P, V].
        chosen: That of the token that followed, [P].
    """
    return chosen.exp()


def likeliest_entropy(logprobs: Tensor, chosen: Tensor) -> Tensor:
    """Return the normalised entropy of the likeliest tokens, from 0 to 1, [P] (eaft).

    Args:
        logprobs: Log-probabilities of all tokens, [P, V], V at least 2.
        chosen: That of the token that followed, [P].
    """
    count = min(LIKELIEST, logprobs.shape[-1])
    among = logprobs.topk(count, dim=-1).values.softmax(dim=-1)  # [P, K]
    return torch.special.entr(among).sum(dim=-1) / math.log(count)


WEIGHTS: dict[str, Weigh] = {"dft": own_probability, "eaft": likeliest_entropy}
"""Value of ``training.token_weights`` -> the weights of some positions."""


class Weighing:
    """The weights of one forward pass, and sums of what they were given.

    Attributes:
        sums: Over all positions so far: ``cross_entropy`` without weights, in nats, and
            ``token_weight``.

    Args:
        kind: One of ``WEIGHTS``.
    """

    def __init__(self, kind: str) -> None:
        self._weigh = WEIGHTS[kind]
        self.sums: dict[str, Tensor] = {}

    def __call__(self, logprobs: Tensor, chosen: Tensor) -> Tensor:
        """Return the weights of some positions, [P]; it is a ``Weigh``."""
        weights = self._weigh(logprobs, chosen)
        for name, each in (("cross_entropy", -chosen), ("token_weight", weights)):
            self.sums[name] = self.sums.get(name, 0) + each.sum()
        return weights
