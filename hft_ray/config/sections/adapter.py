"""Section ``adapter`` of FILE."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hft_ray.config.sections.section import PositiveInt, Section


class Adapter(Section):
    """Small matrices that are trained instead of the model's own, and merged into them for every
    score and export. ``adapter: lora`` is short for ``adapter: {kind: lora}``. With an adapter
    the model's own parameters are frozen, and ``selection`` is not used."""

    kind: Literal["none", "lora"] = "none"
    """lora: W + alpha / rank * B A in place of W (arXiv 2106.09685); A random, B zero at first."""
    rank: PositiveInt = 8
    """Rows of A and columns of B."""
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """Scale of the added product, times rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the inputs of A that are left out in training."""
    targets: list[str] = Field(default=["attention", "feed_forward"], min_length=1)
    """The linear maps inside the layers that have an adapter: categories (attention, feed_forward)
    or the last part of their names, such as q_proj. The paper adapts queries and values alone."""
