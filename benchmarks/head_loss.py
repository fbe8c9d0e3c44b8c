"""What a loss without the logits of all positions takes, beside one that holds them.

    OMP_NUM_THREADS=1 python benchmarks/head_loss.py
    python benchmarks/head_loss.py --device cuda --model 1b --rows 8 --length 2048

Two tables. Memory: what a loss and its gradient need beside a head for 152,000 tokens, with 2,048
trained positions; each in a process of its own. Time: forward and
backward pass of a model by turns, so that each pair of times meets the same load.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from step_work import Setup
from torch import Tensor, nn
from torch.nn import functional as F

from hft_ray.data import collate
from hft_ray.evaluation.linear import Head
from hft_ray.training.loss import answer_loss

VOCABULARY, POSITIONS = 152_000, 2_048
WARM_UP = 2


def whole_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return what ``answer_loss`` does, with the logits of all trained positions held."""
    targets = F.pad(batch["labels"], (0, 1), value=-100)[:, 1:]
    trained = targets != -100
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    logits: Tensor = model(**inputs, logits_to_keep=trained, use_cache=False).logits
    return F.cross_entropy(logits.float(), targets[trained], reduction="sum")


def memory(device: str, kind: torch.dtype, width: int, trained: bool, whole: bool) -> int:
    """Return the bytes that a head's loss and gradient need at their peak, beside the head."""
    torch.manual_seed(0)
    weight = nn.Parameter(
        torch.empty(VOCABULARY, width, dtype=kind, device=device).normal_(std=0.02)
    )
    weight.requires_grad_(trained)
    hidden = torch.randn(POSITIONS, width, dtype=kind, device=device, requires_grad=True)
    targets = torch.randint(VOCABULARY, (POSITIONS,), device=device)

    def used() -> int:
        if device == "cuda":
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    before = used()
    if whole:
        loss = F.cross_entropy(F.linear(hidden, weight).float(), targets, reduction="sum")
    else:
        loss = Head(weight).loss(hidden, targets)
    torch.autograd.backward(loss / POSITIONS)
    return used() - before


def print_memory(device: str, width: int) -> None:
    """Print the peaks of both losses, head trained and frozen, fp32 and bf16."""
    print("| head | type | all logits, GB | in parts, GB | ratio | with the head's weight |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    context = get_context("spawn")
    for trained in (True, False):
        for kind in (torch.float32, torch.bfloat16):
            found = []
            for whole in (True, False):
                with ProcessPoolExecutor(1, mp_context=context) as pool:
                    peak = pool.submit(memory, device, kind, width, trained, whole).result()
                found.append(peak / 1e9)
            head = VOCABULARY * width * kind.itemsize / 1e9
            with_head = (found[1] + head) / (found[0] + head)
            name = str(kind).removeprefix("torch.")
            print(
                f"| {'trained' if trained else 'frozen'} | {name} | {found[0]:.2f} | {found[1]:.2f}"
                f" | {found[1] / found[0]:.2f} | {with_head:.2f} |",
                flush=True,
            )


def print_times(setup: Setup, pairs: int) -> None:
    """Print the medians of pairs of steps, head trained and frozen."""
    model = setup.load()
    batch = collate(setup.items(1.0), 0)
    batch = {key: value.to(setup.numerics.device) for key, value in batch.items()}
    head = model.get_output_embeddings().weight  # type: ignore[operator]

    def step(loss: Callable[[nn.Module, dict[str, Tensor]], Tensor]) -> None:
        model.zero_grad()
        torch.autograd.backward(loss(model, batch))

    print("\n| head | all logits, s | in parts, s | ratio | middle half |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for trained in (True, False):
        head.requires_grad_(trained)
        times = [
            (setup.seconds(partial(step, whole_loss)), setup.seconds(partial(step, answer_loss)))
            for _ in range(WARM_UP + pairs)
        ][WARM_UP:]
        ratios = sorted(ours / theirs for theirs, ours in times)
        theirs, ours = (statistics.median(column) for column in zip(*times, strict=True))
        quarter = len(ratios) // 4
        spread = f"{ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f}"
        print(
            f"| {'trained' if trained else 'frozen'} | {theirs:.3f} | {ours:.3f} | "
            f"{statistics.median(ratios):.3f} | {spread} |",
            flush=True,
        )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", choices=["smollm2", "1b", "7b"], default="smollm2")
    parser.add_argument("--rows", type=int, default=4, help="sequences of a step")
    parser.add_argument("--length", type=int, default=64, help="tokens of a sequence")
    parser.add_argument("--width", type=int, default=2048, help="hidden units, for the memory")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--parts", default="memory,time")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if "memory" in parts:
        print_memory(options.device, options.width)
    if "time" in parts:
        with tempfile.TemporaryDirectory(prefix="hft-ray-") as root:
            setup = Setup(
                device=options.device,
                model=options.model,
                stage=0,
                rows=options.rows,
                length=options.length,
                checkpointing=False,
                processor_time=options.device == "cpu",
                threads=int(os.environ.get("OMP_NUM_THREADS", "2")),
                root=Path(root),
            )
            torch.set_num_threads(setup.threads)
            print_times(setup, options.pairs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
