"""Which items an optimizer step trains on, and how items become one batch of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from hft_ray.data.encode import IGNORED

Item = Mapping[str, NDArray[np.int64]]


def batch_indices(step: int, n: int, batch_size: int, seed: int) -> list[int]:
    """Return the items of optimizer step ``step`` (from 0).

    The steps read an endless stream of permutations, one per epoch, so a batch may hold the end
    of one epoch and the beginning of the next. A pure function of its arguments: the same on
    every rank, and after a resume.

    Args:
        step: Optimizer step, from 0.
        n: Number of items.
        batch_size: Items per step, over all ranks.
        seed: Seed of the order.
    """
    first = step * batch_size
    places = (divmod(place, n) for place in range(first, first + batch_size))
    return [int(_order(n, seed, epoch)[place]) for epoch, place in places]


@lru_cache(maxsize=4)
def _order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    bits = np.random.PCG64(np.random.SeedSequence([seed, epoch]))
    return np.random.Generator(bits).permutation(n)


def steps_per_epoch(n: int, batch_size: int) -> Fraction:
    """Return the optimizer steps of one pass over ``n`` items, exactly ``n / batch_size``.

    Not a whole number where a batch holds the end of one epoch and the beginning of the next.
    """
    return Fraction(n, batch_size)


def collate(items: Sequence[Item], pad_id: int) -> dict[str, torch.Tensor]:
    """Stack items, padded on the right to the longest.

    Padding has the label -100. Packed items bring ``position_ids``; their batch has no attention
    mask, from whose absence transformers concludes that restarting positions separate documents
    (see ``packing``), and each token of its padding is a document of its own. Call the model with
    ``use_cache=False``.

    Args:
        items: ``input_ids``, ``labels`` and, if packed, ``position_ids``, [T] each.
        pad_id: Token id of padding.

    Returns:
        ``input_ids``, ``labels`` and either ``attention_mask`` or ``position_ids``, [B, max T].
    """
    lengths = [len(item["input_ids"]) for item in items]
    width = max(lengths)
    ids = torch.full((len(items), width), pad_id)
    labels = torch.full((len(items), width), IGNORED)
    mask = torch.zeros((len(items), width), dtype=torch.long)
    positions = torch.zeros((len(items), width), dtype=torch.long)
    packed = "position_ids" in items[0]
    for row, (item, length) in enumerate(zip(items, lengths, strict=True)):
        ids[row, :length] = torch.as_tensor(item["input_ids"])
        labels[row, :length] = torch.as_tensor(item["labels"])
        mask[row, :length] = 1
        if packed:
            positions[row, :length] = torch.as_tensor(item["position_ids"])
    seen = {"position_ids": positions} if packed else {"attention_mask": mask}
    return {"input_ids": ids, "labels": labels, **seen}
