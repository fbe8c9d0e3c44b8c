"""Puts several examples into one sequence so that less of a batch is padding.

The examples (documents) of a sequence do not see each other: their position ids restart at 0, and
transformers builds a block-diagonal causal mask from that (``masking_utils.
find_packed_sequence_indices``) when the model is called without an attention mask and without a
cache, so with ``use_cache=False``. Some models (OPT) make an attention mask of their own, and
flash attention looks at the positions of a single row only: ``require_isolation`` finds out.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from hft_ray.config import ConfigError, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Documents that do not see each other give logits that are equal to the bit, up to kernels that
# sum in another order.
_ROUNDING = 4


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Distribute items over sequences of at most ``capacity`` tokens by best-fit decreasing.

    Each item, the longest first, goes where it leaves the least room (Johnson et al., 1974: at
    most 11/9 of the optimal number of sequences, plus 4). Deterministic.

    Args:
        lengths: Tokens of each item, [n], each at most ``capacity``.
        capacity: Most tokens of a sequence.

    Returns:
        The indices of the items of each sequence; every index once.
    """
    sequences: list[list[int]] = []
    rooms: list[int] = []  # the distinct free spaces, ascending
    open_at: defaultdict[int, list[int]] = defaultdict(list)  # free space -> sequences
    for item in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        assert lengths[item] <= capacity
        fitting = bisect_left(rooms, lengths[item])
        if fitting == len(rooms):
            room, sequence = capacity, len(sequences)
            sequences.append([])
        else:
            room = rooms[fitting]
            sequence = open_at[room].pop()
            if not open_at[room]:
                del rooms[fitting]
        sequences[sequence].append(item)
        left = room - lengths[item]
        if not open_at[left]:
            insort(rooms, left)
        open_at[left].append(sequence)
    return sequences


@torch.no_grad()
def require_isolation(model: PreTrainedModel, rows: int) -> None:
    """Refuse a model whose packed documents see each other, by trying it (two tiny forward passes).

    Args:
        model: The model, with its attention implementation, on its device.
        rows: Sequences per forward pass.

    Raises:
        ConfigError: The first document of a sequence changes the logits of the second.
    """
    training = model.training
    model.eval()
    first, other, second = [1, 2, 3, 4], [4, 3, 2, 1], [5, 6, 7]
    positions = [*range(len(first)), *range(len(second))]
    here, there = (
        model(
            input_ids=torch.tensor([document + second] * rows, device=model.device),
            position_ids=torch.tensor([positions] * rows, device=model.device),
            use_cache=False,
        ).logits[:, len(first) :]
        for document in (first, other)
    )
    model.train(training)
    allowed = _ROUNDING * torch.finfo(here.dtype).eps * here.abs().max()
    if (here - there).abs().max() > allowed:
        kind = f"{model.config.model_type} with {model.config._attn_implementation} attention"
        message = (
            f"examples in one sequence would see each other: {kind}, {rows} sequences at a time, "
            "does not keep them apart; set data.packing to false"
        )
        raise ConfigError(Problem("data.packing", message, True))
