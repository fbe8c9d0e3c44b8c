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

Step = Callable[[], object]


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


def check(
    config: Config, workspace: Workspace, source: str | None, trust_hub: bool = False
) -> list[str]:
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
    one = _Check(config, workspace, trust_hub)
    one.check_models()
    encoded = one.check_data()
    read = one.check_evaluations()
    if encoded and not one.problems:
        one.check_room(read)
    if one.problems:
        # One file may be used in several places. What was given need not be hashable.
        raise ConfigError({str(each): each for each in one.problems}.values(), source)
    return one.trusted


class _Check:
    """A look at FILE.

    Attributes:
        problems: What is wrong so far.
        trusted: The names that are taken on trust so far.
    """

    def __init__(self, config: Config, workspace: Workspace, trust_hub: bool) -> None:
        self._config, self._workspace, self._trust_hub = config, workspace, trust_hub
        self._model = config.model
        self._sets = _data_sets(config, workspace)
        self._evaluations = list(config.scored.places())
        self.problems = check_settings(config)
        places = {"model.name": self._model.name}
        places |= {path: name for path, (name, *_) in self._sets.items()}
        for path, item in self._evaluations:
            places |= {f"{path}.{key}": name for key, name in files_of(item)}
        self.trusted = [name for path, name in places.items() if self._is_trusted(name, path)]

    def _is_trusted(self, name: str, path: str) -> bool:
        return self._trust_hub and _on_hub(name, path)

    def _try(self, step: Step) -> bool:
        """Return whether a step finds nothing wrong."""
        found = _problems_of(step)
        self.problems += found
        return not found

    def check_models(self) -> None:
        """Look at the model, at those that are searched, and at adapters on them."""
        self._try(lambda: self._workspace.catalog(self._model))
        for arm in by_arm(self._config).values():
            for name in searched_values(arm, "model.name"):
                other = arm.model.model_copy(update={"name": name})
                if other != self._model and not self._is_trusted(name, "model.name"):
                    self._try(partial(self._workspace.shape, other))
        if not self.problems:
            self.problems += _adapter_problems(self._config, self._workspace)

    def check_data(self) -> bool:
        """Encode the training data; without a tokenizer only read the files.

        Returns:
            Whether there is a tokenizer.
        """
        known = self._model.name not in self.trusted and self._try(
            lambda: self._workspace.tokenizer(self._model)
        )
        for name, encode, read_alone in self._sets.values():
            if name not in self.trusted:
                self._try(encode if known else read_alone)
        return known

    def check_evaluations(self) -> list[tuple[str, Evaluation]]:
        """Read the data of the evaluations; return those that could be read."""
        read = []
        for path, item in self._evaluations:
            if isinstance(item, LmEval) and self._trust_hub:
                self._try(partial(known_harness, item, path))
                self.trusted.append(f"lm-eval {item.task}")
                continue
            known = not {name for _, name in files_of(item)} & set(self.trusted)
            if known and self._try(partial(check_evaluation, item, path)):
                read.append((path, item))
        return read

    def check_room(self, read: list[tuple[str, Evaluation]]) -> None:
        """Look whether the model has room for the tokens that it will read."""
        tokenizer = self._workspace.tokenizer(self._model)
        shape = self._workspace.shape(self._model)
        self.problems += evaluation_problems(read, tokenizer, shape)
        if not {name for name, *_ in self._sets.values()} & set(self.trusted):
            self.problems += data_problems(self._config, self._workspace)


def _adapter_problems(config: Config, workspace: Workspace) -> list[Problem]:
    """Put the adapters that FILE asks for on the model's shape, of each arm."""
    found: list[Problem] = []
    for arm in by_arm(config).values():
        if "lora" in searched_values(arm, "adapter.kind"):
            shape = load_shape(workspace.pinned(arm.model), workspace.source(arm.model))
            catalog = workspace.catalog(arm.model)
            found += _problems_of(partial(Lora, shape, arm.adapter, catalog, seed=0))
    return found


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
    """Whether ``name`` can only be a hub name; a path that leads nowhere is reported elsewhere."""
    try:
        return locate(name, path) is None
    except ConfigError:
        return False


def _problems_of(step: Step) -> list[Problem]:
    try:
        step()
    except ConfigError as error:
        return error.problems
    return []
