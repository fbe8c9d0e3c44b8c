"""Shares the examples of a step out to ranks and forward passes, by their lengths alone.

With no padding a pass costs what its tokens cost, so the passes are made equal in tokens and as few
as the memory allows. The result is a pure function of the lengths: every rank finds the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heapreplace


def share_out(
    lengths: Sequence[int], ranks: int, micro: int, capacity: int
) -> list[list[list[int]]]:
    """Return the examples of every forward pass of every rank.

    All ranks have equally many passes, each with an example or more: as few as keep to the
    capacity, and at most ``n / (micro * ranks)``, which always do.

    Args:
        lengths: Tokens of each example, [n], each at most ``capacity / micro``; n is a multiple of
            ``micro * ranks``.
        ranks: Number of ranks.
        micro: Examples of a pass if all were of the greatest length.
        capacity: Most tokens of a pass.

    Returns:
        Indices of examples, [ranks][passes][examples]; every index once, the largest passes first.
    """
    most = len(lengths) // (micro * ranks)
    for passes in range(max(1, -(-sum(lengths) // (capacity * ranks))), most + 1):
        bins = _balanced(lengths, passes * ranks, len(lengths))
        if max(_sum(lengths, each) for each in bins) <= capacity:
            break
    else:
        bins = _balanced(lengths, most * ranks, micro)
    bins.sort(key=lambda each: (-_sum(lengths, each), each))
    # Passes of one turn are alike in size; turn about, the first rank has the larger ones.
    turns = [bins[start : start + ranks] for start in range(0, len(bins), ranks)]
    dealt = [turn[::-1] if number % 2 else turn for number, turn in enumerate(turns)]
    return [[turn[rank] for turn in dealt] for rank in range(ranks)]


def _balanced(lengths: Sequence[int], count: int, most: int) -> list[list[int]]:
    """Return ``count`` bins of examples with alike sums, at most ``most`` examples in each.

    Each example, the longest first, goes where there is the least so far (Graham, 1969: the largest
    sum is at most 4/3 of the optimal one).
    """
    bins: list[list[int]] = [[] for _ in range(count)]
    beyond = sum(lengths) + 1
    loads = [(0, number) for number in range(count)]
    heapify(loads)
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        load, number = loads[0]
        bins[number].append(index)
        # A full one goes behind all others.
        full = len(bins[number]) == most
        heapreplace(loads, (beyond if full else load + lengths[index], number))
    return bins


def _sum(lengths: Sequence[int], indices: Sequence[int]) -> int:
    return sum(lengths[index] for index in indices)
