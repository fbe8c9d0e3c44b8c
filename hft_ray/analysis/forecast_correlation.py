"""Rank correlation of the forecast of forgetting with what the trials of a sweep forgot.

The forecast is cheap (``evaluation.forecast``); where it ranks alike it may stand for the dear
measurement. Symbols: n trials, r Spearman's rank correlation over them. Its 95 % interval is that
of Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman
correlations", Psychometrika 65(1), 2000:

    tanh( atanh(r) -+ 1.96 sqrt((1 + r^2 / 2) / (n - 3)) )

Where r is 1 or -1 it is that of the next smaller correlation, two neighbouring ranks exchanged, so
that a few trials do not look certain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hft_ray.pareto import Front, Point
from hft_ray.pareto.points import FORECAST

_FORGOTTEN = ("forgetting/mean", "retention/mean")
_FEWEST = 6
_Z = 1.96


@dataclass(frozen=True)
class ForecastCorrelation:
    """How well the forecast ranks what was forgotten.

    Attributes:
        metric: What tells of forgetting.
        correlation: Spearman's rank correlation, positive where a larger forecast means that more
            was forgotten.
        interval: Its 95 % interval.
        trials: Number of trials.
    """

    metric: str
    correlation: float
    interval: tuple[float, float]
    trials: int

    @property
    def sentence(self) -> str:
        """What there is to say."""
        low, high = self.interval
        said = "cannot be told from chance"
        if low > 0:
            said = "rises with it"
        elif high < 0:
            said = "falls with it"
        return (
            f"Forecast of forgetting ({FORECAST}, the cheap signal): what was forgotten "
            f"({self.metric}) {said}; rank correlation {self.correlation:.2f} "
            f"[{low:.2f}, {high:.2f}], 95 % interval, {self.trials} trials."
        )


def forecast_correlation(
    front: Front, metrics: Sequence[str] = _FORGOTTEN
) -> ForecastCorrelation | None:
    """Return what the trained models of a sweep say, None where too few have both metrics.

    Args:
        front: The front of the sweep.
        metrics: Metrics that tell of forgetting; the first one that enough models have is taken.
    """
    for metric in metrics:
        points = [point for point in front.points if _tells(point, metric)]
        if len(points) >= _FEWEST:
            return _correlation(points, metric)
    return None


def _tells(point: Point, metric: str) -> bool:
    trained = point.variant is None and point.state == "complete"
    return trained and point.measured([FORECAST, metric])


def _correlation(points: list[Point], metric: str) -> ForecastCorrelation | None:
    from scipy.stats import spearmanr

    cheap, dear = ([point.values[name] for point in points] for name in (FORECAST, metric))
    if len(set(cheap)) == 1 or len(set(dear)) == 1:
        return None
    found = float(spearmanr(cheap, dear).statistic)
    found = -found if metric.startswith("retention/") else found
    return ForecastCorrelation(metric, found, rank_interval(found, len(points)), len(points))


def rank_interval(correlation: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a rank correlation over ``n`` trials; see the module."""
    most = 1 - 12 / (n * (n * n - 1))
    r = max(-most, min(most, correlation))
    half = _Z * math.sqrt((1 + r * r / 2) / (n - 3))
    low, high = math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
    return min(low, correlation), max(high, correlation)
