"""The memory of a forward and a backward pass, from a rehearsal on tensors without memory.

The model's own code runs on torch's meta device, which knows shapes and types alone. So whatever
the model keeps for its backward pass counts as it will, and what it need not keep does not: inputs
of frozen matrices, layers below everything that is trained, layers that are recomputed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from hft_ray.compat.hf_attributes import attention_implementation
from hft_ray.evaluation.linear import Head
from hft_ray.training.alive import AliveBytes
from hft_ray.training.models import recompute_activations

NAME = "hft_rehearsal"
"""Name of the attention function among those of transformers."""


@dataclass(frozen=True)
class Step:
    """What a rank's part of an optimizer step is like.

    Attributes:
        dtype: Type of weights and activations.
        rows: Sequences of a pass.
        length: Tokens of each, all of them trained.
        passes: More than 1: gradients of an earlier one are there already.
        share: Of a gradient, what stays on this rank once it is whole.
        recompute: Whether activations are recomputed.
        summed: Whether the loss is a sum over the positions, of which the head's gradient is made
            in the forward pass.
    """

    dtype: torch.dtype
    rows: int
    length: int
    passes: int = 1
    share: float = 1.0
    recompute: bool = False
    summed: bool = True


def peak_of_passes(model: Any, trained: Collection[str], step: Step) -> int:
    """Return the most bytes that activations and gradients take at once.

    Args:
        model: The model on the meta device; it is changed.
        trained: Names of the trained parameters.
        step: What is rehearsed.

    Raises:
        Exception: What the model's code raises where it looks at values, which are not there.
    """
    model.to(step.dtype).train()
    if step.recompute:
        recompute_activations(model)
    if attention_implementation(model) != "eager":
        model.set_attn_implementation(NAME)
    gradients: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
        if name in trained and step.share < 1:
            keep = partial(_keep_share, gradients, name, step.share)
            parameter.register_post_accumulate_grad_hook(keep)
    with AliveBytes() as alive:
        alive.count([*model.parameters(), *model.buffers()])
        before = alive.now
        for _ in range(min(step.passes, 2)):
            alive.reset_peak()
            _loss(model, step).backward()
    return alive.peak - before


def rough_peak(config: Any, trained: int, step: Step) -> int:
    """Return the same by arithmetic, for models whose code cannot be rehearsed.

    34 bytes per token, hidden unit and layer in 16 bit, 2 if recomputed: "Reducing Activation
    Recomputation in Large Transformer Models" (arXiv 2205.05198, table 2) without the quadratic
    term, which fused attention does not hold. And the gradients of ``trained`` numbers.
    """
    weight, tokens = step.dtype.itemsize, step.rows * step.length
    per_unit = (2 if step.recompute else 34) * weight // 2
    shape = config.get_text_config()
    layers = tokens * shape.hidden_size * shape.num_hidden_layers * per_unit
    return int(layers + trained * weight * step.share)


def _loss(model: Any, step: Step) -> Tensor:
    ids = torch.zeros((step.rows, step.length), dtype=torch.long, device="meta")
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    head = model.get_output_embeddings()
    # The positions that have a loss are copied out, here all.
    hidden = hidden.flatten(0, 1).clone()
    made = Head(head.weight, head.bias)
    if step.summed:
        return made.loss(hidden, ids.flatten())
    return made.losses(hidden, ids.flatten()).sum()


def _keep_share(
    gradients: dict[str, Tensor], name: str, share: float, parameter: nn.Parameter
) -> None:
    gradient = parameter.grad
    assert gradient is not None
    size = -int(-gradient.numel() * share // 1)
    gradients[name] = torch.empty(size, dtype=gradient.dtype, device="meta")
    parameter.grad = None


class _Attention(torch.autograd.Function):
    """What fused attention keeps: its inputs, its result, and a number for each row of scores."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows, heads, length, _ = query.shape
        found = query.new_empty((rows, length, heads, value.shape[-1]))
        sums = query.new_empty((rows, heads, length), dtype=torch.float32)
        ctx.save_for_backward(query, key, value, found, sums)
        return found

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
        query, key, value, _, _ = ctx.saved_tensors
        return tuple(map(torch.empty_like, (query, key, value)))


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
) -> tuple[Tensor, None]:
    """Stand in for fused attention, an attention function of transformers."""
    found: Tensor = _Attention.apply(query, key, value)
    return found, None


AttentionInterface.register(NAME, _attend)
