"""Batches of token sequences, and a model's predictions in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from hft_ray.evaluation.head import at_head
from hft_ray.evaluation.linear import Head
from hft_ray.evaluation.sharding import map_batches
from hft_ray.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def pad(
    sequences: Sequence[Sequence[int]], value: int, side: Literal["left", "right"]
) -> tuple[Tensor, Tensor]:
    """Return the sequences as one array of token ids and its attention mask, both [B, T]."""
    width = max(len(each) for each in sequences)
    ids = torch.full((len(sequences), width), value)
    mask = torch.zeros_like(ids)
    for row, each in enumerate(sequences):
        place = slice(width - len(each), width) if side == "left" else slice(0, len(each))
        ids[row, place] = torch.tensor(each)
        mask[row, place] = 1
    return ids, mask


@dataclass(frozen=True)
class Span:
    """A sequence of tokens, of which those in [start, stop) are predicted; start is 1 or more."""

    tokens: Sequence[int]
    start: int
    stop: int

    @classmethod
    def last(cls, tokens: Sequence[int], count: int) -> Span:
        """Return a span of the last ``count`` tokens; the first of all is never predicted."""
        return cls(tokens, max(1, len(tokens) - count), len(tokens))

    @property
    def count(self) -> int:
        """Predicted tokens."""
        return self.stop - self.start


Look = Callable[[Tensor, Tensor, slice], tuple[Tensor, ...]]
"""``look(logits [P, V], targets [P], places)`` -> tensors [P, ...], for some of N positions."""


def predictions(
    model: PreTrainedModel, spans: Sequence[Span], look: Look
) -> list[tuple[Tensor, ...]]:
    """Return what ``look`` finds where the tokens of each span are predicted, on the CPU.

    Args:
        model: A causal language model, in evaluation mode.
        spans: The last token of each is not fed to the model.
        look: Called until it has seen all N positions, in the order of the spans. Logits are in
            fp32, targets the tokens that followed; both are on the model's device. Those of all
            positions may not fit into memory at once.
    """
    ids, mask = pad([span.tokens[:-1] for span in spans], 0, "right")
    keep = torch.zeros_like(mask, dtype=torch.bool)
    for row, span in enumerate(spans):
        keep[row, span.start - 1 : span.stop - 1] = True
    followed = [token for span in spans for token in span.tokens[span.start : span.stop]]
    targets = torch.tensor(followed, dtype=torch.long, device=model.device)
    found: list[tuple[Tensor, ...]] = []

    def work(hidden: Tensor, head: Head) -> Tensor:
        for places, logits in head.logits(hidden):
            found.append(look(logits, targets[places], places))
        return hidden.new_zeros(())

    inputs = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
    at_head(model, inputs, keep.to(model.device), work)
    counts = [span.count for span in spans]
    columns = [torch.cat(column).cpu().split(counts) for column in zip(*found, strict=True)]
    # Not views: sent to another rank, each would take all of the batch with it.
    return [tuple(part.clone() for part in parts) for parts in zip(*columns, strict=True)]


def token_logprobs(model: PreTrainedModel, spans: Sequence[Span]) -> list[Tensor]:
    """Return log p(token t | tokens before t) of the predicted tokens of each span.

    They are in nats, float64, on the CPU; computed from the logits in fp32.

    Args:
        model: A causal language model, in evaluation mode.
        spans: The last token of each is not fed to the model.
    """

    def look(logits: Tensor, targets: Tensor, places: slice) -> tuple[Tensor]:
        return (target_logprobs(logits, targets),)

    return [found.double() for (found,) in predictions(model, spans, look)]


def sum_logprobs(
    model: PreTrainedModel, spans: Sequence[Span], batch_size: int, ranks: Ranks
) -> list[float]:
    """Return log p of the predicted tokens of each span together, in nats (a collective).

    Args:
        model: A causal language model, in evaluation mode.
        spans: The last token of each is not fed to the model.
        batch_size: Number of spans of the greatest length in a batch.
        ranks: The processes that compute it together.
    """

    def compute(batch: list[int]) -> list[float]:
        logprobs = token_logprobs(model, [spans[index] for index in batch])
        return [float(each.sum()) for each in logprobs]

    return map_batches(compute, [len(span.tokens) for span in spans], batch_size, ranks)


def target_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability of each target, [P], by its logits [P, V]."""
    return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(dim=-1)
