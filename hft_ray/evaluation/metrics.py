"""Metrics by their flat names in tracking, search objectives and results."""

from __future__ import annotations

from hft_ray.config import STDERR, EvaluationSection
from hft_ray.evaluation.forgetting import forgetting, mean_forgetting
from hft_ray.evaluation.retention import mean_retention, retention, unable
from hft_ray.evaluation.score import Estimate, Score, Scores
from hft_ray.evaluation.units import NATS, SHARE, averageable, one_unit, unit

_BEST = {SHARE: 1.0, NATS: 0.0}
"""Unit -> the best score in it."""


def metric_values(current: Scores, base: Scores | None) -> dict[str, float]:
    """Return metric name -> value of ``current``.

    ``task/NAME`` and ``general/NAME`` are the scores in their own units, ``task/score`` and
    ``general/score`` their means (higher is better, see ``Scores.means``). With a ``base``,
    ``forgetting/NAME`` and ``forgetting/mean`` say what the general evaluations lost against it,
    ``retention/NAME`` and ``retention/mean`` which share of its ability is left. Means of scores of
    several units are left out, and the retention of what the base is not able to do.
    """
    return {name: each.value for name, each in metric_estimates(current, base).items()}


def metric_errors(current: Scores, base: Scores | None) -> dict[str, float]:
    """Return the standard errors of ``metric_values``, each name with the prefix ``STDERR``."""
    return {
        f"{STDERR}{name}": each.stderr for name, each in metric_estimates(current, base).items()
    }


def metric_estimates(current: Scores, base: Scores | None) -> dict[str, Estimate]:
    """Return ``metric_values`` with their errors and intervals."""
    found: dict[str, Estimate] = {
        f"{part}/{name}": score.estimate
        for part, scores in (("task", current.task), ("general", current.general))
        for name, score in scores.items()
    }
    found |= current.means
    if base is not None and current.general:
        lost = forgetting(base, current)
        found |= {f"forgetting/{name}": each for name, each in lost.items()}
        if one_unit(score.metric for score in current.general.values()):
            found["forgetting/mean"] = mean_forgetting(lost)
        kept = retention(base, current)
        found |= {f"retention/{name}": each for name, each in kept.items()}
        if kept:
            found["retention/mean"] = mean_retention(kept)
    return found


def metric_names(section: EvaluationSection) -> list[str]:
    """Return the names that ``metric_values`` has, with a base, for the evaluations of FILE.

    A base that is not able to do what an evaluation asks has fewer (see ``retention.unable``).
    """
    task = [evaluation.name for evaluation in section.task]
    general = [evaluation.name for evaluation in section.general]
    names = [f"task/{name}" for name in task]
    names += [
        f"{part}/{name}" for part in ("general", "forgetting", "retention") for name in general
    ]
    if averageable(section.task):
        names.append("task/score")
    if averageable(section.general):
        names += ["general/score", "forgetting/mean"]
    return [*names, *(["retention/mean"] if general else [])]


def worst_values(base: Scores) -> dict[str, float]:
    """Return the worst sensible value of every metric, for the hypervolume's reference point.

    Scores at their ``worst``; forgetting as if everything down to that was lost (never below 0,
    for a base that is itself worse than a guess); a retention of 0: no more than a guess.
    """
    found = {
        f"{part}/{name}": score.worst
        for part, scores in (("task", base.task), ("general", base.general))
        for name, score in scores.items()
    }
    for part, scores in (("task", base.task), ("general", base.general)):
        if one_unit(score.metric for score in scores.values()):
            found[f"{part}/score"] = _mean(
                [_sign(score) * score.worst for score in scores.values()]
            )
    lost = {
        f"forgetting/{name}": max(0.0, _sign(score) * (score.value - score.worst))
        for name, score in base.general.items()
    }
    if one_unit(score.metric for score in base.general.values()):
        lost["forgetting/mean"] = _mean(list(lost.values()))
    kept = [f"retention/{name}" for name in base.general if name not in unable(base)]
    return found | lost | dict.fromkeys([*kept, *(["retention/mean"] if kept else [])], 0.0)


def best_values(base: Scores) -> dict[str, float]:
    """Return the value that cannot be surpassed, of every score and forgetting that has one.

    A score is at best 1 as a share, and 0 in nats per token; forgetting is then at its lowest.
    """
    found: dict[str, float] = {}
    for part, scores in (("task", base.task), ("general", base.general)):
        limits = {n: _BEST[unit(x.metric)] for n, x in scores.items() if unit(x.metric) in _BEST}
        lost = {n: _sign(scores[n]) * (scores[n].value - best) for n, best in limits.items()}
        found |= {f"{part}/{name}": best for name, best in limits.items()}
        if part == "general":
            found |= {f"forgetting/{name}": least for name, least in lost.items()}
        if limits and one_unit(score.metric for score in scores.values()):
            found[f"{part}/score"] = _mean([_sign(scores[n]) * x for n, x in limits.items()])
            if part == "general":
                found["forgetting/mean"] = _mean(list(lost.values()))
    return found


def _sign(score: Score) -> float:
    return 1.0 if score.higher_is_better else -1.0


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
