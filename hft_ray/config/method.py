"""Section ``method`` of FILE."""

from __future__ import annotations

from typing import Literal

from hft_ray.config.section import Section


class Method(Section):
    """What training minimises, and in which stages. ``method: KIND`` is short for
    ``method: {kind: KIND}``."""

    kind: Literal["sft"] = "sft"
    """sft: supervised fine-tuning, loss on the answers only."""
