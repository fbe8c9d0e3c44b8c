"""Everything about a FILE that can be seen to be wrong before a model trains, all at once."""

from __future__ import annotations

import functools
from collections.abc import Callable

from hft_ray.config import Config, ConfigError, Evaluation, LmEval, Problem, nearest
from hft_ray.config.keys import searched_values, with_settings
from hft_ray.config.split import by_arm
from hft_ray.data import locate, read_examples, read_pairs
from hft_ray.evaluation import check_evaluation, files_of, known_harness, mixture
from hft_ray.training.architecture import load_shape
from hft_ray.training.dpo import SUMS
from hft_ray.training.lora import Lora
from hft_ray.training.scoring import mixed, score_names
from hft_ray.training.vocabulary import data_problems, evaluation_problems
from hft_ray.training.workspace import Workspace

TRAINING_METRICS = (
    "train/loss",
    "train/grad_norm",
    "train/learning_rate",
    "train/tokens_per_second",
    "train/trained_tokens_per_second",
    "selection/trainable_fraction",
    "selection/touched_fraction",
    "distance/all",
    "cost/device_seconds",
    "cost/peak_memory_bytes",
)
"""Metrics of every run, beside those of its evaluations."""

BOUNDED = ("task/", "general/", "forgetting/", "retention/", "continual/")
"""Objectives whose worst value is known, so that the hypervolume has a reference point."""


def check_settings(config: Config) -> list[Problem]:
    """Return what is wrong with the settings taken together."""
    problems = [*_objective_problems(config), *_task_problems(config)]
    for arm in by_arm(config).values():
        problems += [*_batch_problems(arm), *_strategy_problems(arm)]
    # Arms share most of their settings, and so what is wrong with them.
    return list({str(problem): problem for problem in problems}.values())


def _strategy_problems(config: Config) -> list[Problem]:
    """Gradients of everything are measured on whole parameters, which ZeRO-3 does not have."""
    strategies = searched_values(config, "selection.strategy")
    if "gradient" in strategies and 3 in searched_values(config, "training.zero_stage"):
        message = "needs training.zero_stage 0, 1 or 2; or take random, cyclic, drift, weighted"
        return [Problem("selection.strategy", message, "gradient")]
    return []


def _batch_problems(config: Config) -> list[Problem]:
    """Batches that the workers do not divide, over every searched batch and micro-batch size."""
    problems = []
    for batch in searched_values(config, "training.batch_size"):
        for micro in searched_values(config, "training.micro_batch_size"):
            workers = config.cluster.workers
            per_pass = (micro or 1) * workers
            if batch % per_pass:
                passes = f"micro_batch_size {micro} x " if micro else ""
                message = f"must be a multiple of {passes}{workers} workers"
                problems.append(Problem("training.batch_size", message, batch))
    return problems


def _objective_problems(config: Config) -> list[Problem]:
    if config.search is None:
        return []
    of_trials = _metrics_of_trials(config)
    known = [name for name in of_trials[0] if all(name in each for each in of_trials)]
    problems = []
    for name in config.search.objectives:
        path = f"search.objectives.{name}"
        if message := mixed(config, name):
            problems.append(Problem(path, message))
        elif name not in known:
            message = _unknown(name, of_trials) + "; known are " + ", ".join(sorted(known))
            problems.append(Problem(path, message + nearest(name, known)))
        elif not name.startswith(BOUNDED) and name not in (config.search.reference_point or {}):
            message = "has no worst value of its own: give one in search.reference_point"
            problems.append(Problem(path, message))
    for index, constraint in enumerate(config.search.bounds):
        path, message = f"search.constraints.{index}", mixed(config, constraint.metric)
        if message is None and constraint.metric not in known:
            message = _unknown(constraint.metric, of_trials) + nearest(constraint.metric, known)
        if message:
            message = f"{constraint.metric} {message}"
            problems.append(Problem(path, message, str(constraint)))
    for name in config.search.reference_point or {}:
        if name not in config.search.objectives:
            problems.append(Problem(f"search.reference_point.{name}", "is no objective"))
    return problems


def _task_problems(config: Config) -> list[Problem]:
    """Tasks in turn whose score would be a mean over several units: their matrix needs one."""
    if config.method.kind != "continual":
        return []
    remedy = "evaluations of one unit for a task in turn, whose score is their mean"
    found = ((index, mixture(task.scored, remedy)) for index, task in enumerate(config.tasks))
    return [Problem(f"tasks.{index}.evaluation", message) for index, message in found if message]


