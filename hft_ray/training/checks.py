"""Everything about a FILE that can be seen to be wrong before a model trains, all at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hft_ray.config import Config, ConfigError, Evaluation, LmEval, Problem
from hft_ray.config.keys import searched_values, with_settings
from hft_ray.config.rules.by_arm import by_arm
from hft_ray.config.rules.objectives import objective_problems
from hft_ray.config.rules.workers import worker_problems
from hft_ray.data import locate, read_examples, read_pairs
from hft_ray.evaluation import check_evaluation, files_of, known_harness, mixture
from hft_ray.training.adapter import Lora
from hft_ray.training.architecture import load_shape
from hft_ray.training.dpo import SUMS
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


def check_settings(config: Config) -> list[Problem]:
    """Return what is wrong with the settings taken together."""
    problems = [*_objective_problems(config), *_task_problems(config)]
    for arm in by_arm(config).values():
        problems += worker_problems(arm)
    # Arms share most of their settings, and so what is wrong with them.
    return list({str(problem): problem for problem in problems}.values())


def _objective_problems(config: Config) -> list[Problem]:
    if config.search is None:
        return []
    return objective_problems(config.search, _metrics_of_trials(config), partial(mixed, config))


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
                problems += _problems_of(partial(workspace.shape, other))
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
            problems += _problems_of(partial(known_harness, item, path))
            trusted.append(f"lm-eval {item.task}")
        elif not {name for _, name in files_of(item)} & set(trusted):
            found = _problems_of(partial(check_evaluation, item, path))
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
            found += _problems_of(partial(Lora, shape, arm.adapter, catalog, seed=0))
    return found


Step = Callable[[], object]


def _data_sets(config: Config, workspace: Workspace) -> dict[str, tuple[str, Step, Step]]:
    """Return setting -> name of the data set there, how to encode it, and how to read it alone."""
    model = config.model
    found: dict[str, tuple[str, Step, Step]] = {}
    for path, data in config.training_data.items():
        encode: Step = partial(workspace.training_sets, model, {path: data})
        found[path] = (data.train, encode, partial(read_examples, data, path))
    for path, data in config.pair_data.items():
        encode = partial(workspace.pair_set, model, path, data)
        read: Step = partial(read_pairs, data, path)
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
