"""Tasks of lm-eval: loading them, and checking them before any model is loaded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from itertools import islice
from typing import Any

from hft_ray.config import ConfigError, LmEval, Problem, nearest
from hft_ray.data import content_hash, locate

SEED = 1234
"""Seed of the draw of solved examples, lm-eval's own default."""

HASHED_SHOTS = 1000
"""Documents that solved examples are drawn from and that count in a fingerprint: training sets may
have hundreds of thousands."""
LIMITED_WORST = {"bits_per_byte": 8.0, "byte_perplexity": 256.0, "brier_score": 2.0}
"""Metrics of which less is better, and their worst sensible value."""


@dataclass(frozen=True)
class Harness:
    """The tasks that one evaluation of ``kind: lm_eval`` runs.

    Attributes:
        loaded: What lm-eval's ``evaluate`` takes.
        tasks: Its single tasks by name.
        weight_by_size: Whether a group's score counts items (or tasks) alike.
        metric: Name of the metric.
        filter: Name of the filter of the answers.
    """

    loaded: Any
    tasks: dict[str, Any]
    weight_by_size: bool
    metric: str
    filter: str

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher value of the metric is better."""
        known = next(iter(self.tasks.values())).higher_is_better()
        return bool(known.get(self.metric, True))

    def reset(self) -> None:
        """Restart the draw of solved examples, so that every model sees the same ones."""
        for task in self.tasks.values():
            task.set_fewshot_seed(seed=SEED)

    def fingerprint(self, limit: int | None) -> str:
        """Return a hash of the tasks' settings and documents, and of lm-eval's version."""
        import lm_eval

        content: list[Any] = [lm_eval.__version__, self.weight_by_size]
        for name, task in self.tasks.items():
            shots = list(islice(task.fewshot_docs() or (), HASHED_SHOTS))
            documents = list(task.eval_docs)[:limit]
            content.append([name, task.dump_config(), documents, shots])
        return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()


def check_harness(evaluation: LmEval, path: str) -> None:
    """Check that the task runs, including its data; ``path`` is its place in FILE.

    Raises:
        ConfigError: lm-eval is not installed, or the task is unknown, broken or out of reach.
    """
    for task in load_harness(evaluation, path).tasks.values():
        build = partial(task.build_all_requests, limit=1, rank=0, world_size=1)
        _guard(path, f"task {task.task_name} cannot be run", build)


def known_harness(evaluation: LmEval, path: str) -> None:
    """Check that lm-eval is installed and has the task, without loading its data.

    Raises:
        ConfigError: It is not installed, or does not have the task.
    """
    _manager(evaluation, path)


def load_harness(evaluation: LmEval, path: str) -> Harness:
    """Load the tasks of an evaluation; they are cached while their folder is unchanged.

    Raises:
        ConfigError: See :func:`check_harness`; or the task does not have the metric or filter.
    """
    folder = _folder(evaluation, path)
    content = None if folder is None else content_hash(folder)
    return _loaded(evaluation, path, content)


@lru_cache(maxsize=32)
def _loaded(evaluation: LmEval, path: str, content: str | None) -> Harness:
    manager = _manager(evaluation, path)
    loaded = _guard(
        f"{path}.task",
        f"the lm-eval task {evaluation.task!r} cannot be loaded",
        lambda: manager.load([evaluation.task]),
    )
    tasks = loaded["tasks"]
    if not tasks:
        raise ConfigError(Problem(f"{path}.task", "the lm-eval group is empty", evaluation.task))
    for name, task in tasks.items():
        _refuse(name, task, path)
        # As lm-eval's own simple_evaluate does: a task that asks for none gets none.
        if evaluation.shots is not None and task.config.num_fewshot != 0:
            task.set_config(key="num_fewshot", value=evaluation.shots)
        elif task.config.num_fewshot is None:
            task.set_config(key="num_fewshot", value=0)
    metric, chosen = _metric(evaluation, tasks, path)
    return Harness(loaded, tasks, _weight_by_size(loaded, evaluation.task, metric), metric, chosen)


def _refuse(name: str, task: Any, path: str) -> None:
    """Refuse a task that runs the model's code without permission, samples, or has images."""
    place = f"{path}.task"
    if getattr(task, "UNSAFE_CODE", False) and os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
        message = "runs code that the model writes; to allow it set HF_ALLOW_CODE_EVAL=1"
        raise ConfigError(Problem(place, message, name))
    if getattr(task, "MULTIMODAL", False):
        raise ConfigError(Problem(place, "needs more than text", name))
    if (task.config.generation_kwargs or {}).get("do_sample"):
        raise ConfigError(Problem(place, "samples its answers; only greedy ones compare", name))


