"""A distribution over tokens as its likeliest ones, and all others as one outcome."""

from __future__ import annotations

import math

from torch import Tensor


def likeliest(logprobs: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the likeliest tokens [P, top], their log-probabilities [P, top], and the rest's [P].

    Args:
        logprobs: Log-probabilities of all tokens, [P, V].
        top: Number of tokens, at most V.
    """
    best, tokens = logprobs.topk(top, dim=-1)
    return tokens, best, rest_of(logprobs, tokens)


def rest_of(logprobs: Tensor, tokens: Tensor) -> Tensor:
    """Return the log of the probability outside of ``tokens`` [P, top], [P]; -inf if none is."""
    return logprobs.scatter(-1, tokens, -math.inf).logsumexp(dim=-1)
