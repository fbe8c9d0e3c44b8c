"""Whether a loaded model is causal: no configuration says so of every architecture."""

from __future__ import annotations

from typing import Any

import torch

from hft_ray.config import ConfigError, Problem
from hft_ray.evaluation.sharding import scoring
from hft_ray.training.architecture import NOT_CAUSAL, PATH

# What a token after it cannot change is equal to the bit, up to kernels that sum in another order.
_ROUNDING = 16


def require_causal(model: Any, name: str) -> None:
    """Refuse a model whose predictions depend on tokens that follow (two tiny forward passes).

    Under ZeRO-3 a collective.

    Args:
        model: The model, on its device; under ZeRO-3 the engine's.
        name: What the user calls it.

    Raises:
        ConfigError: The last token of a sequence changes the logits before it.
    """
    before, last = [1, 2, 3, 4], (5, 6)
    with scoring(model):
        one, other = (
            model(
                input_ids=torch.tensor([[*before, token]], device=model.device), use_cache=False
            ).logits[:, : len(before)]
            for token in last
        )
    allowed = _ROUNDING * torch.finfo(one.dtype).eps * one.abs().max()
    if (one - other).abs().max() > allowed:
        message = f"{NOT_CAUSAL}: what it predicts depends on the tokens that follow; its attention"
        raise ConfigError(Problem(PATH, message + " needs a causal mask", name))
