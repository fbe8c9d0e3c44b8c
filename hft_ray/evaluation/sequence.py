"""The scores after each task of a sequence, from which ``continual`` computes its measures.

A row is written before the first task (the base) and after each task t; R[t, i] is the mean
goodness of task i's evaluations then, G[t, j] the goodness of general evaluation j (goodness: the
value, negated where lower is better). What is a mean over scores of several units is not measured:
``continual/general`` where those of G differ, the other measures where those of R do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hft_ray.config import STDERR, EvaluationSection
from hft_ray.evaluation.continual import continual, general_ability_delta
from hft_ray.evaluation.score import Estimate, Score, Scores, mean_of
from hft_ray.evaluation.units import averageable, one_unit

Tasks = Mapping[str, Sequence[str]]
"""Task -> the names of its evaluations, in the order in which the tasks are trained."""

MEASURES = {
    "op": "overall_performance",
    "bwt": "backward_transfer",
    "bwt_gem": "backward_transfer_gem",
    "forgetting": "forgetting",
    "forward_transfer": "forward_transfer",
    "learning_accuracy": "learning_accuracy",
}
"""Metric ``continual/NAME`` -> measure of :class:`hft_ray.evaluation.continual.Continual`."""
GENERAL = "continual/general"
"""Metric: the general-ability delta."""


@dataclass(frozen=True)
class Row:
    """The scores at one moment.

    Attributes:
        step: Optimizer steps made.
        tasks: R[t, :], [T].
        general: G[t, :], [J].
    """

    step: int
    tasks: list[float]
    general: list[float]

    @classmethod
    def of(cls, step: int, tasks: Tasks, scores: Scores) -> Row:
        """Return the row of ``scores``."""
        found = [_mean([scores.task[name].goodness for name in names]) for names in tasks.values()]
        return cls(step, found, [score.goodness for score in scores.general.values()])


class TaskSequence:
    """The rows of one run.

    Args:
        tasks: The tasks.
        base: The base's scores, row 0.
    """

    def __init__(self, tasks: Tasks, base: Scores) -> None:
        self._tasks, self._base = tasks, base
        self.rows = [Row.of(0, tasks, base)]

    def add(self, step: int, scores: Scores) -> None:
        """Write the row after a task."""
        self.rows.append(Row.of(step, self._tasks, scores))

    def restore(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Continue from the rows of a checkpoint."""
        self.rows = [Row(**row) for row in rows]

    @property
    def entries(self) -> dict[str, float]:
        """The last row of R as metrics: ``matrix/TASK``."""
        return {
            f"matrix/{name}": x for name, x in zip(self._tasks, self.rows[-1].tasks, strict=True)
        }

    def measures(self, scores: Scores) -> dict[str, float]:
        """Return the measures as metrics, with ``scores`` as those after the last task.

        Before the last task's row is written there are none.
        """
        if len(self.rows) <= len(self._tasks):
            return {}
        return _measures([*self.rows[:-1], Row.of(0, self._tasks, scores)], self._base)

    def to_json(self) -> dict[str, Any]:
        """Return the rows with the names of their columns."""
        return {
            "tasks": list(self._tasks),
            "general": list(self._base.general),
            "rows": [asdict(row) for row in self.rows],
        }


def measure_names(section: EvaluationSection) -> list[str]:
    """Return the metrics of a run over tasks that is scored by ``section``."""
    names = [f"continual/{name}" for name in MEASURES] if averageable(section.task) else []
    return [*names, *([GENERAL] if averageable(section.general) else [])]


def untrained_measures(tasks: Tasks, base: Scores) -> dict[str, float]:
    """Return the measures of a model that no task changes."""
    return _measures([Row.of(0, tasks, base)] * (len(tasks) + 1), base)


def worst_measures(tasks: Tasks, base: Scores) -> dict[str, float]:
    """Return the worst sensible value of every measure.

    Every task learned to the full and then lost down to its evaluations' worst values; what was
    there before lost altogether.
    """
    best = Row.of(0, tasks, base.with_values(_best))
    worst = Row.of(0, tasks, base.with_values(lambda score: score.worst))
    start = Row.of(0, tasks, base)
    count = len(tasks)
    lost = [b - w for b, w in zip(best.tasks, worst.tasks, strict=True)][:-1]
    transferred = [min(0.0, w - s) for w, s in zip(worst.tasks, start.tasks, strict=True)][1:]
    general = [min(0.0, w - s) for w, s in zip(worst.general, start.general, strict=True)]
    found = {
        "op": _mean(worst.tasks),
        "bwt": -sum(lost) / count,
        "bwt_gem": -_mean(lost),
        "forgetting": _mean(lost),
        "forward_transfer": _mean(transferred),
        "learning_accuracy": _mean(worst.tasks),
    }
    named = {f"continual/{name}": x for name, x in found.items()} | {GENERAL: _mean(general)}
    return _measured(named, base)


def task_means(tasks: Tasks, scores: Scores) -> dict[str, float]:
    """Return ``task/TASK`` of tasks with several evaluations, and then the mean of all tasks.

    Where each task has one evaluation, the metrics of the evaluations are those of the tasks.
    """
    return {name: each.value for name, each in _task_estimates(tasks, scores).items()}


def task_errors(tasks: Tasks, scores: Scores) -> dict[str, float]:
    """Return the standard errors of ``task_means``, each name with the prefix ``STDERR``."""
    found = _task_estimates(tasks, scores)
    return {f"{STDERR}{name}": each.stderr for name, each in found.items()}


def _task_estimates(tasks: Tasks, scores: Scores) -> dict[str, Estimate]:
    means = {
        name: mean_of([Estimate(scores.task[x].goodness, scores.task[x].stderr) for x in names])
        for name, names in tasks.items()
    }
    several = {name: names for name, names in tasks.items() if len(names) > 1}
    found = {
        f"task/{name}": means[name]
        for name, names in several.items()
        if one_unit(scores.task[each].metric for each in names)
    }
    if several and one_unit(score.metric for score in scores.task.values()):
        found["task/score"] = mean_of(list(means.values()))
    return found


def _measures(rows: Sequence[Row], base: Scores) -> dict[str, float]:
    found = continual([row.tasks for row in rows])
    named = {f"continual/{name}": getattr(found, measure) for name, measure in MEASURES.items()}
    if rows[0].general:
        named[GENERAL] = float(general_ability_delta([row.general for row in rows])[-1])
    return _measured(named, base)


def _measured(named: Mapping[str, float], base: Scores) -> dict[str, float]:
    """Return the measures that have terms, all of one unit."""
    tasks, general = (
        one_unit(score.metric for score in part.values()) for part in (base.task, base.general)
    )
    return {
        name: x
        for name, x in named.items()
        if math.isfinite(x) and (general if name == GENERAL else tasks)
    }


def _best(score: Score) -> float:
    """Return the best value of a metric: 1 of what is to be maximised, else 0."""
    return 1.0 if score.higher_is_better else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
