"""Constraints on trials and the preferred compromise: parts of section ``search`` of FILE."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hft_ray.config.sections.section import Section

METRIC = r"[a-z]+/[A-Za-z0-9._-]+"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_FORM = re.compile(
    rf"(?P<metric>{METRIC})\s*(?P<sign><=|>=)\s*(?P<number>{_NUMBER})(?P<base>\s*\*\s*base)?"
)
STDERR = "stderr/"
"""Prefix of the name of a metric's standard error."""
SCORED = ("task/", "general/")
"""Metrics that the untouched model has too, and that are not 0 by definition."""


@dataclass(frozen=True)
class Constraint:
    """``METRIC <= NUMBER`` or ``METRIC >= NUMBER``, the number possibly times the base's value.

    Attributes:
        metric: What is bounded.
        sign: On which side.
        number: The bound, or the share of the base's value.
        of_base: Whether it is a share.
    """

    metric: str
    sign: Literal["<=", ">="]
    number: float
    of_base: bool

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.number:g}{' * base' if self.of_base else ''}"

    def limit(self, base: Mapping[str, float]) -> float:
        """Return the bound, given metric -> value of the untouched model."""
        return self.number * base[self.metric] if self.of_base else self.number

    def violation(self, values: Mapping[str, float], base: Mapping[str, float]) -> float:
        """Return the violation as a share of the bound; 0 or less when the constraint holds.

        With a bound of 0 the violation is absolute. A metric without a finite value counts as 1.
        """
        value, limit = values.get(self.metric, math.nan), self.limit(base)
        if not math.isfinite(value):
            return 1.0
        beyond = value - limit if self.sign == "<=" else limit - value
        return beyond / (abs(limit) or 1.0)


def parse_constraint(text: str) -> Constraint:
    """Return the constraint in ``text``.

    Raises:
        ValueError: ``text`` is not a constraint.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{text!r} is not a constraint; constraints look like 'general/score >= 0.98 * base' "
            "or 'cost/peak_memory_bytes <= 70e9'"
        )
    metric, of_base = found["metric"], found["base"] is not None
    if of_base and not metric.startswith(SCORED):
        raise ValueError(
            f"{text!r}: the base has no value of {metric} to compare with; "
            "task/ and general/ scores have one"
        )
    sign: Literal["<=", ">="] = "<=" if found["sign"] == "<=" else ">="
    return Constraint(metric, sign, float(found["number"]), of_base)


def _checked(text: str) -> str:
    parse_constraint(text)
    return text


ConstraintText = Annotated[str, AfterValidator(_checked)]


class Preference(Section):
    """How the knee of the front, its best compromise, is chosen: by weights or by a target."""

    weights: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """Objective -> weight of its distance from the best value; 1 where it is not named."""
    target: dict[str, float] | None = None
    """Objective -> value to come near, or beyond; the best of the front where it is not named."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Preference:
        if (self.weights is None) == (self.target is None):
            raise ValueError("give either weights or a target")
        if self.weights is not None and not any(self.weights.values()):
            raise ValueError("all weights are 0; at least one must be above 0")
        return self
