"""The methods: what ``method`` of FILE means as stages of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from hft_ray.config import Config, Task, Training
from hft_ray.data import Mixture, TrainingSet, joined, share_of, steps_per_epoch, weighted
from hft_ray.training.objective import Objective, SupervisedFineTuning
from hft_ray.training.schedule import total_steps
from hft_ray.training.stages import Stage
from hft_ray.training.workspace import Workspace


def make_stages(config: Config, workspace: Workspace) -> list[Stage]:
    """Return the stages of a run; encodes their data if that has not been done.

    Raises:
        ConfigError: Data cannot be read or has no example.
    """
    sets = workspace.training_sets(config.model, config.training_data)
    pad = workspace.tokenizer(config.model).pad_token_id
    match config.method.kind:
        case "sft":
            return [_sft(config, sets, pad)]
        case "multitask":
            return [_multitask(config, sets, pad)]
        case "continual":
            parts = zip(config.tasks, _replayed(config, sets), strict=True)
            return _in_turn(
                [
                    (task.name, SupervisedFineTuning(data, pad), _training(config, task))
                    for task, data in parts
                ]
            )


def known_steps(config: Config) -> int | None:
    """Return the steps of a run, if FILE says them without its data being looked at."""
    each = [_training(config, task).steps for task in config.tasks]
    if config.method.kind != "continual":
        return config.training.steps
    return None if None in each else sum(steps for steps in each if steps is not None)


def _in_turn(parts: Sequence[tuple[str, Objective, Training]]) -> list[Stage]:
    """Return stages that follow one another: name, what it minimises, and for how long."""
    steps = [total_steps(training, len(objective)) for _, objective, training in parts]
    starts = accumulate(steps[:-1], initial=0)
    return [
        Stage(name, objective, start, count, steps_per_epoch(len(objective), training.batch_size))
        for (name, objective, training), start, count in zip(parts, starts, steps, strict=True)
    ]


def _sft(config: Config, sets: Sequence[TrainingSet], pad: int) -> Stage:
    """Return the one stage of fine-tuning: with replay as long, and in batches as large."""
    training, (own, *general) = config.training, sets
    steps, share = total_steps(training, len(own)), config.data.replay.share
    data: TrainingSet | Mixture = own
    if share:
        count = steps * training.batch_size
        data = weighted([own, *general], [1 - share, share], count, training.seed)
    per_epoch = steps_per_epoch(len(own), training.batch_size)
    return Stage("sft", SupervisedFineTuning(data, pad), 0, steps, per_epoch)


def _training(config: Config, task: Task) -> Training:
    """Return the section ``training`` with the task's own steps or epochs."""
    if task.steps is None and task.epochs is None:
        return config.training
    return config.training.model_copy(update={"steps": task.steps, "epochs": task.epochs})


def _replayed(config: Config, sets: Sequence[TrainingSet]) -> Iterator[TrainingSet | Mixture]:
    """Yield what each task trains on: its own data, then shares of earlier and of general data.

    What is kept of a task, and of the general data, is the same in all later stages.
    """
    replay, seed = config.method.replay, config.training.seed
    tasks, general = sets[: len(config.tasks)], sets[len(config.tasks) :]
    kept = [
        (each, share_of(len(each), share, seed, number))
        for number, (each, share) in enumerate(
            [*((each, replay.old) for each in tasks), *((each, replay.general) for each in general)]
        )
    ]
    for number, own in enumerate(tasks):
        beside = [*kept[:number], *kept[len(tasks) :]]
        yield joined([(own, np.arange(len(own))), *(part for part in beside if len(part[1]))])


def _multitask(config: Config, sets: Sequence[TrainingSet], pad: int) -> Stage:
    """Return the one stage of a weighted mixture; an epoch is as many examples as there are."""
    training, examples = config.training, sum(map(len, sets))
    steps = total_steps(training, examples)
    weights = [task.weight for task in config.tasks]
    data = weighted(sets, weights, steps * training.batch_size, training.seed)
    per_epoch = steps_per_epoch(examples, training.batch_size)
    return Stage("multitask", SupervisedFineTuning(data, pad), 0, steps, per_epoch)
