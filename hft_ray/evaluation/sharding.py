"""Shares the work of an evaluation among the ranks, with a result that does not depend on them.

Batches are formed from all units of work, sorted by length, before they are assigned: a batch has
the same content, hence the same numbers, on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch

from hft_ray.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

R = TypeVar("R")


def sorted_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Return the indices of ``lengths`` in batches of like length, the longest first.

    A batch has as many tokens, padding included, as ``batch_size`` units of the greatest length.
    The longest come first so that a batch too large for the memory fails at once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    room = batch_size * max(lengths, default=0)
    batches, start = [], 0
    while start < len(order):
        # A batch is as wide as its first unit.
        stop = start + max(batch_size, room // max(lengths[order[start]], 1))
        batches.append(order[start:stop])
        start = stop
    return batches


def map_batches(
    compute: Callable[[list[int]], Sequence[R]],
    lengths: Sequence[int],
    batch_size: int,
    ranks: Ranks,
) -> list[R]:
    """Run ``compute`` over all units and return their results in order (a collective).

    Args:
        compute: Indices of one batch -> one result for each of them.
        lengths: Length in tokens of every unit, [n].
        batch_size: Units of the greatest length that a batch has room for.
        ranks: Batch b is run by rank b modulo their number. In lockstep a rank that has no batch
            left repeats the first one and throws the result away.

    Returns:
        The results, [n], the same on every rank.
    """
    batches = sorted_batches(lengths, batch_size)
    own: dict[int, R] = {}
    for start in range(0, len(batches), ranks.size):
        turn = start + ranks.rank
        if turn < len(batches):
            own |= zip(batches[turn], compute(batches[turn]), strict=True)
        elif ranks.lockstep:
            compute(batches[0])
    results = {index: result for part in ranks.gather(own) for index, result in part.items()}
    return [results[index] for index in range(len(lengths))]


@contextmanager
def scoring(model: PreTrainedModel) -> Iterator[None]:
    """Put ``model`` in evaluation mode without gradients; each module's mode is restored after."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        # Not inference_mode: its tensors could not be part of a later backward pass, and ZeRO-3
        # keeps gathered parameters between passes.
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def context_length(model: PreTrainedModel) -> int | None:
    """Return the most tokens that ``model`` has positions for, where its configuration says."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)
