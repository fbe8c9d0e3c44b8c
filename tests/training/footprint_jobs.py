"""What runs and engines hold on to: memory, hooks, files, threads, groups (of ``lives_worker``)."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import torch
from deepspeed.runtime.base_optimizer import DeepSpeedOptimizer
from deepspeed.runtime.engine import DeepSpeedEngine
from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator
from engine_jobs import Bench, bench
from torch import Tensor, nn
from transformers import PreTrainedModel

from hft_ray.config import Config, Variants
from hft_ray.ranks import Ranks
from hft_ray.selection import Draw
from hft_ray.training import Workspace
from hft_ray.training.alive import AliveBytes
from hft_ray.training.engine import Engine
from hft_ray.training.run import _Run, run
from hft_ray.training.scoring import Scoring
from hft_ray.training.variant_builder import RunArtifacts

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_post_accumulate_grad_hooks",
)


class _Seen(Workspace):
    """A workspace that shows the model of a run."""

    seen: nn.Module | None = None

    @contextmanager
    def model(self, *arguments: Any) -> Iterator[nn.Module]:
        with super().model(*arguments) as model:
            self.seen = model
            yield model


def held(model: nn.Module) -> dict[str, int]:
    """Count what an engine could leave behind."""
    process = psutil.Process()
    world = torch.distributed.distributed_c10d._world
    owners = [*model.modules(), *model.parameters()]
    return {
        "hooks": sum(len(getattr(owner, kind, None) or ()) for owner in owners for kind in HOOKS),
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "groups": len(world.pg_map),
    }


def reselections(ranks: Ranks, root: Path, cases: dict[str, Any]) -> dict[str, Any]:
    """Run cases that re-select at every step: what is held and resident at each of them."""
    results = {}
    for name, file in cases.items():
        workspace = _Seen(root, ranks, torch.device("cpu"))
        with _watched(workspace) as found:
            outcome = run(Config.model_validate(file), workspace, lambda *_: False)
        results[name] = {
            "rounds": len(outcome.selection),
            **found,
            "after": held(workspace.seen),
        }
        workspace.seen = None
        gc.collect()
        results[name]["engines"] = engines()
    return results


@contextmanager
def _watched(workspace: _Seen) -> Iterator[dict[str, list[Any]]]:
    """Note after every step, on every rank, what is held and resident."""
    found: dict[str, list[Any]] = {"counts": [], "alive": [], "resident": []}
    step = Engine.step

    def watched(engine: Engine, *arguments: Any) -> Tensor:
        loss = step(engine, *arguments)
        found["counts"].append(held(workspace.seen))
        if len(found["counts"]) % 10 == 5:
            gc.collect()
            found["alive"].append(engines())
        found["resident"].append(psutil.Process().memory_info().rss)
        return loss

    with mock.patch.object(Engine, "step", watched):
        yield found


def variants(ranks: Ranks, root: Path, cases: dict[str, Any]) -> dict[str, Any]:
    """Make variants of the models of cases: what is alive when each is scored."""
    objectives = {"general/texts": "min", "forgetting/questions": "min"}
    wanted = RunArtifacts(None, objectives, Variants(averages=[0.5]))
    results: dict[str, Any] = {}
    score = Scoring.score
    for name, file in cases.items():
        found = results[name] = []

        def watched(scoring: Scoring, model: nn.Module, found: Any = found) -> Any:
            gc.collect()
            gradients = sum(each.grad is not None for each in model.parameters())
            found.append({"alive": engines(), "gradients": gradients})
            return score(scoring, model)

        workspace = Workspace(root, ranks, torch.device("cpu"))
        with mock.patch.object(Scoring, "score", watched):
            outcome = run(
                Config.model_validate(file), workspace, lambda *_: False, wanted=wanted
            ).to_json()
        made = [each["variant"] for each in outcome["variants"]]
        results[name] = {"made": made, "scored": found}
    return results


def variant_peaks(ranks: Ranks, root: Path, cases: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Count the most bytes alive in the steps of a training, and while its variants are scored."""
    wanted = RunArtifacts(None, {"general/texts": "min"}, Variants(averages=[0.25, 0.5, 0.75]))
    results: dict[str, dict[str, int]] = {}
    add_variants, step = _Run.add_variants, Engine.step
    for name, file in cases.items():
        alive, peaks = AliveBytes(), results.setdefault(name, {})

        def stepping(engine: Engine, *arguments: Any, alive: Any = alive) -> Any:
            alive.reset_peak()
            found = step(engine, *arguments)
            peaks["training"] = max(peaks.get("training", 0), alive.peak)  # noqa: B023
            return found

        def making(run_: Any, *arguments: Any, alive: Any = alive) -> None:
            alive.reset_peak()
            add_variants(run_, *arguments)
            peaks["variants"] = alive.peak  # noqa: B023

        workspace = Workspace(root, ranks, torch.device("cpu"))
        with (
            mock.patch.object(Engine, "step", stepping),
            mock.patch.object(_Run, "add_variants", making),
            alive,
        ):
            config = Config.model_validate(file)
            outcome = run(config, workspace, lambda *_: False, wanted=wanted)
        peaks["made"] = len(outcome.variants)
    return results


