"""Empirical attainment: what share of several runs reached which part of the objective space."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np

from hft_ray.pareto.points import Array

DIMENSIONS = (2, 3)
"""Numbers of objectives for which attainment is computed."""


def attained(runs: Sequence[Array], share: float) -> Array:
    """Return the surface that at least ``share`` of the runs reached, as nondominated (k, m) rows.

    The empirical attainment function (Grunert da Fonseca, Fonseca and Hall, "Inferential
    performance assessment of stochastic optimisers and the attainment function", EMO 2001): a
    vector is attained by a run when some point of it is at least as good in every objective.

    Args:
        runs: Minimised values (n_i, m) of each run, m 2 or 3.
        share: Above 0, at most 1; 0.5 is the median front.
    """
    sets = np.repeat(np.arange(len(runs)), [len(run) for run in runs])
    surface = moocore.eaf(np.concatenate(runs), sets, percentiles=[100 * share])
    return np.asarray(surface[:, :-1], dtype=np.float64)
