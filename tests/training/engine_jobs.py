"""Engines that are rebuilt between steps, looked at from within (jobs of ``lives_worker``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from training_cases import merged

from hft_ray.config import Config
from hft_ray.data import batch_indices, collate
from hft_ray.ranks import Ranks
from hft_ray.selection import Draw, draw
from hft_ray.training import Workspace
from hft_ray.training.engine import Engine
from hft_ray.training.lora import Lora
from hft_ray.training.loss import answer_loss
from hft_ray.training.numerics import Numerics
from hft_ray.training.objective import Loss
from hft_ray.training.partitioned import gathered
from hft_ray.training.tensor_parts import joined

RATE = 2e-5
State = dict[str, Tensor]


def answers(model: nn.Module, batch: dict[str, Tensor]) -> Loss:
    return Loss(answer_loss(model, batch))


class Bench:
    """An engine on a freshly loaded model, and the batches to step it with."""

    def __init__(self, config: Config, workspace: Workspace, model: nn.Module) -> None:
        self.config, self.workspace, self.model = config, workspace, model
        self.ranks = workspace.ranks
        numerics = Numerics.of(config.training, workspace.device)
        self.adapters = None
        if config.adapter.kind == "lora":
            catalog = workspace.catalog(config.model)
            self.adapters = Lora(model, config.adapter, catalog, config.training.seed)
        self.engine = Engine(model, config.training, numerics, self.ranks)
        (self.data,) = workspace.training_sets(config.model, config.training_data)
        self.at = 0

    def draw(self, round: int, **changes: Any) -> Draw:
        if self.adapters is not None:
            return self.adapters.draw
        selection = self.config.selection.model_copy(update=changes)
        return draw(self.workspace.catalog(self.config.model), selection, round)

    def batch(self, step: int, share: bool = True) -> tuple[dict[str, Tensor], int]:
        """Return this rank's share of a batch, or all of it, and its trained tokens in all."""
        size = self.config.training.batch_size
        indices = batch_indices(step, len(self.data), size, 0)
        tokens = int(self.data.answer_tokens[indices].sum())
        if share:
            part = size // self.ranks.size
            indices = indices[self.ranks.rank * part : (self.ranks.rank + 1) * part]
        return collate([self.data[index] for index in indices], 0), tokens

    def steps(self, count: int) -> list[float]:
        """Make steps; return their losses."""
        losses = []
        for _ in range(count):
            batch, tokens = self.batch(self.at)
            found = self.engine.step([batch], answers, tokens, RATE)
            losses.append(float(found["loss"]))
            self.at += 1
        return losses

    def weights(self) -> State:
        found = {}
        for name, parameter in self.model.named_parameters():
            with gathered([parameter]):
                found[name] = parameter.detach().clone()
        return found

    def state(self) -> State:
        """All weights, and what the engine and its store hold beside them, flattened."""
        parts = [(name, part.clone()) for name, part in self.engine.parts([])]
        held = joined(part for each in self.ranks.gather(parts) for part in each)
        return {f"weight/{name}": x.flatten() for name, x in self.weights().items()} | held


@cache
def shared(root: Path, ranks: Ranks) -> Workspace:
    """Return the workspace of all engines of a process."""
    return Workspace(root, ranks, torch.device("cpu"))


@contextmanager
def bench(ranks: Ranks, root: Path, file: dict[str, Any], **changes: Any) -> Iterator[Bench]:
    config = Config.model_validate(merged(file, changes))
    workspace = shared(root, ranks)
    with workspace.model(config, Numerics.of(config.training, workspace.device)) as model:
        one = Bench(config, workspace, model)
        try:
            yield one
        finally:
            one.engine.close()


def different(one: State, other: State) -> list[str]:
    """Return the names whose values differ in any bit, or that only one has."""
    return sorted(
        name
        for name in one.keys() | other.keys()
        if name not in one
        or name not in other
        or one[name].dtype != other[name].dtype
        or not torch.equal(one[name], other[name])
    )


