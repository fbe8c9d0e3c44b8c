"""Section ``model`` of FILE."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from hft_ray.config.sections.section import Section


class Model(Section):
    """The language model that is tuned. ``model: NAME`` is short for ``model: {name: NAME}``."""

    name: str = Field(min_length=1)
    """A Hugging Face model directory, a GGUF file, a hub name, or package:MODULE/PATH."""
    revision: str | None = None
    """Revision of a hub name."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """Attention implementation of transformers; auto takes the model's own preference."""
    use_liger_kernel: bool = False
    """Run norms, rotary embeddings and feed-forward layers by Liger's fused kernels: on an H100 a
    step of a 1B model takes a fifth less time. Needs a GPU and ``pip install 'hft-ray[liger]'``."""
    trust_remote_code: bool = False
    """Run Python code that a model repository ships. Only for repositories you trust."""
    architecture: dict[str, Any] | None = None
    """The model's config.json as a mapping, for `hft-ray plan` when the weights are not here."""
