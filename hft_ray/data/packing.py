"""Puts several examples into one sequence so that less of a batch is padding.

The examples (documents) of a sequence do not see each other: their position ids restart at 0, and
transformers builds a block-diagonal causal mask from that (``masking_utils.
find_packed_sequence_indices``) when the model is called without an attention mask and without a
cache, so with ``use_cache=False``.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence


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
