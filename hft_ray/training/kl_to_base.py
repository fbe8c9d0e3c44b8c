"""A penalty on the distance of the model's predictions from the base's, at the trained tokens.

Notation: q the model's distribution where a trained token is predicted, p the base's at the same
place, z the logits of q. With strength lambda a step's loss is

    L = 1/N sum_t ( w_t (-log q(y_t)) + lambda D_t ),   over its N trained tokens, in nats

    forward   D = KL(p || q) = sum_v p_v (log p_v - log q_v),   dD / dz_v = q_v - p_v
    reverse   D = KL(q || p) = sum_v q_v (log q_v - log p_v),   dD / dz_v = q_v (log q_v / p_v - D)

Where not all examples are held, D is 0 at the tokens of the others.

With weights w of ``dft`` this is anchored supervised fine-tuning (Zhu et al., "Anchored Supervised
Fine-Tuning", arXiv 2509.23753); LLaMA-Factory's ``use_asft_loss`` takes the forward divergence.
That forward KL on the new task foretells forgetting is found by Shenfeld et al., "RL's Razor",
arXiv 2509.04259.

Of p the K likeliest tokens T are kept one by one, and all others R as one outcome; of q the same
ones are joined. By the chain rule what is left out is exactly

    forward   p(R) KL(p( | R) || q( | R))          reverse   q(R) KL(q( | R) || p( | R))

so that D is never above the divergence, and as large where R is empty. With r = p(R) / q(R):

    forward   dD / dz_v = q_v - p_v in T,             q_v (1 - r) in R
    reverse   dD / dz_v = q_v (log q_v / p_v - D),    q_v (-log r - D) in R
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hft_ray.evaluation.likeliest import likeliest
from hft_ray.ranks import Ranks
from hft_ray.training.base_tokens import BaseTokens, Look
from hft_ray.training.loss import BASE, HELD
from hft_ray.training.reference import Numbers

Direction = Literal["forward", "reverse"]


def look_for(top: int) -> Look:
    """Return what takes ``BASE`` from the base's logits, a structured array [P].

    They are its ``top`` likeliest tokens [P, K], their log-probabilities [P, K], and that of all
    others [P]; K is ``top``, or the number of all tokens if that is less.
    """

    def look(logits: Tensor, targets: Tensor) -> Numbers:
        count = min(top, logits.shape[-1])
        tokens, best, rest = likeliest(logits.log_softmax(dim=-1), count)
        kinds = [(BASE[0], "i4", count), (BASE[1], "f4", count), (BASE[2], "f4")]
        rows = np.empty(len(logits), dtype=kinds)
        for name, found in zip(BASE, (tokens, best, rest), strict=True):
            rows[name] = found.cpu().numpy()
        return rows

    return look


class HeldToBase:
    """The penalty of a data set.

    Args:
        said: What the base says of it, as ``look_for`` takes it.
        strength: lambda.
        direction: Which of the two divergences.
        among: Which examples are held, [examples]; None for all. Others have no penalty.
    """

    def __init__(
        self,
        said: BaseTokens,
        strength: float,
        direction: Direction,
        among: NDArray[np.bool_] | None = None,
    ) -> None:
        self._said, self._strength, self._direction = said, strength, direction
        self._among = among

    def ask(self, model: Any, ranks: Ranks, base: str | None, packed: bool) -> None:
        """Ask the base; arguments as of :meth:`BaseTokens.ask`."""
        self._said.ask(model, ranks, base, packed)

    def fields(self, examples: Iterable[tuple[int, NDArray[np.bool_] | None]]) -> dict[str, Tensor]:
        """Return ``BASE`` of examples, each with those of its trained tokens that stay trained.

        And ``HELD``, where not all examples are held.
        """
        examples = list(examples)
        each = [self._said.rows(index)[... if kept is None else kept] for index, kept in examples]
        rows = np.concatenate(each)
        found = {name: torch.from_numpy(np.ascontiguousarray(rows[name])) for name in BASE}
        if self._among is not None:
            held = self._among[[index for index, _ in examples]]
            found[HELD] = torch.from_numpy(np.repeat(held, [len(one) for one in each]))
        return found

    def of(self, batch: dict[str, Tensor]) -> KlToBase:
        """Return the penalty of a forward pass."""
        return KlToBase(batch, self._strength, self._direction)


class KlToBase:
    """The penalty of one forward pass; an ``Anchor`` of its positions.

    Attributes:
        sums: ``kl_to_base``: the divergences of all positions so far, without their strength.

    Args:
        batch: Has ``BASE`` of its trained positions, row by row, and perhaps ``HELD``.
        strength: lambda.
        direction: Which of the two divergences.
    """

    def __init__(self, batch: dict[str, Tensor], strength: float, direction: Direction) -> None:
        self._tokens, self._base, self._rest = (batch[name] for name in BASE)
        self._held = batch.get(HELD)
        self._strength = strength
        self._divergence = forward if direction == "forward" else reverse
        self.sums: dict[str, Tensor] = {}

    def __call__(self, logprobs: Tensor, places: slice) -> tuple[Tensor, Tensor]:
        """Return the penalty of some positions [P], and its gradient by their logits [P, V]."""
        values, slopes = self._divergence(
            logprobs,
            self._tokens[places].long(),
            self._base[places],
            self._rest[places],
            self._strength,
        )
        if self._held is not None:
            held = self._held[places]
            values, slopes = values.where(held, 0.0), slopes.masked_fill_(~held[:, None], 0.0)
        self.sums["kl_to_base"] = self.sums.get("kl_to_base", 0) + values.sum()
        return self._strength * values, slopes


def forward(
    logprobs: Tensor, tokens: Tensor, base: Tensor, rest: Tensor, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return KL(p || q) of each position [P], and ``scale`` times its gradient by z [P, V].

    Args:
        logprobs: log q, [P, V].
        tokens: T, [P, K].
        base: log p of T, [P, K].
        rest: log p(R), [P]; -inf if R is empty.
        scale: What the gradient is multiplied by.
    """
    own, others, own_rest = _split(logprobs, tokens)
    there, there_rest = base.exp(), rest.exp()
    of_rest = there_rest * (rest - own_rest.log())
    values = (there * (base - own)).sum(dim=-1) + of_rest.where(rest > -math.inf, 0.0)
    slopes = others.mul_(scale * (1 - there_rest / own_rest)[:, None])
    return values, slopes.scatter_(-1, tokens, scale * (own.exp() - there))


def reverse(
    logprobs: Tensor, tokens: Tensor, base: Tensor, rest: Tensor, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return KL(q || p) of each position, and its gradient; as :func:`forward`."""
    own, others, own_rest = _split(logprobs, tokens)
    of_rest = (own_rest.log() - rest).where(rest > -math.inf, 0.0)  # -log r
    values = (own.exp() * (own - base)).sum(dim=-1) + own_rest * of_rest
    slopes = others.mul_(scale * (of_rest - values)[:, None])
    mine = own.exp() * (own - base - values[:, None])
    return values, slopes.scatter_(-1, tokens, scale * mine)


def _split(logprobs: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log q of T [P, K], q of R [P, V] with 0 in T, and q(R) [P].

    Each pass over [P, V] is felt in a step's time, so that q(R) is a sum of what is needed anyhow.
    It is held above 0: below the smallest number of fp32 it is taken for that.
    """
    others = logprobs.exp().scatter_(-1, tokens, 0.0)
    rest = others.sum(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    return logprobs.gather(-1, tokens), others, rest
