"""``hft-ray train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hft_ray.cli.options import File, Json, Overrides, Storage
from hft_ray.config import Config, ConfigError, Problem
from hft_ray.config.load import load
from hft_ray.config.storage import storage_root


def train(
    file: File,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the result goes.")],
    overrides: Overrides = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Fine-tune once, without Ray, alone or under torchrun; the search section is not used.

    Example: hft-ray train run.yaml --out result --set selection.ratio=0.25

    Example: torchrun --nproc-per-node 2 -m hft_ray train run.yaml --out result
    """
    config = load(file, overrides or ())
    root = storage_root(storage)
    # Heavy imports wait until FILE is known to be right.
    import torch

    from hft_ray.cli.logs import log_to
    from hft_ray.training.process_group import local_device, process_group, start_deepspeed

    log_to(out / "train.log")
    with process_group() as ranks:
        start_deepspeed()
        from hft_ray.training import Outcome, TrainingError, Workspace, check, run

        # The number of threads decides the order of sums on a CPU: FILE says it, not the machine.
        torch.set_num_threads(max(1, int(config.cluster.cpus_per_worker)))
        workspace = Workspace(root, ranks, local_device())
        if ranks.main:
            _check_ranks(config, ranks.size)
            check(config, workspace, str(file))
        ranks.barrier()

        def show(step: int, metrics: dict[str, float], scored: bool) -> bool:
            if not as_json:
                names = ["train/loss", *(["task/score", "general/score"] if scored else [])]
                shown = "  ".join(f"{n} {metrics[n]:.4g}" for n in names if n in metrics)
                typer.echo(f"step {step}  {shown}")
            return False

        try:
            outcome: Outcome = run(config, workspace, show, save_to=out / "model")
        except TrainingError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from error
        if ranks.main:
            _write(out, outcome.to_json(), as_json)


def _check_ranks(config: Config, size: int) -> None:
    batch = config.training.batch_size
    if batch % size:
        problem = f"must be a multiple of the {size} processes"
        raise ConfigError(Problem("training.batch_size", problem, batch))


def _write(out: Path, result: dict[str, Any], as_json: bool) -> None:
    text = json.dumps(result, indent=2)
    (out / "result.json").write_text(text + "\n", encoding="utf-8")
    typer.echo(text if as_json else f"model and result.json are in {out}")
