"""Batches of token sequences, and their log-probabilities under a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

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


def sequence_logits(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    """Yield for each sequence of T tokens the logits that predict all but the first, [T - 1, V].

    They are in fp32, on the model's device; one sequence at a time, since the fp32 copy of all
    logits may not fit beside them. The last token is not fed to the model.
    """
    ids, mask = pad([each[:-1] for each in sequences], 0, "right")
    ids, mask = ids.to(model.device), mask.to(model.device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits  # [B, T - 1, V]
    for row, sequence in zip(logits, sequences, strict=True):
        yield row[: len(sequence) - 1].float()


def token_logprobs(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return log p(token t | tokens before t) of every token but the first.

    Args:
        model: A causal language model, in evaluation mode.
        sequences: Token ids, two or more each; the last is not fed to the model.

    Returns:
        For each sequence of T tokens its T - 1 log-probabilities in nats, float64, on the CPU;
        computed from the logits in fp32.
    """
    result = []
    for own, sequence in zip(sequence_logits(model, sequences), sequences, strict=True):
        targets = torch.tensor(sequence[1:], device=own.device)
        chosen = own.gather(1, targets[:, None])[:, 0]
        result.append((chosen - own.logsumexp(dim=-1)).double().cpu())
    return result
