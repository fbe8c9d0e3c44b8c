"""What a FILE would do, by arithmetic: fractions over the space, memory, steps, time."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypedDict

from pydantic import ValidationError
from torch import nn

from hft_ray.config import Config
from hft_ray.config.keys import searched_values, with_settings
from hft_ray.config.rules.by_arm import by_arm
from hft_ray.device_cost import cost_of_workers
from hft_ray.selection import Catalog, Draw, draw
from hft_ray.training.architecture import load_shape
from hft_ray.training.lora import Lora
from hft_ray.training.memory import MemoryPerWorker, memory_per_worker
from hft_ray.training.numerics import micro_batch_size
from hft_ray.training.rehearsal import Step, peak_of_passes, rough_peak
from hft_ray.training.workspace import Workspace

if TYPE_CHECKING:
    # A probe trains, which takes the libraries of training.
    from hft_ray.training.probe import Probe

log = logging.getLogger(__name__)

DEVICE_FLOPS = {"cuda": 2e14, "cpu": 5e10}
"""Sustained floating point operations per second of one worker that the time estimate assumes.

An H100-class GPU at a fifth of its bf16 peak; one core of a processor with AVX2, of which
``benchmarks/step_time.py`` saw 60e9. This gives an order of magnitude.
"""

MEMORY = (
    "training.zero_stage",
    "training.precision",
    "training.optimizer_states",
    "training.batch_size",
    "training.micro_batch_size",
    "training.gradient_checkpointing",
    "training.offload",
    "training.l2_to_base",
    "training.average",
    "data.max_length",
)
"""Settings that a worker's memory hangs on, beside how much is trained."""


class Plan(TypedDict):
    """What ``hft-ray plan --json`` prints.

    Attributes:
        trials: Configurations of the sweep; 1 without ``search``.
        further_seeds: The most trials with further seeds.
        groups: Trials that run at the same time.
        workers: Workers of a trial.
        model: ``parameters``, and ``matrices`` in its layers.
        selection: For each corner of the space its settings and ``fractions``, the shares of
            ``matrices``, ``block_parameters`` and ``model_parameters`` that are trained, 0 to 1.
        memory_per_worker_bytes: ``model``, ``gradients``, ``optimizer`` and ``activations``, in
            bytes, where most is trained.
        seconds_estimate: Seconds of all trials, without further seeds; by arithmetic and without
            evaluations, or, with a probe, as measured and with them. None if unknown.
        probe: ``step_seconds``, ``score_seconds`` and ``trial_seconds`` that a probe measured; None
            without one.
        device_hours_estimate: Hours of devices for that; None if unknown.
        price_estimate: Their price; None if unknown, or without ``cluster.price_per_device_hour``.
        problems: What may go wrong, in sentences.
        unchecked: Names that lie on a hub, and so were not looked at.
    """

    trials: int
    further_seeds: int
    groups: int
    workers: int
    model: dict[str, int]
    selection: list[dict[str, Any]]
    memory_per_worker_bytes: dict[str, int]
    seconds_estimate: float | None
    probe: dict[str, float] | None
    device_hours_estimate: float | None
    price_estimate: float | None
    problems: list[str]
    unchecked: list[str]


def plan(
    config: Config, workspace: Workspace, sequences: int | None, measured: Probe | None = None
) -> Plan:
    """Return what a FILE would do.

    Args:
        config: FILE; checked.
        workspace: Where to find the model's shape.
        sequences: Sequences that a run trains on; None when only data on a hub can tell.
        measured: What a probe of :func:`typical_trial` measured.
    """
    catalog = workspace.catalog(config.model)
    trials, seeds = (config.search.trials, config.search.seeds) if config.search else (1, 1)
    cluster = config.cluster
    source = config.model.name if config.model.architecture else workspace.source(config.model)
    model = workspace.pinned(config.model)
    shape = partial(load_shape, model, source)
    corners = list(_corners(config, catalog, shape))
    selection = [_row(one, drawn) for one, drawn in corners]
    share = max(map(_share, corners))
    largest = {
        (one.arm, one.adapter.kind): (one, drawn) for one, drawn in sorted(corners, key=_share)
    }
    memories = [
        planned_memory(each, shape, catalog, drawn)
        for one, drawn in largest.values()
        for each in _memory_settings(one)
    ]
    if measured is None:
        seconds = _seconds(config, catalog, share, trials, sequences)
    else:
        seconds = measured.trial_seconds * trials / cluster.groups
    cost = None
    if seconds is not None:
        cost = cost_of_workers(cluster, seconds * cluster.groups * cluster.workers)
    return {
        "trials": trials,
        # The most that the race can give.
        "further_seeds": trials * (seeds - 1),
        "groups": cluster.groups,
        "workers": cluster.workers,
        "model": {"parameters": catalog.parameters, "matrices": catalog.matrices},
        "selection": selection,
        "memory_per_worker_bytes": asdict(max(memories, key=lambda memory: memory.total)),
        "seconds_estimate": seconds,
        "probe": None if measured is None else asdict(measured),
        "device_hours_estimate": None if cost is None else cost.device_hours,
        "price_estimate": None if cost is None else cost.price,
        "problems": [],
        "unchecked": [],
    }


