"""Section ``search`` of FILE."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from hft_ray.config.sections.arms import Arms, arm_problem
from hft_ray.config.sections.budget import Plateau, SweepBudget
from hft_ray.config.sections.constraints import (
    METRIC,
    Constraint,
    ConstraintText,
    Preference,
    parse_constraint,
)
from hft_ray.config.sections.section import Name, PositiveInt, Section
from hft_ray.config.sections.space import Space
from hft_ray.config.sections.variants import Variants

Sampler = Literal["botorch", "tpe", "tpe_multivariate", "nsga2", "nsga3", "gp", "random", "sobol"]


class Scheduler(Section):
    """When a trial ends early. ``scheduler: asha`` is short for ``scheduler: {kind: asha}``."""

    kind: Literal["none", "asha"] = "none"
    """none: no trial is stopped; asha: trials that fall behind others at the same step are stopped,
    by all objectives (MO-ASHA). Trials are compared at evaluations: needs evaluation.every."""
    min_steps: PositiveInt | None = None
    """Steps of a trial before the first comparison; by default evaluation.every."""
    eta: Annotated[int, Field(ge=2)] = 3
    """Reduction factor: one trial in eta continues, and the next comparison is after eta times the
    steps."""
    epsilon: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Trials whose ranks differ by at most this share of the compared trials count as equally good.
    Non-dominated trials continue, unless another one epsilon-dominates them."""


class Search(Section):
    """What is searched, for which objectives, with how many trials."""

    space: Space = Field(min_length=1, max_length=200)
    """Dotted key of FILE -> {low, high, log} or a list of values."""
    objectives: dict[str, Literal["max", "min"]] = Field(
        default={"task/score": "max", "forgetting/mean": "min"}, min_length=1
    )
    """Metric -> direction."""
    reference_point: dict[str, float] | None = None
    """Objective -> worst value for the hypervolume; not needed for scores and forgetting."""
    constraints: list[ConstraintText] = Field(default_factory=list)
    """What a trial must satisfy to be on the front: METRIC <= NUMBER or METRIC >= NUMBER. The
    number may be a share of the base model's score, as in `general/score >= 0.98 * base`."""
    preference: Preference | None = None
    """How the knee of the front is chosen: weights of the objectives, or a target."""
    trials: PositiveInt = 20
    """Trials of the sweep, baselines and `first` included, further seeds not."""
    budget: SweepBudget | None = None
    """Time that the sweep may take; when it is spent, no further trial starts."""
    plateau: Plateau | None = None
    """End when the last trials have added almost nothing; by default all trials run."""
    seeds: PositiveInt = 1
    """Most seeds of a configuration. Those near the front get further seeds, by a race; each is a
    trial of its own, in addition to `trials`."""
    seed_keys: list[Literal["selection.seed", "training.seed"]] = Field(
        default=["selection.seed", "training.seed"], min_length=1
    )
    """Seeds that count up from one seed of a configuration to the next."""
    warm_start: list[Name] = Field(default_factory=list)
    """Earlier sweeps, read from MLflow. The sampler learns from their trials where these could be
    trials of this sweep; otherwise their fronts give the first trials."""
    first: list[dict[str, Any]] = Field(default_factory=list)
    """Trials to run first: dotted key -> value each. Full fine-tuning is always among them."""
    arms: Arms | None = None
    """Methods to compare: a list of known names, or name -> {set, space} with settings that the arm
    fixes and a space of its own beside that of the sweep. Each has an equal share of the trials and
    is searched by itself. Known are full, hft, lisa, lora, l2, dft, eaft, stm, kl, ema, sfa,
    source, replay and, made of the models of full, averaging, depth and half_reset; see
    docs/baselines.md."""
    sampler: Literal["auto", Sampler] = "auto"
    """How the next trial is chosen; see docs/search.md. auto: botorch, a model of all results, for
    up to 1,000 trials and three objectives; beyond, tpe."""
    scheduler: Scheduler = Field(default_factory=Scheduler)
    """Whether trials that fall behind are stopped early."""
    variants: Variants = Field(default_factory=Variants)
    """Further models that are made of each trained one and scored."""
    weights: Literal["front", "none"] = "front"
    """front: keep the weights of the points on the front, for hft-ray export; none: keep none."""
    disk_bytes: PositiveInt | None = None
    """Most bytes of kept weights; if the front needs more, the points that contribute least to its
    hypervolume are deleted."""
    seed: int = 0
    """Seed of the sampler."""

    @field_validator("scheduler", mode="before", json_schema_input_type=Scheduler | str)
    @classmethod
    def _scheduler_kind(cls, scheduler: Any) -> Any:
        return {"kind": scheduler} if isinstance(scheduler, str) else scheduler

    @field_validator("objectives")
    @classmethod
    def _metric_names(cls, objectives: dict[str, str]) -> dict[str, str]:
        for name in objectives:
            if not re.fullmatch(METRIC, name):
                raise ValueError(f"{name!r} is not a metric name; metrics look like task/score")
        return objectives

    @model_validator(mode="after")
    def _arms_are_equal(self) -> Search:
        problem = arm_problem(self.arms or {}, self.trials, self.first, self.variants)
        if problem:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _preferred_objectives(self) -> Search:
        preference = self.preference
        named = (preference.weights or preference.target or {}) if preference else {}
        if unknown := [name for name in named if name not in self.objectives]:
            known = ", ".join(self.objectives)
            raise ValueError(
                f"preference: {', '.join(unknown)} is not an objective; the objectives are {known}"
            )
        return self

    @model_validator(mode="after")
    def _arms_stand_alone(self) -> Search:
        if self.arms and (self.seeds > 1 or self.warm_start):
            raise ValueError(
                "arms share the trials equally and are searched by themselves: "
                "leave out seeds and warm_start"
            )
        return self

    @model_validator(mode="after")
    def _seeds_are_no_settings(self) -> Search:
        searched = [key for key in self.seed_keys if key in self.space]
        if self.seeds > 1 and searched:
            raise ValueError(
                f"seed_keys: {', '.join(searched)} is searched, so it is not a repetition; "
                "leave it out of the space or out of seed_keys"
            )
        return self

    @property
    def bounds(self) -> list[Constraint]:
        """The constraints, read."""
        return [parse_constraint(text) for text in self.constraints]
