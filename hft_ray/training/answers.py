"""From scores to the item scores that are kept of every point of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hft_ray.config import EvaluationSection
from hft_ray.evaluation import Score, Scores, evaluation_identity
from hft_ray.item_scores import ItemScores

Metrics = Callable[[Scores, Scores], dict[str, float]]
"""``metrics(scores, base)`` -> metric -> value."""
_STEP = 1e-4


def item_scores(scores: Scores, base: Scores, metrics: Metrics) -> ItemScores:
    """Return a model's item scores, and how each metric depends on the evaluations.

    The derivatives are central differences: metrics are linear in the scores, or nearly so.

    Args:
        scores: The model's.
        base: The base's.
        metrics: What is made of both.
    """
    named = _all(scores)
    names = list(metrics(scores, base))
    columns = []
    for of_base in (False, True):
        for name in named:

            def moved(step: float, name: str = name, of_base: bool = of_base) -> list[float]:
                if of_base:
                    found = metrics(scores, _moved(base, name, step))
                else:
                    found = metrics(_moved(scores, name, step), base)
                return [found.get(metric, np.nan) for metric in names]

            above, below = np.array(moved(_STEP)), np.array(moved(-_STEP))
            columns.append((above - below) / (2 * _STEP))
    gradient = np.array(columns, dtype=np.float32).reshape(2 * len(named), len(names)).T
    known = np.flatnonzero(np.isfinite(gradient).all(axis=1))
    return ItemScores(
        items={name: np.array(score.items) for name, score in named.items()},
        metrics=tuple(names[place] for place in known),
        gradient=gradient[known],
    )


def base_item_scores(base: Scores, section: EvaluationSection, metrics: Metrics) -> ItemScores:
    """Return the base's item scores, with what the items of each evaluation are.

    Args:
        base: The base's scores.
        section: What is scored.
        metrics: What is made of them.
    """
    named = _all(base)
    weights = {name: each.weights for name, each in named.items() if each.weights is not None}
    groups = {name: each.groups for name, each in named.items() if each.groups is not None}
    return replace(
        item_scores(base, base, metrics),
        weights={name: np.array(each) for name, each in weights.items()},
        groups={name: np.array(each) for name, each in groups.items()},
        identities={each.name: evaluation_identity(each, path) for path, each in section.places()},
    )


def _all(scores: Scores) -> dict[str, Score]:
    return {**scores.task, **scores.general}


def _moved(scores: Scores, name: str, step: float) -> Scores:
    """Return the scores with one evaluation's value moved."""
    task, general = (
        {
            each: replace(score, value=score.value + step) if each == name else score
            for each, score in part.items()
        }
        for part in (scores.task, scores.general)
    )
    return replace(scores, task=task, general=general)
