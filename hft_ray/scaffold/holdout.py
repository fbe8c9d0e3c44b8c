"""Holds out a part of the data for the task's evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

SHARE, FEWEST, MOST = 0.1, 20, 300
"""Share of the records that is held out; at least so many, at most so many."""


def hold_out(prompts: Sequence[object], seed: int = 0) -> tuple[list[int], list[int]]:
    """Return the indices to train on and those held out, each ascending.

    Records with the same prompt stay together, so that no test item is trained on.

    Args:
        prompts: What tells one record from another, as JSON values.
        seed: Seed of the draw.
    """
    groups: dict[str, list[int]] = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault(json.dumps(prompt, sort_keys=True, ensure_ascii=False), []).append(index)
    wanted = min(max(round(SHARE * len(prompts)), FEWEST), MOST, len(prompts) // 2)
    members = list(groups.values())
    held: list[int] = []
    for place in np.random.Generator(np.random.PCG64(seed)).permutation(len(members)):
        if len(held) >= wanted:
            break
        held += members[place]
    out = set(held)
    return [index for index in range(len(prompts)) if index not in out], sorted(held)