def engines() -> int:
    """Count the engines of DeepSpeed that are alive, with their parts and the models.

    A workspace keeps the shape of its model, which has no weights and does not count.
    """
    kinds = (DeepSpeedEngine, DeepSpeedOptimizer, PartitionedParameterCoordinator)
    alive = gc.get_objects()
    models = [each for each in alive if issubclass(type(each), PreTrainedModel)]
    weighty = [each for each in models if next(each.parameters()).device.type != "meta"]
    return sum(issubclass(type(each), kinds) for each in alive) + len(weighty)


def memory(
    ranks: Ranks, root: Path, file: dict[str, Any], cases: dict[str, dict[str, Any]]
) -> dict[str, list[dict[str, int]]]:
    """Measure what engines hold that follow one another on a model: name -> changes of FILE.

    ``ratios`` among the changes are those of the draws.
    """
    return {name: _memory(ranks, root, file, **changes) for name, changes in cases.items()}


def _memory(
    ranks: Ranks, root: Path, file: dict[str, Any], ratios: list[float], **changes: Any
) -> list[dict[str, int]]:
    with bench(ranks, root, file, **changes) as one:
        before = bytes_beside(one.model)
        return [_held_by(one, one.draw(0, ratio=ratio), before) for ratio in ratios]


def _held_by(one: Bench, drawn: Draw, before: int) -> dict[str, int]:
    """Train ``drawn``; return its size, and what is held beside the weights."""
    one.engine.select(drawn)
    one.steps(1)
    # Once more as far as the backward pass, beside the state that the first step made.
    found: list[int] = []
    step = DeepSpeedEngine.step

    def measured(engine: DeepSpeedEngine, *arguments: Any) -> None:
        # The thread that reduced a bucket of gradients may let go of it after its waiters go on.
        found.append(min(_measured_again(one.model)) - before)
        step(engine, *arguments)

    with mock.patch.object(DeepSpeedEngine, "step", measured):
        one.steps(1)
    trained = [one.model.get_parameter(name) for name in drawn.parameters]
    numbers = sum(getattr(each, "ds_numel", each.numel()) for each in trained)
    return {"trained": numbers, "bytes": found[0]}


def _measured_again(model: nn.Module) -> Iterator[int]:
    for _ in range(3):
        yield bytes_beside(model)
        time.sleep(0.05)


def bytes_beside(model: nn.Module) -> int:
    """Return the bytes of all tensors of the process but the model's weights."""
    gc.collect()
    weights = [
        tensor
        for each in model.parameters()
        for tensor in (each.data, getattr(each, "ds_tensor", None))
        if tensor is not None
    ]
    tensors = [each for each in gc.get_objects() if isinstance(each, Tensor)]
    tensors += [each.grad for each in model.parameters() if each.grad is not None]
    found = _storages(tensors)
    for place in _storages(weights):
        found.pop(place, None)
    return sum(found.values())


def _storages(tensors: list[Tensor]) -> dict[int, int]:
    storages = [each.untyped_storage() for each in tensors if each.device.type != "meta"]
    return {each.data_ptr(): each.nbytes() for each in storages}