def typical_trial(config: Config, workspace: Workspace) -> Config:
    """Return FILE with the settings of the corner whose trained share is nearest to the mean."""
    catalog = workspace.catalog(config.model)
    source = config.model.name if config.model.architecture else workspace.source(config.model)
    shape = partial(load_shape, workspace.pinned(config.model), source)
    corners = list(_corners(config, catalog, shape))
    mean = fmean(map(_share, corners))
    return min(corners, key=lambda corner: abs(_share(corner) - mean))[0]


def _corners(
    config: Config, catalog: Catalog, shape: Callable[[], nn.Module]
) -> Iterator[tuple[Config, Draw]]:
    """Yield FILE at each corner of the space, of each arm in turn, and what is trained there."""
    for arm in by_arm(config).values():
        kinds = searched_values(arm, "adapter.kind")
        if "lora" in kinds:
            for rank in searched_values(arm, "adapter.rank"):
                one = with_settings(arm, {"adapter.kind": "lora", "adapter.rank": rank})
                yield one, Lora(shape(), one.adapter, catalog, seed=0).draw
        if "none" in kinds:
            keys = ("granularity", "ratio", "budget", "embeddings")
            values = (searched_values(arm, f"selection.{key}") for key in keys)
            for corner in itertools.product(*values):
                named = zip(keys, corner, strict=True)
                one = with_settings(arm, {f"selection.{key}": x for key, x in named})
                yield one, draw(catalog, one.selection, 0)


def _row(config: Config, drawn: Draw) -> dict[str, Any]:
    """Return a row of the plan; of adapters the rank stands for the ratio."""
    lora = config.adapter.kind == "lora"
    return {
        "arm": config.arm,
        "granularity": "adapters" if lora else config.selection.granularity,
        "ratio": config.adapter.rank if lora else float(config.selection.ratio),
        "budget": config.selection.budget,
        "embeddings": config.selection.embeddings,
        "fractions": asdict(drawn.fractions),
    }


def planned_memory(
    config: Config, shape: Callable[[], nn.Module], catalog: Catalog, drawn: Draw
) -> MemoryPerWorker:
    """Return the memory of a worker that trains ``drawn``, of a model that ``shape`` makes."""
    trainable = round(drawn.fractions.model_parameters * catalog.parameters)
    lora = config.adapter.kind == "lora"

    def peak(step: Step) -> int:
        model: Any = shape()
        if lora:
            Lora(model, config.adapter, catalog, seed=0)
        try:
            return peak_of_passes(model, drawn.parameters, step)
        # What fails without values is up to each model's code.
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            log.info("activations by arithmetic, since a step cannot be rehearsed: %s", error)
            return rough_peak(model.config, trainable, step)

    return memory_per_worker(
        config.training,
        # Adapters are held beside the model.
        parameters=catalog.parameters + (trainable if lora else 0),
        trainable=trainable,
        bf16=_bf16(config),
        workers=config.cluster.workers,
        # A pair is two sequences.
        rows=(1 + bool(config.pair_data))
        * micro_batch_size(config.training, config.cluster.workers),
        length=config.data.max_length,
        summed=not config.pair_data,
        peak=peak,
        averaged=None if lora or _keeps_its_draw(config) else catalog.parameters,
    )


def _keeps_its_draw(config: Config) -> bool:
    """Whether what is held beside the weights is of one draw: others are added to the first."""
    return config.selection.reselect == "never" or config.selection.on_deselect == "reset"


def _share(corner: tuple[Config, Draw]) -> float:
    return corner[1].fractions.model_parameters


def _memory_settings(config: Config) -> list[Config]:
    """Return FILE with every combination of the searched settings that memory hangs on."""
    keys = [key for key in MEMORY if config.search and key in config.search.space]
    found = []
    for values in itertools.product(*(searched_values(config, key) for key in keys)):
        with contextlib.suppress(ValidationError):  # what does not fit together is never tried
            found.append(with_settings(config, dict(zip(keys, values, strict=True))))
    return found or [config]


def _bf16(config: Config) -> bool:
    """What auto precision will be: a worker with a GPU trains in bf16."""
    return config.training.bf16(gpu=config.cluster.gpus_per_worker > 0)


def _seconds(
    config: Config, catalog: Catalog, share: float, trials: int, sequences: int | None
) -> float | None:
    """Estimate the wall time of all trials, without their evaluations; None if steps are unknown.

    As if every sequence had ``data.max_length`` tokens.

    A token costs 2 floating point operations per parameter forward, 2 for the gradients of the
    activations and 2 for those of the trained weights (hence 4 + 2 * share).
    """
    if sequences is None:
        return None
    work = sequences * config.data.max_length * catalog.parameters * (4 + 2 * share)
    kind = "cuda" if config.cluster.gpus_per_worker else "cpu"
    rate = DEVICE_FLOPS[kind] * config.cluster.workers
    return work / rate * trials / config.cluster.groups
