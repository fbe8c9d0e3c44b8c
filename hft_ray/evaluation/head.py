"""Runs a model and computes with its logits where its head is called.

For the time of a forward pass the head's module gives something else than logits: see ``linear``.
It is still called by the model, so what DeepSpeed does around modules is done: ZeRO-3 makes the
weight whole before, and again in the backward pass.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from hft_ray.evaluation.linear import Head, Shaping
from hft_ray.evaluation.sharding import scoring

Work = Callable[[Tensor, Head], Tensor]
"""``work(hidden [N, H], head)`` -> a tensor of any shape."""

_SAMPLES = (1.0, -0.5, 3.0, -20.0, 150.0, 1e6)
"""Logits that a model is given: the first shows its factor, the last its cap."""
_TOLERANCE = 1e-5

log = logging.getLogger(__name__)
_shapings: WeakKeyDictionary[nn.Module, Shaping | None] = WeakKeyDictionary()


def at_head(
    model: nn.Module, inputs: dict[str, Tensor], keep: Tensor, work: Work
) -> tuple[Tensor, Any]:
    """Return what ``work`` makes of the hidden states of some positions, and the model's outputs.

    Args:
        model: A causal language model of transformers, or DeepSpeed's engine on it. At the first
            call it also makes a tiny forward pass; under ZeRO-3 every call is a collective.
        inputs: What the model takes.
        keep: Which positions are meant, bool, [batch, length]; they come row by row.
        work: Called once. Where it is not known what a model does to its logits, these are all
            computed, and given to it in the place of hidden states, with a head that does nothing.

    Returns:
        Of the outputs the logits mean nothing.
    """
    own: Any = getattr(model, "module", model)
    if _takes_mask(own):
        inputs = {**inputs, "logits_to_keep": keep}
    head: Any = own.get_output_embeddings() if _known(own) else None
    shaping = _shaping(own, head) if _is_linear(head) else None
    if shaping is None:
        outputs: Any = model(**inputs, use_cache=False)
        return work(_kept(outputs.logits, keep), Head()), outputs
    results: list[Tensor] = []

    def give(hidden: Tensor) -> Tensor:
        result = work(_kept(hidden, keep), Head(head.weight, head.bias, shaping))
        results.append(result)
        return result.reshape(-1, 1)

    def take(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        # The last of the hooks: DeepSpeed's have seen the output, which leads to the gradient.
        results[0] = output.reshape(results[0].shape)
        return output * 0.0

    with _replaced(head, give), head.register_forward_hook(take):
        outputs = model(**inputs, use_cache=False)
    # DeepSpeed begins a backward pass at the model's outputs.
    return results[0] + outputs.logits.sum() * 0.0, outputs


def _kept(values: Tensor, keep: Tensor) -> Tensor:
    """Return [batch, length, ...] of the positions that are kept; the model may have done it."""
    return values if values.dim() == 2 else values[keep]


def _known(model: object) -> bool:
    """Whether the model's code is that of transformers; a repository's own may do anything."""
    return type(model).__module__.startswith("transformers.")


def _takes_mask(model: Any) -> bool:
    """Whether the model takes a mask [batch, length] of the positions whose logits are wanted.

    A model of transformers does (``modeling_utils.slice_logits_to_keep``); code that came with a
    model may know the argument without knowing masks.
    """
    return _known(model) and "logits_to_keep" in inspect.signature(type(model).forward).parameters


def _is_linear(head: object) -> bool:
    """Whether the head is a plain linear map, without an adapter."""
    return type(head) is nn.Linear and "forward" not in vars(head)


def _shaping(model: Any, head: Any) -> Shaping | None:
    """Return the model's shaping of its logits after the head; None if it is unknown."""
    if model not in _shapings:
        found = _shapings[model] = _probe(model, head)
        if found is None:
            log.info("%s: what it does to logits is not known; all are kept", type(model).__name__)
    return _shapings[model]


def _probe(model: Any, head: nn.Linear) -> Shaping | None:
    """Find the shaping from known logits that replace the head's."""
    device = head.weight.device
    samples = torch.tensor(_SAMPLES, device=device)
    # As wide as logits, so that a model that cuts or marks some of them is found out.
    shown = samples[:, None].expand(-1, head.out_features)
    calls = []

    def give(hidden: Tensor) -> Tensor:
        calls.append(hidden)
        return shown.clone()

    with scoring(model), _replaced(head, give):
        try:
            ids = torch.zeros((1, 2), dtype=torch.long, device=device)
            made: Tensor = model(input_ids=ids, use_cache=False).logits
        except (IndexError, RuntimeError, TypeError, ValueError):
            return None  # it does something that takes logits of a batch
    if len(calls) != 1 or made.shape != shown.shape:
        return None
    guesses = (Shaping(scale=float(made[0, 0])), Shaping(cap=float(made[-1, 0])))
    for shaping in (Shaping(), *guesses):
        expected = shaping(shown.clone())
        if math.isfinite(shaping.scale) and torch.allclose(
            made.float(), expected, rtol=_TOLERANCE, atol=0
        ):
            return shaping
    return None


@contextmanager
def _replaced(module: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace the computation of ``module`` while the block runs."""
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
