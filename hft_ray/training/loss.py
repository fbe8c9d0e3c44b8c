"""What a model says of the answers in a batch, and the objective of supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hft_ray.evaluation.head import at_head
from hft_ray.evaluation.linear import PLAIN, Head, Terms

IGNORED = -100
"""Label of a position that is not trained."""

BASE = ("base_tokens", "base_logprobs", "base_rest")
"""Parts of a batch that tell what the base says at its trained positions; see ``kl_to_base``."""

HELD = "base_held"
"""Part of a batch: which of its trained positions are held to the base; all of them without it."""

_OWN = ("labels", "documents", "reference", *BASE, HELD)
"""Parts of a batch that are not the model's."""


def answer_loss(model: nn.Module, batch: dict[str, Tensor], terms: Terms = PLAIN) -> Tensor:
    """Return the summed cross-entropy of the trained positions of ``batch``, in nats.

    Args:
        model: A causal language model of transformers.
        batch: ``input_ids`` and ``labels`` of shape [batch, length], and what else the model takes.
            Labels stand at their own token's place: position t is predicted from position t - 1.
        terms: What becomes of each position's cross-entropy in the sum.

    Returns:
        Scalar. A sum, not a mean: the caller divides by the trained tokens of the whole step, so
        that the result does not depend on how the step was cut into micro-batches and ranks. A
        router's loss, where there is one, weighs as much as the batch's trained tokens.
    """
    loss, router, trained = _at_answers(
        model, batch, lambda hidden, head, targets: head.loss(hidden, targets, terms)
    )
    return loss if router is None else loss + router * trained.sum()


def answer_logprobs(
    model: nn.Module, batch: dict[str, Tensor], count: int
) -> tuple[Tensor, Tensor | None]:
    """Return the log-probability of each document's answer [count], and the router's loss.

    Args:
        model: A causal language model of transformers.
        batch: As for :func:`answer_loss`, and ``documents`` [batch, length]: which document, from
            0, a position belongs to.
        count: Number of documents.

    Returns:
        The sums over the answers' tokens, in nats; for the second see :func:`_router_loss`.
    """
    losses, router, trained = _at_answers(
        model, batch, lambda hidden, head, targets: head.losses(hidden, targets)
    )
    owners = F.pad(batch["documents"], (0, 1))[:, 1:][trained]
    # Not index_add, whose order on a GPU differs from run to run.
    mine = owners == torch.arange(count, device=owners.device)[:, None]  # [count, positions]
    return -losses.where(mine, 0.0).sum(dim=1), router


def look_at_answers(
    model: nn.Module, batch: dict[str, Tensor], look: Callable[[Tensor, Tensor], Any]
) -> list[Any]:
    """Return what ``look`` finds at the trained positions of ``batch``, some at a time, in order.

    Args:
        model: A causal language model of transformers, in evaluation mode, without gradients.
        batch: As for :func:`answer_loss`.
        look: ``look(logits [P, V] in fp32, targets [P])``.
    """
    found: list[Any] = []

    def work(hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
        for places, logits in head.logits(hidden):
            found.append(look(logits, targets[places]))
        return hidden.new_zeros(())

    _at_answers(model, batch, work)
    return found


def _router_loss(model: nn.Module, outputs: Any) -> Tensor | None:
    """Return the load-balancing loss of a mixture of experts, times its weight; None without one.

    A model computes it where config.json asks for it (``output_router_logits``), over the tokens of
    one forward pass that are not masked (Switch Transformer, arXiv 2101.03961, eq. 4 to 6), and
    transformers adds ``router_aux_loss_coef`` times it to the mean loss. It is not a sum over
    tokens: unlike the rest of a step's loss, it depends on how the step is cut into micro-batches.
    """
    found = getattr(outputs, "aux_loss", None)
    if not isinstance(found, Tensor):
        return None
    config: Any = getattr(model, "module", model).config
    return found.float() * float(config.get_text_config().router_aux_loss_coef)


def _at_answers(
    model: nn.Module, batch: dict[str, Tensor], work: Callable[[Tensor, Head, Tensor], Tensor]
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return what ``work(hidden, head, targets)`` gives, the router's loss, and the positions.

    ``work`` is given the N trained positions. They are also the mask [batch, length] that is
    returned: the positions that predict a trained token, which is the next one.
    """
    inputs = {key: value for key, value in batch.items() if key not in _OWN}
    targets = F.pad(batch["labels"], (0, 1), value=IGNORED)[:, 1:]
    trained = targets != IGNORED
    found, outputs = at_head(
        model, inputs, trained, lambda hidden, head: work(hidden, head, targets[trained])
    )
    return found, _router_loss(model, outputs), trained
