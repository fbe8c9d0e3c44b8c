"""The objective of supervised fine-tuning."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

IGNORED = -100
"""Label of a position that is not trained."""


def answer_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the summed cross-entropy of the trained positions of ``batch``, in nats.

    Args:
        model: A causal language model of transformers.
        batch: ``input_ids`` and ``labels`` of shape [batch, length], and what else the model takes.
            Labels stand at their own token's place: position t is predicted from position t - 1.

    Returns:
        Scalar. A sum, not a mean: the caller divides by the trained tokens of the whole step, so
        that the result does not depend on how the step was cut into micro-batches and ranks.
    """
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    targets = F.pad(batch["labels"], (0, 1), value=IGNORED)[:, 1:]
    trained = targets != IGNORED
    if _projects_alone(getattr(model, "module", model)):
        # The head's work, and the memory of its logits, for the trained positions only.
        inputs["logits_to_keep"] = trained
        targets = targets[trained]
    logits: Tensor = model(**inputs, use_cache=False).logits.float()
    return F.cross_entropy(
        logits.view(-1, logits.shape[-1]),
        targets.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
    )


def _projects_alone(model: object) -> bool:
    """Whether the model takes a mask [batch, length] of the positions whose logits are wanted.

    A model of transformers does (``modeling_utils.slice_logits_to_keep``); code that came with a
    model may know the argument without knowing masks.
    """
    kind: type[Any] = type(model)
    known = kind.__module__.startswith("transformers.")
    return known and "logits_to_keep" in inspect.signature(kind.forward).parameters
