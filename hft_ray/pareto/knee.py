"""The knee: the point of a front that is the best compromise, or the one a user prefers.

Symbols: F (n, m) costs of a front, minimised; z* and z^n (m,) its best and worst values.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hft_ray.config.sections.constraints import Preference
from hft_ray.pareto.points import Array, Direction

AUGMENTATION = 0.05
"""Weight of the sum beside the maximum, so that of equal maxima the better point is taken."""


def knee(
    costs: Array, objectives: Mapping[str, Direction], preference: Preference | None = None
) -> int:
    """Return the row of an (n, m) front, n >= 1, that is the best compromise.

    The rule is compromise programming with the Euclidean norm (Yu, "A class of solutions for
    group decision problems", Management Science 19(8), 1973): scale each objective by ideal and
    nadir to [0, 1] and take the point nearest the ideal, objectives weighted by w (1 by default),

        argmin_i ||w (F_i - z*) / (z^n - z*)||_2.

    With a target t the rule is the achievement function (Wierzbicki, "The use of reference
    objectives in multiobjective optimization", 1980), which asks for more where t is surpassed:

        argmin_i max_j d_ij + 0.05 sum_j d_ij,    d_i = (F_i - t) / (z^n - z*).

    An objective in which the whole front is equal decides nothing. Of equally near points the
    first is taken.
    """
    ideal, nadir = costs.min(axis=0), costs.max(axis=0)
    span = np.where(nadir > ideal, nadir - ideal, 1.0)
    if preference is not None and preference.target is not None:
        aim = _aim(objectives, preference.target, ideal)
        apart = np.where(nadir > ideal, (costs - aim) / span, 0.0)
        return int(np.argmin(apart.max(axis=1) + AUGMENTATION * apart.sum(axis=1)))
    weights = (preference.weights if preference else None) or {}
    factors = np.array([weights.get(name, 1.0) for name in objectives])
    return int(np.argmin(np.linalg.norm(factors * (costs - ideal) / span, axis=1)))


def _aim(objectives: Mapping[str, Direction], target: Mapping[str, float], ideal: Array) -> Array:
    """Return the target, minimised; the ideal where an objective has none."""
    signs = [-1.0 if direction == "max" else 1.0 for direction in objectives.values()]
    named = zip(objectives, signs, ideal, strict=True)
    return np.array([sign * target[n] if n in target else best for n, sign, best in named])
