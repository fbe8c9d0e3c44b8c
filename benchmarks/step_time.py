"""What a step costs: by ratio and granularity, against full fine-tuning and against ``Trainer``.

On SmolLM2-135M on a CPU (``make smollm2``), or on random models of known shapes on a GPU:

    OMP_NUM_THREADS=2 python benchmarks/step_time.py
    python benchmarks/step_time.py --device cuda --model 1b --rows 8 --length 2048
    python benchmarks/step_time.py --device cuda --model 7b --rows 1 --length 2048 --checkpointing \
        --parts steps,rounds,memory

Parts, each a table:

    steps    ratios and granularities in turn, several rounds of it, by real re-selections on one
             model: seconds of a step, of the re-selection, and of what the first step after it
             takes more (it makes the optimizer's state); ratios are of the same round
    trainer  a step of transformers' Trainer and one here by turns in one process, on two copies of
             the model: same DeepSpeed configuration, trained parameters, shapes and labels
    rounds   what else a round costs: moments that are kept, audit, checkpoint; at half
    memory   the peak of a process of its own

Beside the figures stands what arithmetic says (``step_work.Bound``). Exits with 1 when a
re-selection takes longer than one step, or a step takes longer than Trainer's, full or half.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import platform
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import get_origin

import psutil
import torch
from step_work import WARM_UP, Bound, Case, Here, Setup, bound, optimizer_seconds, peak_memory
from step_work import with_trainer as with_trainer_steps

from hft_ray.config import Selection
from hft_ray.ranks import Ranks
from hft_ray.selection import Catalog
from hft_ray.training.audit import Audit
from hft_ray.training.base_snapshot import BaseSnapshot
from hft_ray.training.checkpoint import CheckpointManifest, checkpoints
from hft_ray.training.checkpoint_reader import CheckpointReader
from hft_ray.training.checkpoint_writer import checkpoint_writer
from hft_ray.training.engine import Engine
from hft_ray.training.garbage import only_new_garbage
from hft_ray.training.process_group import process_group

FULL = Case("full", Selection(ratio=1.0, granularity="model"))
HALF = Case("half by category", Selection(ratio=0.5))
CASES = [
    FULL,
    *(
        Case(f"{ratio} by {granularity}", Selection(ratio=ratio, granularity=granularity))
        for granularity in ("category", "model", "layer")
        for ratio in (0.5, 0.25, 0.1)
    ),
]
middle = statistics.median


def early_stop_cases(layers: int) -> list[Case]:
    """Return a quarter of the layers, embeddings frozen: from the lowest on, and at the top."""
    spread = tuple(range(0, layers, 4))
    top = tuple(range(layers - len(spread), layers))
    return [
        Case("a quarter of the layers, the lowest among them", HALF.selection, spread),
        Case("the same number at the top", HALF.selection, top),
    ]


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table, row by row as they come."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" + " ---: |" * (len(columns) - 1), flush=True)
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


class Figures:
    """The figures of one case, one for each round of all cases."""

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self.steps: list[float] = []
        self.selects: list[float] = []
        self.firsts: list[float] = []


def steps_part(setup: Setup, rounds: int) -> bool:
    """Time every case; return whether a re-selection takes at most a step."""
    here = Here(setup)
    audit = Audit(here.model, Ranks())
    cases = [*CASES, *early_stop_cases(here.catalog.layers)]
    bf16 = setup.numerics.dtype == torch.bfloat16
    figures = {case: Figures(bound(here.catalog, case.draw(here.catalog), bf16)) for case in cases}
    here.engine.select(FULL.draw(here.catalog))
    for _ in range(WARM_UP):
        here.step()
    with only_new_garbage():
        for number in range(rounds):
            for case, found in figures.items():
                _one_round(here, audit, case, number, found)
    here.engine.close()
    per_parameter = optimizer_seconds(setup)
    whole = per_parameter * here.catalog.parameters
    full = middle(figures[FULL].steps)
    rows = []
    for case, found in figures.items():
        step, least = middle(found.steps), found.bound
        ratio = middle(a / b for a, b in zip(found.steps, figures[FULL].steps, strict=True))
        arithmetic = ((full - whole) * least.compute + whole * least.optimizer) / full
        in_steps = [a / b for a, b in zip(found.selects, found.steps, strict=True)]
        rows.append(
            [
                case.name,
                f"{least.optimizer:.2f}",
                f"{step:.2f}",
                f"{here.tokens / step:.0f}",
                f"{ratio:.2f}",
                f"{arithmetic:.2f}",
                f"{middle(found.selects):.2f}",
                f"{middle(found.firsts):.2f}",
                f"{middle(in_steps):.2f}",
            ]
        )
    columns = ["trained", "share", "step, s", "trained tokens/s", "of full", "arithmetic"]
    columns += ["re-selection, s", "first step's extra, s", "re-selection, steps"]
    print_table(f"Steps (medians of {rounds} rounds)", columns, rows)
    rate = _matrix_rate(setup, here)
    work = 6 * here.tokens * _multiplied(here)
    print(
        f"\nOptimizer alone (clipping, fused AdamW): {whole:.2f} s for all parameters. Matrix "
        f"products reach {rate / 1e9:.0f} GFLOP/s here, at which full fine-tuning's "
        f"{work / 1e9:.0f} GFLOP take {work / rate:.2f} s."
    )
    return all(middle(x.selects) <= middle(x.steps) for x in figures.values())


def _one_round(here: Here, audit: Audit, case: Case, number: int, found: Figures) -> None:
    drawn = case.draw(here.catalog, number)

    def select() -> None:
        here.engine.detach()
        audit.start(drawn.parameters)
        here.engine.select(drawn)

    found.selects.append(here.setup.seconds(select))
    first, *later = (here.setup.seconds(here.step) for _ in range(3))
    found.firsts.append(first - middle(later))
    found.steps.append(middle(later))


def _multiplied(here: Here) -> int:
    """Return the parameters of matrices that are multiplied: all but an untied embedding."""
    tied = not any(unit.category == "head" for unit in here.catalog.units)
    return sum(u.size for u in here.catalog.units if tied or u.category != "embedding")


def _matrix_rate(setup: Setup, here: Here) -> float:
    """Return the floating point operations per second of a feed-forward matrix's product."""
    weight = max(
        (p for name, p in here.model.named_parameters() if "mlp" in name), key=lambda p: p.numel()
    ).detach()
    tokens = torch.randn(
        setup.rows * setup.length, weight.shape[1], device=weight.device, dtype=weight.dtype
    )
    times = [setup.seconds(lambda: [tokens @ weight.T for _ in range(10)]) for _ in range(12)]
    return 10 * 2 * tokens.shape[0] * weight.numel() / middle(times[WARM_UP:])


