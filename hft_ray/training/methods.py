"""The methods: what ``method`` of FILE means as stages of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from hft_ray.config import Config, Method, StageEntry, Task, Training
from hft_ray.data import Mixture, TrainingSet, joined, share_of, steps_per_epoch, weighted
from hft_ray.training.base_tokens import BaseTokens
from hft_ray.training.dpo import DirectPreference
from hft_ray.training.kl_to_base import HeldToBase, look_for
from hft_ray.training.low_perplexity import NAME, LowPerplexity, logprobs
from hft_ray.training.numerics import micro_batch_size
from hft_ray.training.objective import Objective
from hft_ray.training.reference import ReferenceStore
from hft_ray.training.schedule import total_steps
from hft_ray.training.sft import SupervisedFineTuning
from hft_ray.training.stage import Stage
from hft_ray.training.workspace import Workspace

log = logging.getLogger(__name__)
_Make = Callable[[TrainingSet | Mixture], SupervisedFineTuning]


def make_stages(config: Config, workspace: Workspace) -> list[Stage]:
    """Return the stages of a run; encodes their data if that has not been done.

    Raises:
        ConfigError: Data cannot be read or has no example.
    """
    sets = workspace.training_sets(config.model, config.training_data)
    sft = partial(_supervised, config, workspace)
    match config.method.kind:
        case "sft" if config.stages:
            return _in_turn(
                [
                    (entry.kind, _objective(config, workspace, entry), _training(config, entry))
                    for entry in config.stages
                ]
            )
        case "sft" if config.data.replay.share:
            return [_replaying(config, sets, sft)]
        case "sft" | "dpo":
            objective = _objective(config, workspace, config.method)
            return _in_turn([(config.method.kind, objective, config.training)])
        case "multitask":
            return [_multitask(config, sets, sft)]
        case "continual":
            parts = zip(config.tasks, _replayed(config, sets), strict=True)
            return _in_turn(
                [(task.name, sft(data), _training(config, task)) for task, data in parts]
            )


def _objective(config: Config, workspace: Workspace, part: Method | StageEntry) -> Objective:
    """Return what ``sft`` or ``dpo`` minimises."""
    model = config.model
    if part.kind != "dpo":
        data, *_ = workspace.training_sets(model, config.training_data)
        return _supervised(config, workspace, data)
    ((path, section),) = config.pair_data.items()
    pairs, pad = workspace.pair_set(model, path, section), workspace.tokenizer(model).pad_token_id
    size = micro_batch_size(config.training, workspace.ranks.size)
    return DirectPreference(part, pairs, pad, ReferenceStore(workspace.cache), size)


def _supervised(
    config: Config, workspace: Workspace, data: TrainingSet | Mixture
) -> SupervisedFineTuning:
    """Return fine-tuning on ``data`` as the section ``training`` says."""
    training, pad = config.training, workspace.tokenizer(config.model).pad_token_id
    size = micro_batch_size(training, workspace.ranks.size)
    said = partial(BaseTokens, data, pad, ReferenceStore(workspace.cache, "tokens"), size)
    mask = held = None
    if training.token_weights == "stm":
        mask = LowPerplexity(said(NAME, logprobs), training.stm_perplexity)
    if strength := training.kl_to_base:
        among = _held_to_base(config, workspace, data)
        if among is not None and not among.any():
            log.warning(
                "training.kl_to_base has nothing to hold to the base: kl_on %s, and none of the "
                "examples is among them",
                training.kl_on,
            )
        else:
            top = said(f"top {training.kl_top}", look_for(training.kl_top), among)
            held = HeldToBase(top, strength, training.kl_direction, among)
    return SupervisedFineTuning(data, pad, training.token_weights, mask, held)


def _held_to_base(
    config: Config, workspace: Workspace, data: TrainingSet | Mixture
) -> NDArray[np.bool_] | None:
    """Return which examples ``training.kl_on`` holds to the base, [examples]; None for all."""
    on = config.training.kl_on
    if on == "all":
        return None
    sets = workspace.training_sets(config.model, config.training_data)
    general = dict(zip(config.training_data, sets, strict=True)).get(config.general_data or "")
    if isinstance(data, TrainingSet):
        return np.full(len(data), data is general) if on == "general" else None
    of_general = np.array([each is general for each in data.sets])[data.members]
    if on == "general":
        return of_general
    return ~of_general if of_general.any() else None


def known_sequences(config: Config) -> int | None:
    """Return how many sequences a run trains on, if FILE says it without a look at the data."""
    widths = [1 + (entry.kind == "dpo") for entry in config.stages]
    match config.method.kind:
        case "continual":
            parts: Sequence[Task | StageEntry] = config.tasks
        case "sft" if config.stages:
            parts = config.stages
        case kind:
            steps, width = config.training.steps, 1 + (kind == "dpo")
            return None if steps is None else steps * width * config.training.batch_size
    each = [_training(config, part).steps for part in parts]
    if None in each:
        return None
    return config.training.batch_size * sum(
        (steps or 0) * width for steps, width in zip(each, widths or [1] * len(each), strict=True)
    )


def _in_turn(parts: Sequence[tuple[str, Objective, Training]]) -> list[Stage]:
    """Return stages that follow one another: name, what it minimises, and for how long."""
    steps = [total_steps(training, len(objective)) for _, objective, training in parts]
    starts = accumulate(steps[:-1], initial=0)
    return [
        Stage(name, objective, start, count, _per_epoch(objective, training), training)
        for (name, objective, training), start, count in zip(parts, starts, steps, strict=True)
    ]


def _replaying(config: Config, sets: Sequence[TrainingSet], sft: _Make) -> Stage:
    """Return the one stage of fine-tuning with replay: as long, and in batches as large.

    An epoch is as many examples, of both kinds, as the task's own data have.
    """
    (own, general), share = sets, config.data.replay.share
    return _mixed(config, "sft", [own, general], [1 - share, share], len(own), sft)


def _mixed(
    config: Config,
    name: str,
    sets: Sequence[TrainingSet],
    weights: Sequence[float],
    epoch: int,
    sft: _Make,
) -> Stage:
    """Return the stage of a weighted mixture, which has ``epoch`` examples an epoch."""
    training = config.training
    steps = total_steps(training, epoch)
    data = weighted(sets, weights, steps * training.batch_size, training.seed)
    objective = sft(data)
    per_epoch = steps_per_epoch(epoch, training.batch_size)
    return Stage(name, objective, 0, steps, per_epoch, training, shuffled=False)


def _per_epoch(objective: Objective, training: Training) -> Fraction:
    return steps_per_epoch(len(objective), training.batch_size)


def _training(config: Config, part: Task | StageEntry) -> Training:
    """Return the section ``training`` with what a task or stage says otherwise."""
    own = part.model_dump(include={"steps", "epochs", "learning_rate"}, exclude_none=True)
    if "steps" in own or "epochs" in own:
        own = {"steps": None, "epochs": None} | own
    return config.training.model_copy(update=own)


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


def _multitask(config: Config, sets: Sequence[TrainingSet], sft: _Make) -> Stage:
    """Return the one stage of a weighted mixture; an epoch is as many examples as there are."""
    weights = [task.weight for task in config.tasks]
    return _mixed(config, "multitask", sets, weights, sum(map(len, sets)), sft)
