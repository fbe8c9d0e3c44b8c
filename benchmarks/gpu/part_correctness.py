"""What is frozen stays to the bit, what is selected moves, moments and resumes are exact."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hft_ray.config import Config
from hft_ray.ranks import Ranks
from hft_ray.selection import Draw, draw
from hft_ray.training import Workspace
from hft_ray.training.engine import Engine
from hft_ray.training.loss import answer_loss
from hft_ray.training.numerics import Numerics
from hft_ray.training.objective import Loss
from hft_ray.training.partitioned import gathered
from hft_ray.training.process_group import local_device, process_group, start_deepspeed
from hft_ray.training.tensor_parts import joined

State = dict[str, Tensor]
RATE = 1e-3


def answers(model: nn.Module, batch: State) -> Loss:
    return Loss(answer_loss(model, batch))


class Bench:
    """An engine on the demo's model, and batches of random tokens."""

    def __init__(self, config: Config, workspace: Workspace, model: nn.Module) -> None:
        self.config, self.workspace, self.model = config, workspace, model
        self.numerics = Numerics.of(config.training, workspace.device)
        self.engine = Engine(model, config.training, self.numerics, Ranks())
        self.at = 0

    def draw(self, round: int) -> Draw:
        return draw(self.workspace.catalog(self.config.model), self.config.selection, round)

    def steps(self, count: int) -> list[float]:
        losses = []
        for _ in range(count):
            random = torch.Generator().manual_seed(self.at)
            ids = torch.randint(3, 300, (4, 48), generator=random).to(self.numerics.device)
            batch = {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}
            found = self.engine.step([batch], answers, ids[:, 1:].numel(), RATE)
            losses.append(float(found["loss"]))
            self.at += 1
        return losses

    def weights(self) -> State:
        found = {}
        for name, parameter in self.model.named_parameters():
            with gathered([parameter]):
                found[name] = parameter.detach().to("cpu", copy=True)
        return found

    def state(self) -> State:
        weights = {f"weight/{name}": x.flatten() for name, x in self.weights().items()}
        return weights | self.parts([])

    def parts(self, touched: Collection[str]) -> State:
        """Return what a checkpoint would have, on the CPU."""
        return joined((name, x.to("cpu", copy=True)) for name, x in self.engine.parts(touched))


def different(one: State, other: State) -> list[str]:
    """Return the names whose values differ in any bit, or that only one has."""
    names = one.keys() | other.keys()
    return sorted(
        n for n in names if n not in one or n not in other or not torch.equal(one[n], other[n])
    )


@contextmanager
def bench(root: Path, **training: Any) -> Iterator[Bench]:
    file = {
        "name": "gpu",
        "model": "package:hft_ray/demo/model",
        "data": {"train": "package:hft_ray/demo/data/task_train.jsonl", "max_length": 64},
        "selection": {"ratio": 0.5},
        "training": {"batch_size": 4, "steps": 8} | training,
        "evaluation": {
            "task": [
                {
                    "name": "facts",
                    "kind": "generation",
                    "data": "package:hft_ray/demo/data/task_test.jsonl",
                }
            ]
        },
    }
    config = Config.model_validate(file)
    workspace = Workspace(root, Ranks(), local_device())
    with workspace.model(config, Numerics.of(config.training, workspace.device)) as model:
        one = Bench(config, workspace, model)
        try:
            yield one
        finally:
            one.engine.close()


def frozen_and_moved(root: Path, **training: Any) -> dict[str, Any]:
    """Train two draws in turn; compare every weight with what it was."""
    wrong: list[str] = []
    with bench(root, **training) as one:
        for round in range(2):
            before, drawn = one.weights(), one.draw(round)
            one.engine.select(drawn)
            losses = one.steps(3)
            after = one.state()
            changed = {name for name in before if _moved(name, before, after)}
            chosen = set(drawn.parameters)
            wrong += [f"frozen moved: {name}" for name in sorted(changed - chosen)]
            wrong += [f"selected stayed: {name}" for name in sorted(chosen - changed)]
    return {"wrong": wrong[:4], "ok": not wrong and losses[-1] < 8}


