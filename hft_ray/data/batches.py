"""Which items an optimizer step trains on, and how items become one batch of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate

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

    Args:
        items: ``input_ids`` and ``labels``, [T] each.
        pad_id: Token id of padding, whose label is -100.

    Returns:
        ``input_ids``, ``labels`` and ``attention_mask``, [B, max T].
    """
    lengths = [len(item["input_ids"]) for item in items]
    shape = len(items), max(lengths)
    ids, labels = torch.full(shape, pad_id), torch.full(shape, IGNORED)
    mask = torch.zeros(shape, dtype=torch.long)
    for row, (item, length) in enumerate(zip(items, lengths, strict=True)):
        ids[row, :length] = torch.as_tensor(item["input_ids"])
        labels[row, :length] = torch.as_tensor(item["labels"])
        mask[row, :length] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def concatenate(items: Sequence[Item]) -> dict[str, torch.Tensor]:
    """Put items into one row, one after another, without padding.

    The model has to keep them apart: by ``position_ids``, from which transformers makes a mask, or
    by the arguments of FlashAttention's variable-length form, from which no mask is made.

    Args:
        items: ``input_ids`` and ``labels``, [T] each.

    Returns:
        ``input_ids``, ``labels`` and ``position_ids``, which restart at 0, [1, sum of T];
        ``cu_seq_lens_q`` and ``cu_seq_lens_k``, where items begin and end, int32, [B + 1];
        ``max_length_q`` and ``max_length_k``, the longest T, scalars to stay on the CPU.
    """
    lengths = [len(item["input_ids"]) for item in items]
    bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    labels = torch.as_tensor(np.concatenate([item["labels"] for item in items]))
    # What precedes an item's first token is another item.
    labels[bounds[:-1].long()] = IGNORED
    longest = torch.tensor(max(lengths))
    return {
        "input_ids": torch.as_tensor(np.concatenate([item["input_ids"] for item in items]))[None],
        "labels": labels[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def as_batch(items: Sequence[Item], pad_id: int, packed: bool) -> dict[str, torch.Tensor]:
    """Return items in one row, as ``concatenate`` does, or padded, as ``collate`` does."""
    return concatenate(items) if packed else collate(items, pad_id)


def on_device(batch: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """Return a batch on the device, but for what a kernel is called with: the lengths."""
    return {name: x if name.startswith("max_length") else x.to(device) for name, x in batch.items()}
