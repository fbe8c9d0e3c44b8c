"""Units of scores: only scores of one unit can be averaged.

A mean of accuracies and nats has no meaning, and the evaluation that varies more decides it. So
``task/score``, ``general/score`` and ``forgetting/mean`` exist where all their evaluations have one
unit. ``retention/mean`` has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hft_ray.config import (
    Divergence,
    Evaluation,
    EvaluationSection,
    Generation,
    LmEval,
    MultipleChoice,
    PairPreference,
    Perplexity,
)

SHARE = "share"
"""Unit of a score whose items lie in [0, 1]."""
NATS = "nats per token"

_SHARES = {
    *("accuracy", "exact_match", "token_f1", "number_match", "rouge_l", "edit_similarity", "sari"),
    *("reward_accuracy", "logprob_accuracy"),
    # lm-eval's, of which the items are those of a mean.
    *("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "em", "f1", "pass@1", "pass_at_1"),
    *("prompt_level_strict_acc", "prompt_level_loose_acc"),
}
_UNITS = {"cross_entropy": NATS, "kl": NATS, "reward_margin": "nats per pair"}


def unit(metric: str) -> str:
    """Return the unit of a metric; the unit of an unknown metric is its name."""
    return SHARE if metric in _SHARES else _UNITS.get(metric, metric)


def metric_of(evaluation: Evaluation) -> str:
    """Return the metric of an evaluation of FILE, as its score will call it.

    The first metric of a task of lm-eval is known only when the task is loaded: without ``metric``
    it is called after the task.
    """
    match evaluation:
        case Perplexity():
            return "cross_entropy"
        case MultipleChoice():
            return "accuracy"
        case Divergence():
            return "kl"
        case Generation() | PairPreference():
            return evaluation.metric
        case LmEval():
            named = (evaluation.metric or "").partition(",")[0]
            return named or f"the first metric of {evaluation.task}"


def one_unit(metrics: Iterable[str]) -> bool:
    """Whether scores of these metrics can be averaged: there are some, all of one unit."""
    return len({unit(metric) for metric in metrics}) == 1


def averageable(evaluations: Sequence[Evaluation]) -> bool:
    """Whether the scores of evaluations of FILE can be averaged."""
    return one_unit(map(metric_of, evaluations))


def mixed_units(section: EvaluationSection, metric: str) -> str | None:
    """Return why a mean is not a metric of FILE, and the alternative; ``None`` if it is one.

    Args:
        section: The evaluations.
        metric: Name of a metric, a mean or not.
    """
    if metric in ("general/score", "forgetting/mean", "continual/general"):
        single = "general/NAME" if metric == "general/score" else "forgetting/NAME"
        remedy = f"retention/mean, which has no unit, or {single} of one evaluation"
        return mixture(section.general, remedy)
    if metric == "task/score" or metric.startswith("continual/"):
        return mixture(section.task, "task/NAME of one evaluation")
    return None


def mixture(evaluations: Sequence[Evaluation], remedy: str) -> str | None:
    """Return why evaluations have no mean, with ``remedy``; ``None`` if they have one."""
    if not evaluations or averageable(evaluations):
        return None
    units: dict[str, list[str]] = {}
    for each in evaluations:
        units.setdefault(unit(metric_of(each)), []).append(each.name)
    said = "; ".join(f"{name} ({', '.join(names)})" for name, names in units.items())
    unnamed = any(isinstance(each, LmEval) and each.metric is None for each in evaluations)
    more = "; give lm_eval entries a metric, which tells their unit" if unnamed else ""
    return f"mixes units: {said}; take {remedy}{more}"
