"""What a rank holds of a parameter: all of it, or under ZeRO-3 a part of its flattened numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import deepspeed
import torch.distributed as dist
from torch import Tensor, nn

from hft_ray.ranks import Ranks
from hft_ray.selection.anatomy import size


def is_partitioned(parameter: nn.Parameter) -> bool:
    """Whether ZeRO-3 has partitioned a parameter."""
    return hasattr(parameter, "ds_id")


def held(parameter: Any) -> Tensor:
    """Return what this rank holds of a parameter: all of it, or its ZeRO-3 part without padding."""
    if not is_partitioned(parameter):
        whole: Tensor = parameter.data
        return whole
    part: Tensor = parameter.ds_tensor.data
    rank = dist.get_rank() if dist.is_initialized() else 0
    left = parameter.ds_numel - rank * part.numel()
    return part[: max(0, min(part.numel(), left))]


def at_rest(parameter: Any) -> Tensor:
    """Return what this rank holds of a parameter, to be written to.

    ZeRO-3 leaves small parameters whole after a forward pass, also when its engine is destroyed.
    Gathering one then gives that copy, not the parts.
    """
    if is_partitioned(parameter):
        parameter.partition()
    return held(parameter)


def share(length: int, ranks: Ranks) -> range:
    """Return this rank's share of so many numbers: of equal parts, the last one shorter.

    ZeRO-3 partitions a parameter in the same way, and pads the last part.
    """
    each = -(-length // ranks.size)
    return range(min(length, ranks.rank * each), min(length, (ranks.rank + 1) * each))


def held_span(parameter: nn.Parameter, ranks: Ranks) -> range:
    """Return the places of what this rank holds among a parameter's flattened numbers."""
    length = size(parameter)
    return share(length, ranks) if is_partitioned(parameter) else range(length)


@contextmanager
def gathered(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Make ZeRO-3's partitioned parameters whole on every rank (a collective); else do nothing."""
    if any(is_partitioned(parameter) for parameter in parameters):
        with deepspeed.zero.GatheredParameters(list(parameters)):
            yield
    else:
        yield