def trainer_part(setup: Setup, pairs: int) -> bool:
    """Compare with Trainer; return whether a step here is at least as fast, full and half."""
    ratios: list[float] = []
    columns = ["trained", "here, s", "Trainer, s", "here / Trainer", "middle half"]
    rows = _against_trainer(setup, pairs, ratios)
    print_table(f"Against Trainer (medians of {pairs} pairs)", columns, rows)
    return max(ratios) <= 1.0


def _against_trainer(setup: Setup, pairs: int, medians: list[float]) -> Iterator[list[str]]:
    """Yield the rows of the table; add the median ratio of each to ``medians``."""
    for case, trained in ((FULL, 1.0), (HALF, 1.0), (HALF, 0.25)):
        here = Here(setup, trained)
        here.engine.select(case.draw(here.catalog))
        times = with_trainer_steps(setup, case, pairs, here)
        here.engine.close()
        ours, theirs = times.here[WARM_UP:], times.trainer[WARM_UP:]
        ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
        medians.append(middle(ratios))
        what = "every token" if trained == 1.0 else f"the last {trained:.0%}"
        quarter = len(ratios) // 4
        yield [
            f"{case.name}, loss on {what}",
            f"{middle(ours):.2f}",
            f"{middle(theirs):.2f}",
            f"{middle(ratios):.2f}",
            f"{ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f}",
        ]


def rounds_part(setup: Setup, times: int) -> None:
    """Time what a round costs beside its steps, for half of the model."""
    here = Here(setup)
    drawn = [HALF.draw(here.catalog, number) for number in range(times + 1)]
    origin = BaseSnapshot(here.model, here.catalog, Ranks())
    audit = Audit(here.model, Ranks())
    here.engine.select(drawn[0])
    for each in drawn:
        origin.remember(each.parameters)
    audit.start(drawn[0].parameters)
    here.step()
    step = middle([setup.seconds(here.step) for _ in range(times)])
    work: dict[str, Callable[[], object]] = {
        "audit: what is frozen has not changed": audit.prove,
        "audit: distances from the base": origin.distances,
    }
    seconds = {name: [setup.seconds(one) for _ in range(times)] for name, one in work.items()}
    folder = setup.root / "checkpoints"
    seconds |= _checkpoint_seconds(setup, here, drawn[0].parameters, folder, times)
    rows = [["a step", f"{step:.2f}", "1.00"]]
    for name, all_of_them in seconds.items():
        taken = middle(all_of_them)
        rows.append([name, f"{taken:.2f}", f"{taken / step:.2f}"])
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    here.engine.close()
    with only_new_garbage():
        for moments in ("reset", "keep_selected", "keep_all"):
            training = setup.training.model_copy(update={"moments": moments})
            here.engine = Engine(here.model, training, setup.numerics, Ranks())
            here.engine.select(drawn[0])
            found = []
            for each in drawn[1:]:
                here.step()
                found.append(setup.seconds(partial(here.engine.select, each)))
            here.engine.close()
            taken = middle(found)
            rows.append([f"re-selection, moments: {moments}", f"{taken:.2f}"])
            rows[-1].append(f"{taken / step:.2f}")
    columns = ["half by category", "s", "in steps"]
    print_table(f"A round beside its steps (medians of {times})", columns, rows)
    print(f"\nThe checkpoint has {size / 1e9:.2f} GB.")