def _metrics_of_trials(config: Config) -> list[list[str]]:
    """Return the metrics of a trial, for each method that an arm or the space may give it."""
    found = []
    for arm in by_arm(config).values():
        first = arm.search.first if arm.search else []
        kinds = {each["method.kind"] for each in first if "method.kind" in each}
        for kind in sorted(kinds.union(searched_values(arm, "method.kind"))):
            one = arm if kind == arm.method.kind else with_settings(arm, {"method.kind": kind})
            pairs = [f"train/{name}" for name in SUMS] if one.pair_data else []
            found.append([*score_names(one), *TRAINING_METRICS, *pairs])
    return found


def _unknown(metric: str, of_trials: list[list[str]]) -> str:
    """Return what is wrong with a metric that some trial, or none, has."""
    if any(metric in each for each in of_trials):
        return "is not produced by every trial: it is a metric of one method, and others are tried"
    return "is produced by no evaluation"


def check(config: Config, workspace: Workspace, source: str, trust_hub: bool = False) -> list[str]:
    """Look at settings, model, data and evaluations; encodes the training data as a side effect.

    Args:
        config: FILE.
        workspace: Where caches lie.
        source: FILE's name, for the message.
        trust_hub: Fetch nothing: take what lies on a hub on trust.

    Returns:
        The names that were taken on trust.

    Raises:
        ConfigError: Everything that is wrong, together.
    """
    model, evaluations = config.model, list(config.scored.places())
    problems = check_settings(config)
    problems += _problems_of(lambda: workspace.catalog(model))
    for arm in by_arm(config).values():
        for name in searched_values(arm, "model.name"):
            other = arm.model.model_copy(update={"name": name})
            if other != model and not (trust_hub and _on_hub(name, "model.name")):
                problems += _problems_of(functools.partial(workspace.shape, other))
    if not problems:
        problems += _adapter_problems(config, workspace)
    sets = _data_sets(config, workspace)
    places = {"model.name": model.name, **{path: name for path, (name, *_) in sets.items()}}
    places |= {f"{path}.{key}": name for path, item in evaluations for key, name in files_of(item)}
    trusted = [name for path, name in places.items() if trust_hub and _on_hub(name, path)]
    known = len(problems)
    if model.name not in trusted:
        problems += _problems_of(lambda: workspace.tokenizer(model))
    # With a tokenizer everything is encoded; without one the files are still read.
    tokenizer = model.name not in trusted and len(problems) == known
    for name, encode, read_alone in sets.values():
        if name not in trusted:
            problems += _problems_of(encode if tokenizer else read_alone)
    read: list[tuple[str, Evaluation]] = []
    for path, item in evaluations:
        if isinstance(item, LmEval) and trust_hub:
            problems += _problems_of(functools.partial(known_harness, item, path))
            trusted.append(f"lm-eval {item.task}")
        elif not {name for _, name in files_of(item)} & set(trusted):
            found = _problems_of(functools.partial(check_evaluation, item, path))
            problems += found
            read += [] if found else [(path, item)]
    if tokenizer and not problems:
        problems += evaluation_problems(read, workspace.tokenizer(model), workspace.shape(model))
        if not {name for name, *_ in sets.values()} & set(trusted):
            problems += data_problems(config, workspace)
    if problems:
        # One file may be used in several places. What was given need not be hashable.
        raise ConfigError({str(problem): problem for problem in problems}.values(), source)
    return trusted


def _adapter_problems(config: Config, workspace: Workspace) -> list[Problem]:
    """Put the adapters that FILE asks for on the model's shape, of each arm."""
    found: list[Problem] = []
    for arm in by_arm(config).values():
        if "lora" in searched_values(arm, "adapter.kind"):
            shape = load_shape(workspace.pinned(arm.model), workspace.source(arm.model))
            catalog = workspace.catalog(arm.model)
            found += _problems_of(functools.partial(Lora, shape, arm.adapter, catalog, seed=0))
    return found


Step = Callable[[], object]


def _data_sets(config: Config, workspace: Workspace) -> dict[str, tuple[str, Step, Step]]:
    """Return setting -> name of the data set there, how to encode it, and how to read it alone."""
    model, part = config.model, functools.partial
    found: dict[str, tuple[str, Step, Step]] = {}
    for path, data in config.training_data.items():
        encode: Step = part(workspace.training_sets, model, {path: data})
        found[path] = (data.train, encode, part(read_examples, data, path))
    for path, data in config.pair_data.items():
        encode = part(workspace.pair_set, model, path, data)
        read: Step = part(read_pairs, data, path)
        found[path] = (data.train, encode, read)
    return found


def _on_hub(name: str, path: str) -> bool:
    """Whether ``name`` can only be a hub name; a path that leads nowhere is told elsewhere."""
    try:
        return locate(name, path) is None
    except ConfigError:
        return False


def _problems_of(step: Callable[[], object]) -> list[Problem]:
    try:
        step()
    except ConfigError as error:
        return error.problems
    return []