def _metric(evaluation: LmEval, tasks: dict[str, Any], path: str) -> tuple[str, str]:
    """Return the metric and the filter that are asked for, or the first of the task."""
    first = next(iter(tasks.values()))
    metric, _, chosen = (evaluation.metric or "").partition(",")
    filters = [each["name"] for each in first.config.filter_list or ()] or ["none"]
    metric, chosen = metric or next(iter(first.aggregation())), chosen or filters[0]
    place = f"{path}.metric"
    for name, task in tasks.items():
        known = list(task.aggregation())
        # A metric of the task's own code names its values only when it runs.
        own = any(callable(each.get("metric")) for each in task.config.metric_list or ())
        if metric not in known and not own:
            message = (
                f"is not a metric of {name}; it has {', '.join(known)}{nearest(metric, known)}"
            )
            raise ConfigError(Problem(place, message, metric))
    if chosen not in filters:
        message = f"is not a filter of the task; it has {', '.join(filters)}"
        raise ConfigError(Problem(place, message, chosen))
    if not first.higher_is_better().get(metric, True) and metric not in LIMITED_WORST:
        message = "has no worst value to measure a front from; take another metric of the task"
        raise ConfigError(Problem(place, message, metric))
    return metric, chosen


def _weight_by_size(loaded: Any, name: str, metric: str) -> bool:
    """Return how a group averages the metric; several tasks without a rule count alike."""
    group = (loaded.get("groups") or {}).get(name)
    rules = [] if group is None else group.aggregate_metric_list or []
    return any(rule.metric == metric and rule.weight_by_size for rule in rules)


def _folder(evaluation: LmEval, path: str) -> Any:
    if evaluation.include_path is None:
        return None
    place = f"{path}.include_path"
    folder = locate(evaluation.include_path, place)
    if folder is None or not folder.is_dir():
        raise ConfigError(Problem(place, "is not a folder of tasks", evaluation.include_path))
    return folder


def _manager(evaluation: LmEval, path: str) -> Any:
    """Return an index of tasks that contains the evaluation's task."""
    if find_spec("lm_eval") is None:
        message = 'needs the extra lm-eval: pip install "hft-ray[lm-eval]"'
        raise ConfigError(Problem(f"{path}.kind", message, evaluation.kind))
    folder = _folder(evaluation, path)
    from lm_eval.tasks import TaskManager

    if folder is not None:
        own = _guard(
            f"{path}.include_path",
            "the tasks cannot be read",
            lambda: TaskManager(include_path=str(folder), include_defaults=False),
        )
        # lm-eval's own 14,000 tasks take seconds to index: only some groups need them too.
        if evaluation.task in own.all_subtasks or _whole(own, evaluation.task):
            return own
        everything = TaskManager(include_path=str(folder))
    else:
        everything = _shipped()
    if evaluation.task not in everything.all_tasks:
        message = (
            f"is not a task or group of lm-eval{nearest(evaluation.task, everything.all_tasks)}"
        )
        raise ConfigError(Problem(f"{path}.task", message, evaluation.task))
    return everything


def _whole(manager: Any, name: str) -> bool:
    """Whether an index holds the group ``name`` and all that it names."""
    entry = manager.task_index.get(name)
    members = (entry.cfg or {}).get("task") if entry is not None else None
    return isinstance(members, list) and all(
        isinstance(each, str) and each in manager.all_subtasks for each in members
    )


@lru_cache(maxsize=1)
def _shipped() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _guard(place: str, what: str, step: Callable[[], Any]) -> Any:
    """Return the result of ``step``, a call of lm-eval.

    A task is a file of settings, templates and code, of lm-eval's or the user's: any error in it is
    a configuration error.
    """
    try:
        return step()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        message = f"{what}: {type(error).__name__}: {reason}"
        raise ConfigError(Problem(place, message)) from error