def same_set(ranks: Ranks, root: Path, file: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Train a set on under ``keep_selected``, with and without selecting it again in between."""
    found: list[list[Any]] = []
    for again in (False, True):
        with bench(ranks, root, file, **changes, **{"training.moments": "keep_selected"}) as one:
            one.engine.select(one.draw(0))
            losses = one.steps(2)
            if again:
                one.engine.select(one.draw(0))
            middle, counts = one.state(), one.engine.steps
            losses += one.steps(2)
            found.append([losses, counts, middle, one.state()])
    (losses, counts, middle, end), (losses_again, counts_again, middle_again, end_again) = found
    return {
        "losses": [losses, losses_again],
        "same_steps": counts == counts_again,
        "different": different(middle, middle_again) + different(end, end_again),
        "kinds": sorted({name.split("/")[0] for name in end}),
    }


def stored(ranks: Ranks, root: Path, file: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Let parameters leave and return under ``keep_all``."""
    with bench(ranks, root, file, **changes, **{"training.moments": "keep_all"}) as one:
        first, second = (set(one.draw(round).parameters) for round in (0, 1))
        one.engine.select(one.draw(0))
        one.steps(2)
        left, steps_left = one.state(), one.engine.steps
        one.engine.select(one.draw(1))
        one.steps(1)
        away = one.state()
        one.engine.select(one.draw(0))
        back, steps_back = one.state(), one.engine.steps
    names = sorted(first - second)
    kinds = {name.split("/")[0] for name in left} - {"weight"}

    def of(state: State) -> State:
        return {f"{kind}/{name}": state[f"{kind}/{name}"] for kind in kinds for name in names}

    return {
        "names": len(names),
        "moved": sum(bool(left[f"exp_avg/{name}"].any()) for name in names),
        "kinds": sorted(kinds),
        "away": different(of(left), of(away)),
        "back": different(of(left), of(back)),
        "steps": [sorted({counts[name] for name in names}) for counts in (steps_left, steps_back)],
        "others": sorted({steps_back[name] for name in first & second}),
    }


def reference(
    ranks: Ranks, root: Path, file: dict[str, Any], policy: str, **changes: Any
) -> list[float]:
    """Compare rounds of an engine with one torch AdamW per parameter that follows ``policy``.

    Returns, per round, the largest difference of any weight.
    """
    with bench(ranks, root, file, **changes) as one:
        training = one.config.training
        numerics = Numerics(torch.device("cpu"), torch.float32)
        with shared(root, Ranks()).model(
            Config.model_validate(merged(file, {"training.zero_stage": 0})), numerics
        ) as plain:
            optimizers: dict[str, torch.optim.AdamW] = {}
            worst = []
            for round in range(3):
                drawn = one.draw(round)
                chosen = set(drawn.parameters)
                one.engine.select(drawn)
                for name, parameter in plain.named_parameters():
                    parameter.requires_grad_(name in chosen)
                    gone = policy == "reset" or (policy == "keep_selected" and name not in chosen)
                    if gone or name not in optimizers:
                        decay = training.weight_decay if parameter.dim() > 1 else 0.0
                        optimizers[name] = torch.optim.AdamW(
                            [parameter], RATE, betas=training.adam_betas, weight_decay=decay
                        )
                for _ in range(2):
                    batch, tokens = one.batch(one.at, share=False)
                    (answer_loss(plain, batch) / tokens).backward()
                    trained = [plain.get_parameter(name) for name in sorted(chosen)]
                    torch.nn.utils.clip_grad_norm_(trained, training.max_grad_norm)
                    for name in chosen:
                        optimizers[name].step()
                    plain.zero_grad()
                    one.steps(1)
                weights = one.weights()
                worst.append(
                    max(float((weights[n] - p).abs().max()) for n, p in plain.named_parameters())
                )
    return worst


def several(ranks: Ranks, root: Path, cases: dict[str, Any]) -> dict[str, Any]:
    """Run several of the above in one process: name -> function and its arguments."""
    functions = {each.__name__: each for each in (same_set, stored, reference)}
    return {
        name: functions[case["do"]](ranks, root, **case["with"]) for name, case in cases.items()
    }