def _moved(name: str, before: State, after: State) -> bool:
    """Whether a weight, or the fp32 copy that bf16 rounds it from, is another one."""
    weight = after[f"weight/{name}"]
    master = after.get(f"master/{name}", weight)
    return not torch.equal(before[name].flatten(), weight) or not torch.equal(
        master.float(), weight.float()
    )


def carried(root: Path, **training: Any) -> dict[str, Any]:
    """Select the same set once more in the middle: nothing may change."""
    ends = []
    for again in (False, True):
        with bench(root, **training, moments="keep_selected") as one:
            one.engine.select(one.draw(0))
            one.steps(2)
            if again:
                one.engine.select(one.draw(0))
            one.steps(2)
            ends.append(one.state())
    wrong = different(*ends)
    return {
        "wrong": wrong[:4],
        "ok": not wrong,
        "kinds": sorted({k.split("/")[0] for k in ends[0]}),
    }


def stored(root: Path, **training: Any) -> dict[str, Any]:
    """Let parameters leave and return: their moments are what they were."""
    with bench(root, **training, moments="keep_all") as one:
        gone = set(one.draw(0).parameters) - set(one.draw(1).parameters)
        one.engine.select(one.draw(0))
        one.steps(2)
        left = one.state()
        one.engine.select(one.draw(1))
        one.steps(1)
        one.engine.select(one.draw(0))
        back = one.state()
    names = [key for key in left if key.split("/", 1)[1] in gone and not key.startswith("weight/")]
    wrong = [key for key in names if not torch.equal(left[key], back[key])]
    return {"wrong": wrong[:4], "compared": len(names), "ok": bool(names) and not wrong}


def resumed(root: Path, **training: Any) -> dict[str, Any]:
    """Go on from a state in a new engine: the end is the same."""
    with bench(root, **training, moments="keep_selected") as one:
        one.engine.select(one.draw(0))
        one.steps(2)
        kept = one.parts(one.draw(0).parameters)
        counts = one.engine.steps
        one.steps(2)
        whole = one.state()
    with bench(root, **training, moments="keep_selected") as one:
        one.engine.restore(kept, counts)
        one.engine.select(one.draw(0))
        one.at = 2
        one.steps(2)
        again = one.state()
    wrong = different(whole, again)
    return {"wrong": wrong[:4], "ok": not wrong}


def rows(tiny: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each check, precision and ZeRO stage."""
    with tempfile.TemporaryDirectory() as folder, process_group():
        start_deepspeed()
        root = Path(folder)
        yield {"check": "determinism", **_same_twice(root)}
        torch.use_deterministic_algorithms(True, warn_only=True)
        ends: dict[tuple[str, int], State] = {}
        for precision, stage in itertools.product(("bf16", "fp32"), (0, 1, 2, 3)):
            given = {"precision": precision, "zero_stage": stage}
            for check in (frozen_and_moved, carried, stored, resumed):
                yield {"check": check.__name__, **given, **_tried(check, root, given)}
            with bench(root, **given) as one:
                one.engine.select(one.draw(0))
                one.steps(3)
                ends[precision, stage] = one.weights()
            first = ends[precision, 0]
            most = max(
                float((x.float() - first[name].float()).abs().max())
                for name, x in ends[precision, stage].items()
            )
            limit = 2e-5 if precision == "fp32" else 2e-2
            yield {"check": "as ZeRO-0", **given, "difference": most, "ok": most <= limit}


def _same_twice(root: Path) -> dict[str, Any]:
    """Run the same steps twice as a user gets them."""
    ends = []
    for _ in range(2):
        with bench(root, zero_stage=0) as one:
            one.engine.select(one.draw(0))
            one.steps(4)
            ends.append(one.state())
    wrong = different(*ends)
    return {"wrong": wrong[:4], "ok": not wrong}


def _tried(check: Any, root: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Return what a check finds; an error is a finding too."""
    try:
        found: dict[str, Any] = check(root, **given)
    except Exception as error:  # noqa: BLE001
        return {"ok": False, "error": f"{type(error).__name__}: {error}"[:300]}
    return found
