"""A front as a pandas frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hft_ray.config import STDERR
from hft_ray.pareto import Front

if TYPE_CHECKING:
    import pandas as pd


def frame(front: Front, *, every: bool = False) -> pd.DataFrame:
    """Return the points of a front as a pandas frame, one row each.

    Columns: ``trial``, ``variant`` (None: the trained model itself), ``on_front``, ``knee``,
    ``state``, ``step`` (optimizer steps), the settings by their dotted keys, the metrics by their
    names, each in its own unit, and ``stderr/METRIC``, their standard errors. A value that is not
    known is NaN.

    Args:
        front: What :func:`hft_ray.tune` or :func:`hft_ray.front` returned.
        every: Return every trial and variant, in the order in which they began, also those that
            failed or were pruned. By default the points on the front, best in the first objective
            first; of several seeds of a configuration their mean.
    """
    import pandas as pd  # takes half a second

    shown = front if every else front.averaged
    knee = None if shown.knee_index is None else shown.points[shown.knee_index]
    on_front = {id(point) for point in shown.members}
    rows = [
        {
            "trial": point.trial,
            "variant": point.variant,
            "on_front": id(point) in on_front,
            "knee": point is knee,
            "state": point.state,
            "step": point.step,
            **{key: point.setting(key) for key in point.params},
            **point.values,
            **{f"{STDERR}{name}": error for name, error in point.errors.items()},
        }
        for point in (shown.points if every else shown.members)
    ]
    columns = ["trial", "variant", "on_front", "knee", "state", "step"]
    return pd.DataFrame(rows, columns=None if rows else columns)
