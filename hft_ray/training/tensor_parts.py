"""Tensors in parts, so that every rank writes what it holds and any number of ranks reads it.

A part is consecutive numbers of a flattened tensor. Its name is ``TENSOR@START``, with the place of
its first number.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_PART = re.compile(r"(.*)@(\d+)")


def part_name(tensor: str, start: int) -> str:
    """Return the name of the part of ``tensor`` that begins with its number ``start``."""
    return f"{tensor}@{start}"


def place(name: str) -> tuple[str, int]:
    """Return the tensor of a part, and the place of its first number; of a whole one 0."""
    found = _PART.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, 0)


def joined(parts: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Return tensor -> its numbers, flattened, made of the parts in any order.

    Raises:
        ValueError: Two parts of one tensor overlap, or there are numbers missing between them.
    """
    found: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for name, numbers in parts:
        tensor, start = place(name)
        found[tensor][start] = numbers.flatten()
    return {tensor: _join(tensor, found.pop(tensor)) for tensor in list(found)}


def _join(tensor: str, parts: dict[int, Tensor]) -> Tensor:
    starts = sorted(parts)
    for start, following in itertools.pairwise(starts):
        if start + len(parts[start]) != following:
            raise ValueError(f"the parts of {tensor} at {start} and {following} do not meet")
    return parts[starts[0]] if len(starts) == 1 else torch.cat([parts[each] for each in starts])
