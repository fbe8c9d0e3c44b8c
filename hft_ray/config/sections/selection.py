"""Section ``selection`` of FILE."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hft_ray.config.sections.section import Fraction, PositiveInt, Section

Weight = Annotated[float, Field(ge=0)]
ReselectAt = Literal["never", "task", "epoch"]


class Weights(Section):
    """How much more often a category is drawn than another, for the strategy ``weighted``."""

    attention: Weight = 1.0
    """Attention matrices."""
    feed_forward: Weight = 1.0
    """Feed-forward matrices."""
    norm: Weight = 1.0
    """Norms inside the layers."""
    expert: Weight = 1.0
    """Matrices of experts."""
    router: Weight = 1.0
    """Routers."""

    @model_validator(mode="after")
    def _some_weight(self) -> Weights:
        if not any(self.model_dump().values()):
            raise ValueError("all weights are 0; at least one must be above 0")
        return self


class Selection(Section):
    """Which parameters are trained, and when the choice is drawn again."""

    ratio: Fraction = 0.5
    """Share of the block parameters (or matrices) that is trained."""
    granularity: Literal["model", "layer", "category"] = "category"
    """model: any matrices; layer: whole layers; category: the paper's rule within each layer."""
    budget: Literal["matrices", "parameters"] = "matrices"
    """Whether the ratio counts matrices (the paper) or parameters."""
    strategy: Literal[
        "random",
        "cyclic",
        "gradient",
        "least_drifted",
        "most_drifted",
        "weighted",
        "source",
    ] = "random"
    """What is drawn first. random: anything (the paper); cyclic: what was drawn least often;
    gradient: what has the largest gradient per parameter; least_drifted, most_drifted: what has
    moved least, or most, from the base; weighted: random, with the category weights, not at layer
    granularity; source: what matters least for general data (data.replay.train), by the base's
    squared gradients."""
    weights: Weights = Field(default_factory=Weights)
    """Strategy weighted: the ratios of categories are proportional to these numbers, at most 1, and
    together make the ratio; at model granularity a unit is drawn with a chance by its weight."""
    reselect: ReselectAt | PositiveInt = "never"
    """When the choice is drawn again: never, at each task, at each epoch (before the first step
    that begins with data of that epoch), or every N steps."""
    across_tasks: Literal["independent", "disjoint", "nested"] = "independent"
    """How the choices of successive tasks relate, with reselect task. independent: drawn as the
    strategy says; disjoint: what no task before has trained comes first; nested: each task draws
    a share `ratio` of what the task before trained, so that fewer matrices train in each task."""
    on_deselect: Literal["keep", "reset"] = "keep"
    """What is deselected at a re-selection keeps its latest value (the paper), or is reset to the
    pre-trained one, so that only what is trained in the last round differs in the end."""
    probe: PositiveInt = 8
    """Strategies gradient and source: sequences whose gradients are measured, one by one; those of
    the coming steps before each draw, or general ones before the first."""
    audit: bool = True
    """At the end of each round prove by checksum that what was frozen has not changed, and measure
    how far each category has moved from the base."""
    embeddings: Literal["trained", "frozen", "selected"] = "trained"
    """Embeddings, head and other parameters outside the layers; the paper trains them."""
    seed: int = 0
    """Seed of the draws."""

    @model_validator(mode="after")
    def _related_where_redrawn(self) -> Selection:
        if self.across_tasks != "independent" and self.reselect != "task":
            raise ValueError(
                f"across_tasks {self.across_tasks} needs reselect task: a choice for each task"
            )
        return self

    @model_validator(mode="after")
    def _layers_have_no_category(self) -> Selection:
        if self.strategy == "weighted" and self.granularity == "layer":
            raise ValueError(
                "strategy weighted weighs categories, and a layer has all of them; "
                "take granularity category or model, or another strategy"
            )
        return self
