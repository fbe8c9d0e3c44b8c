"""Checks of evaluations that compare a model with the base token by token."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hft_ray.config import ConfigError, Problem
from hft_ray.evaluation.sharding import context_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def fingerprint(content: Any) -> Tensor:
    """Return the SHA-256 of tokens and positions, as JSON writes them: uint8, [32]."""
    digest = hashlib.sha256(json.dumps(content).encode()).digest()
    return torch.tensor(list(digest), dtype=torch.uint8)


def check_same_tokens(base: Tensor, own: Tensor, path: str) -> None:
    """Refuse a base that was given other tokens; both are a :func:`fingerprint`.

    Raises:
        ConfigError: They differ; ``path`` is the evaluation's place in FILE.
    """
    if not torch.equal(base, own):
        message = "the base reads other tokens: comparing models needs the same tokenizer"
        raise ConfigError(Problem(path, message))


def check_length(model: PreTrainedModel, longest: int, path: str, max_length: int) -> None:
    """Refuse sequences that the model has no positions for: nothing may be cut from one side only.

    Args:
        model: The model.
        longest: Tokens of the longest sequence, whose last one is not fed.
        path: The evaluation's place in FILE.
        max_length: Its setting of this name.

    Raises:
        ConfigError: The sequence is too long.
    """
    limit = context_length(model)
    if limit is not None and longest > limit + 1:
        message = f"is more than the {limit} positions of the model"
        raise ConfigError(Problem(f"{path}.max_length", message, max_length))
