"""The objective of supervised fine-tuning."""

from __future__ import annotations

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
    logits: Tensor = model(**inputs, use_cache=False).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    return F.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
