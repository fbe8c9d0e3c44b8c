"""What ``hft-ray train`` does once FILE is read."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
import typer
from rich.console import Console

from hft_ray.cli.logs import terminal
from hft_ray.config import Config, ConfigError, Problem
from hft_ray.mirror import Mirror, MirrorError
from hft_ray.strict_json import dumps
from hft_ray.training import CheckpointError, TrainingError, Workspace, check, run
from hft_ray.training.process_group import local_device, process_group, start_deepspeed


def run_once(
    config: Config, source: str, root: Path, out: Path, resume: bool, quiet: bool
) -> dict[str, Any] | None:
    """Train on this process's ranks; return the content of ``result.json``, on rank 0 alone.

    Raises:
        ConfigError: FILE or what it names is wrong; nothing was trained.
        typer.Exit: The training failed (exit code 1).
    """
    with process_group() as ranks:
        # The number of threads decides the order of sums on a CPU: FILE says it, not the machine.
        torch.set_num_threads(max(1, int(config.cluster.cpus_per_worker)))
        workspace = Workspace(root, ranks, local_device())
        # Every rank checks, one after the other's cache: all of them must stop if one does.
        _check_ranks(config, ranks.size, source)
        check(config, workspace, source)
        log = out / f"train-{ranks.rank}.log"
        with terminal(log, quiet=quiet or not ranks.main) as console:
            start_deepspeed()
            try:
                mirror = _mirror(config)
                if ranks.main and not resume:
                    _clear(out)
                    if mirror is not None:
                        mirror.delete("")
                ranks.barrier()
                if resume:
                    logging.getLogger("hft_ray.training").addHandler(_Telling(console))
                report = _reporter(console)
                outcome = run(
                    config, workspace, report, out / "model", out / "checkpoints", mirror=mirror
                )
            except (TrainingError, CheckpointError, MirrorError) as error:
                console.print(f"[red]failed:[/] {error}", soft_wrap=True)
                raise typer.Exit(1) from error
            if not ranks.main:
                return None
            result = outcome.to_json()
            text = dumps(result, indent=2)
            partial = out / ".result.json"
            partial.write_text(text + "\n", encoding="utf-8")
            partial.replace(out / "result.json")
            _draw(result, config.name, out)
            console.print(f"model and result.json are in {out}", soft_wrap=True)
            return result


def _mirror(config: Config) -> Mirror | None:
    uri = config.cluster.mirror
    return None if uri is None else Mirror(uri) / f"runs/{config.name}/checkpoints"


def _clear(out: Path) -> None:
    """Delete what an earlier run left in ``out``: none of it is to pass for this one's."""
    for name in ("checkpoints", "model"):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in ("result.json", "selection.png", "tasks.csv", "tasks.png"):
        (out / name).unlink(missing_ok=True)


class _Telling(logging.Handler):
    """Tells on the console what training logs: where it goes on from, what is damaged."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(record.getMessage(), soft_wrap=True, markup=False)


def _draw(result: dict[str, Any], name: str, out: Path) -> None:
    # Takes seconds, which other ranks need not spend.
    from hft_ray.pareto import render_selection, render_sequence, sequence_csv

    render_selection(result["selection"], result["steps"], name, out / "selection.png")
    if sequence := result.get("continual"):
        (out / "tasks.csv").write_text(sequence_csv(sequence), encoding="utf-8")
        render_sequence(sequence, name, out / "tasks.png")


def _reporter(console: Console) -> Any:
    def report(step: int, metrics: dict[str, float], scored: bool) -> bool:
        names = ["train/loss"]
        if scored:
            names += ["task/score", "general/score", "forgetting/mean"]
        shown = "  ".join(f"{name} {metrics[name]:.4g}" for name in names if name in metrics)
        console.print(f"step {step}  {shown}")
        return False

    return report


def _check_ranks(config: Config, size: int, source: str) -> None:
    """Refuse a batch that this number of processes does not divide."""
    training = config.training
    per_pass = (training.micro_batch_size or 1) * size
    if training.batch_size % per_pass:
        problem = f"must be a multiple of micro-batch x processes = {per_pass}"
        raise ConfigError(Problem("training.batch_size", problem, training.batch_size), source)
