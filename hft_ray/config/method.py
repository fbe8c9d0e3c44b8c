"""Section ``method`` of FILE."""

from __future__ import annotations

from typing import Literal

from hft_ray.config.stages import Preferences


class Method(Preferences):
    """What training minimises, and in which stages. ``method: KIND`` is short for
    ``method: {kind: KIND}``."""

    kind: Literal["sft", "dpo"] = "sft"
    """sft: supervised fine-tuning, loss on the answers only; dpo: direct preference
    optimisation, whose records are in data.train."""
