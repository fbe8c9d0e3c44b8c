"""Norms of all gradients without the memory for them: what the strategy ``gradient`` ranks by.

Each gradient is measured and dropped as soon as the backward pass has it, so that the largest one
is all that is held at a time. Sequences are measured one by one and shared out over the ranks: what
comes out depends neither on their number nor on the batch size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from hft_ray.ranks import Ranks
from hft_ray.selection import Unit

MeanLoss = Callable[[nn.Module], Tensor]


def gradient_norms(
    model: nn.Module, units: Sequence[Unit], losses: Sequence[MeanLoss], ranks: Ranks
) -> dict[str, float]:
    """Return unit name -> L2 norm of its gradient, the root mean square over the sequences.

    The gradient is that of a sequence's mean loss. Of a cross-entropy its mean square, summed over
    a unit, is the trace of the empirical Fisher information. A collective; no engine may be on the
    model, and ZeRO-3 may not have partitioned it.

    Args:
        model: The model.
        units: The units to measure.
        losses: The mean loss of each sequence, the same on every rank; at least one.
        ranks: The processes that share the work.
    """
    names = {name for unit in units for name in unit.parameters}
    found: dict[int, dict[str, float]] = {}
    with _all_trainable(model, names) as squares:
        for index in range(ranks.rank, len(losses), ranks.size):
            squares.clear()
            losses[index](model).backward()
            found[index] = dict(squares)
    everywhere = [each for part in ranks.gather(found) for each in part.values()]

    def norm(unit: Unit) -> float:
        terms = (each.get(name, 0.0) for each in everywhere for name in unit.parameters)
        return math.sqrt(math.fsum(terms) / len(losses))

    return {unit.name: norm(unit) for unit in units}


@contextmanager
def _all_trainable(model: nn.Module, names: Collection[str]) -> Iterator[dict[str, float]]:
    """Yield a mapping that backward passes fill: parameter -> squared norm of its gradient."""
    squares: dict[str, float] = {}

    def measure(name: str, parameter: nn.Parameter) -> None:
        assert parameter.grad is not None
        squares[name] = float(torch.linalg.vector_norm(parameter.grad, dtype=torch.float32)) ** 2
        parameter.grad = None

    parameters = dict(model.named_parameters())
    before = {name: parameter.requires_grad for name, parameter in parameters.items()}
    training = model.training
    model.eval()  # dropout would use up random numbers of the run
    hooks = []
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in names)
        if name in names:
            hook = partial(measure, name)
            hooks.append(parameter.register_post_accumulate_grad_hook(hook))
    try:
        yield squares
    finally:
        for handle in hooks:
            handle.remove()
        for name, parameter in parameters.items():
            parameter.requires_grad_(before[name])
        model.train(training)