def _checkpoint_seconds(
    setup: Setup, here: Here, names: Collection[str], folder: Path, times: int
) -> dict[str, list[float]]:
    """Return the seconds of what training waits for, of steps meanwhile, of the rest, of reading.

    The first checkpoint, whose copy takes memory that was not used before, stands by itself.
    """
    found: dict[str, list[float]] = defaultdict(list)
    with checkpoint_writer(folder, 1, Ranks()) as writer:
        for number in range(times + 1):
            parts = here.engine.parts(names)
            taken = setup.seconds(partial(writer.save, _manifest(), parts))
            which = "further checkpoints" if number else "first checkpoint"
            found[f"{which}: training waits"].append(taken)
            found["a step while one is written"].append(setup.seconds(here.step))
            found["until it is written, after that step"].append(setup.seconds(writer.wait))
    reader = CheckpointReader(Ranks(), setup.numerics.device, here.engine.spans())
    for _ in range(times):
        read = partial(reader.read, checkpoints(folder)[0])
        found["checkpoint: read and verify"].append(setup.seconds(read))
    return found


def _manifest() -> CheckpointManifest:
    """Return a manifest in which every field is empty or 0."""
    needed = (each for each in CheckpointManifest.model_fields.items() if each[1].is_required())
    kinds = {name: get_origin(each.annotation) or each.annotation for name, each in needed}
    return CheckpointManifest.model_validate({name: kind() for name, kind in kinds.items() if kind})


def memory_part(setup: Setup) -> None:
    """Measure the peak memory of every case, and of Trainer, in processes of their own."""
    here = Here(setup)
    catalog, bf16 = here.catalog, setup.numerics.dtype == torch.bfloat16
    del here
    columns = ["trained", "peak, GB", "weights, gradients, optimizer, GB"]
    print_table("Peak memory", columns, _peaks(setup, catalog, bf16))


def _peaks(setup: Setup, catalog: Catalog, bf16: bool) -> Iterator[list[str]]:
    runs = [(case, False) for case in (*CASES, *early_stop_cases(catalog.layers))]
    runs += [(FULL, True), (HALF, True)]
    context = get_context("spawn")
    for case, trainer in runs:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            peak = pool.submit(peak_memory, setup, case, trainer).result()
        least = bound(catalog, case.draw(catalog), bf16).bytes
        name = f"{case.name}, Trainer" if trainer else case.name
        yield [name, f"{peak / 1e9:.2f}", f"{least / 1e9:.2f}"]


def _processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def print_machine(setup: Setup) -> None:
    """Print what the figures depend on."""
    cores = len(psutil.Process().cpu_affinity() or []) or os.cpu_count()
    machine = f"{_processor()}, {cores} cores"
    if setup.device == "cuda":
        machine += f", {torch.cuda.get_device_name()}"
    named = ("torch", "deepspeed", "transformers")
    versions = ", ".join(f"{name} {version(name)}" for name in named)
    kind = str(setup.numerics.dtype).removeprefix("torch.")
    recomputed = ", activations recomputed" if setup.checkpointing else ""
    shapes = f"{setup.rows} sequences of {setup.length} tokens"
    print(f"- machine: {machine}; {setup.threads} threads")
    print(f"- versions: Python {platform.python_version()}, {versions}")
    print(f"- command: `{' '.join(['python', *sys.argv])}`")
    print(f"- date: {datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}")
    print(f"- work: {setup.model}, {kind}, {shapes}, ZeRO-{setup.stage}{recomputed}")
    clock = "of a processor's time" if setup.processor_time else "of wall time"
    print(f"- seconds are {clock}; load average at the start: {os.getloadavg()[0]:.1f}", flush=True)


def main() -> int:
    """Time, print the tables, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", choices=["smollm2", "1b", "7b"], default="smollm2")
    parser.add_argument("--stage", type=int, default=0, help="ZeRO stage")
    parser.add_argument("--rows", type=int, default=4, help="sequences of a step")
    parser.add_argument("--length", type=int, default=64, help="tokens of a sequence")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of steps and rounds")
    parser.add_argument("--pairs", type=int, default=12, help="pairs with Trainer")
    parser.add_argument(
        "--clock",
        choices=["wall", "processor"],
        default="wall",
        help="processor: seconds of a processor, for a machine that others use too; one thread",
    )
    parser.add_argument("--parts", default="steps,trainer,rounds,memory")
    options = parser.parse_args()
    parts = options.parts.split(",")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="hft-ray-") as root:
        setup = Setup(
            device=options.device,
            model=options.model,
            stage=options.stage,
            rows=options.rows,
            length=options.length,
            checkpointing=options.checkpointing,
            processor_time=options.clock == "processor",
            threads=int(os.environ.get("OMP_NUM_THREADS", "2")),
            root=Path(root),
        )
        print_machine(setup)
        good = True
        if "memory" in parts:  # first: Trainer leaves variables in the environment
            memory_part(setup)
        with process_group():
            setup.start()
            if "steps" in parts:
                good &= steps_part(setup, options.rounds)
            if "trainer" in parts:
                good &= trainer_part(setup, options.pairs)
            if "rounds" in parts:
                rounds_part(setup, options.rounds)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
