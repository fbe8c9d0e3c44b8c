"""What padding costs: the same steps with and without it, by turns, on one model.

On SmolLM2-135M on a CPU (``make smollm2``), or on random models of known shapes on a GPU:

    OMP_NUM_THREADS=2 python benchmarks/packing.py
    python benchmarks/packing.py --device cuda --model 1b --rows 16 --micro 4 --length 4096

Lengths are those of chat data: log-normal, their mean a quarter of the greatest length, at which
they are cut. Both kinds of step have the same examples, and passes of ``--micro`` sequences of the
greatest length at most. Exits with 1 when a step's loss differs by more than rounding, or when
trained tokens per second are less than 1.8 times as many without padding.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from step_time import FULL, print_machine, print_table
from step_work import WARM_UP, Here, Setup

from hft_ray.config import Config
from hft_ray.data import IGNORED, TrainingSet, steps_per_epoch
from hft_ray.ranks import Ranks
from hft_ray.training.documents import Documents
from hft_ray.training.feed import Feed
from hft_ray.training.process_group import process_group
from hft_ray.training.sft import SupervisedFineTuning
from hft_ray.training.stage import Stage

WANTED = 1.8


def training_set(count: int, longest: int) -> TrainingSet:
    """Return examples of which the second half is trained."""
    random = np.random.default_rng(0)
    lengths = random.lognormal(0.0, 0.8, count)
    scale = longest / 4 / lengths.mean()
    for _ in range(20):  # cutting lowers the mean
        scale *= longest / 4 / np.minimum(lengths * scale, longest).mean()
    sizes = np.clip((lengths * scale).astype(np.int64), 8, longest)
    ids = random.integers(1, 30_000, int(sizes.sum())).astype(np.int32)
    places = np.concatenate([np.arange(size) / size for size in sizes])
    return TrainingSet(
        input_ids=ids,
        labels=np.where(places < 0.5, IGNORED, ids).astype(np.int32),
        ends=np.cumsum(sizes),
        answer_tokens=sizes - -(-sizes // 2),
        dropped=0,
        cut=0,
    )


class Side:
    """Steps of one kind."""

    def __init__(self, here: Here, data: TrainingSet, config: Config, packed: bool) -> None:
        training, steps = config.training, len(data) // config.training.batch_size
        self._objective = SupervisedFineTuning(data, pad_id=0)
        epoch = steps_per_epoch(len(data), training.batch_size)
        self.stage = Stage("sft", self._objective, 0, steps, epoch, training)
        self._documents = Documents(here.model, config)
        if packed:
            self._documents.settle(Ranks())
            assert self._documents.packed, "the model cannot keep documents apart"
        device = here.setup.numerics.device
        self._feed = Feed([self.stage], config, Ranks(), device, self._documents)
        self._here = here
        self.seconds: list[float] = []
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.processed = self.real = self.passes = 0

    def step(self, number: int, rate: float) -> None:
        """Make a step of the stage; the rate 0 changes nothing."""
        found: dict[str, torch.Tensor] = {}

        def work() -> None:
            batches = list(self._feed.passes(number))
            self.processed += sum(batch["input_ids"].numel() for batch in batches)
            self.passes += len(batches)
            units = self._feed.units(number)
            with self._documents.apart():
                loss = self._objective.loss
                found.update(self._here.engine.step(batches, loss, units, rate))

        self.seconds.append(self._here.setup.seconds(work))
        self.rates.append(self._feed.units(number) / self.seconds[-1])
        self.losses.append(float(found["loss"]))
        self.real += self._feed.tokens(number)


def compare(setup: Setup, length: int, micro: int, pairs: int) -> bool:
    """Print the table; return whether packed steps are right and fast enough."""
    here = Here(setup)
    data = training_set(setup.rows * (pairs + WARM_UP), length)
    training = setup.training.model_copy(update={"micro_batch_size": micro})
    config = Config.model_validate(
        {
            "name": "packing",
            "model": "m",
            "data": {"train": "d", "max_length": length},
            "training": training.model_dump(),
        }
    )
    here.engine = type(here.engine)(here.model, training, setup.numerics, Ranks())
    here.engine.select(FULL.draw(here.catalog))
    sides = {"padded": Side(here, data, config, False), "packed": Side(here, data, config, True)}
    for number in range(pairs + WARM_UP):
        for side in sides.values():
            # So that both sides see the same model.
            side.step(number, rate=0.0)
    here.engine.close()
    padded, packed = sides.values()
    middle = statistics.median
    ratios = [b / a for a, b in zip(padded.rates[WARM_UP:], packed.rates[WARM_UP:], strict=True)]
    rows = [
        [
            name,
            f"{side.passes / len(side.seconds):.1f}",
            f"{side.real / side.processed:.2f}",
            f"{middle(side.seconds[WARM_UP:]):.2f}",
            f"{middle(side.rates[WARM_UP:]):.0f}",
            f"{middle(ratios) if side is packed else 1:.2f}",
        ]
        for name, side in sides.items()
    ]
    columns = ["steps", "passes", "share that is not padding", "step, s", "trained tokens/s"]
    print_table(f"Padding (medians of {pairs} pairs)", [*columns, "of padded"], rows)
    mean = float(data.lengths.mean())
    print(f"\n{setup.rows} examples a step, {mean:.0f} tokens long in the mean, {length} at most.")
    if setup.device == "cuda":
        print(f"Peak memory of both: {torch.cuda.max_memory_allocated() / 1e9:.2f} GB.")
    exact = 0.02 if setup.numerics.dtype == torch.bfloat16 else 1e-5
    worst = max(abs(a - b) / a for a, b in zip(padded.losses, packed.losses, strict=True))
    print(f"Largest difference of a step's loss: {worst:.1e} of it.")
    return middle(ratios) >= WANTED and worst <= exact


def main() -> int:
    """Time, print the table, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", choices=["smollm2", "1b", "7b"], default="smollm2")
    parser.add_argument("--stage", type=int, default=0, help="ZeRO stage")
    parser.add_argument("--rows", type=int, default=8, help="examples of a step")
    parser.add_argument("--micro", type=int, default=4, help="training.micro_batch_size")
    parser.add_argument("--length", type=int, default=256, help="data.max_length")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations")
    parser.add_argument("--pairs", type=int, default=6, help="pairs of steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall")
    options = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="hft-ray-") as root, process_group():
        setup = Setup(
            device=options.device,
            model=options.model,
            stage=options.stage,
            rows=options.rows,
            length=options.length,
            checkpointing=options.checkpointing,
            processor_time=options.clock == "processor",
            threads=options.threads,
            root=Path(root),
        )
        setup.start()
        print_machine(setup)
        return 0 if compare(setup, options.length, options.micro, options.pairs) else 1


if __name__ == "__main__":
    sys.exit(main())
