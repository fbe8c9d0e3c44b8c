"""The work of ``hft-ray train`` after FILE is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
import typer
from rich.console import Console

from hft_ray.artifacts import ArtifactError, Mirror
from hft_ray.cli.logs import shown, terminal
from hft_ray.config import Config, ConfigError, Problem, check_all
from hft_ray.data.locate import locate
from hft_ray.disk_errors import disk_problem
from hft_ray.evaluation.check import files_of
from hft_ray.evaluation.suite import PROGRESS
from hft_ray.item_scores import BASE, SUFFIX
from hft_ray.out_folder import OutFolder
from hft_ray.ranks import Ranks
from hft_ray.selection import FrozenChangedError
from hft_ray.strict_json import dumps
from hft_ray.training import TrainingError, Workspace, check
from hft_ray.training.base import known_base
from hft_ray.training.checkpoint import CHECKPOINT_FILES
from hft_ray.training.hub import pinned
from hft_ray.training.process_group import local_device, process_group, start_deepspeed
from hft_ray.training.run import run
from hft_ray.training.scoring import base_items

PARTIAL_RESULT = ".result.json"
FILES = ("result.json", PARTIAL_RESULT, "selection.png", "tasks.csv", "tasks.png")
FOLDERS = ("model", "checkpoints", "scores")


def run_once(
    config: Config, source: str, root: Path, out: Path, resume: bool, quiet: bool
) -> dict[str, Any] | None:
    """Train on this process's ranks; return the content of ``result.json``, on rank 0 alone.

    Raises:
        ConfigError: FILE or what it names is wrong; nothing was trained.
        typer.Exit: The training failed (exit code 1).
    """
    with process_group() as ranks:
        # The number of threads changes the order of sums on a CPU, so FILE decides it.
        torch.set_num_threads(max(1, int(config.cluster.cpus_per_worker)))
        workspace = Workspace(root, ranks, local_device())
        folder, inputs = _folder(out, ranks.size), _inputs(config, source)
        # Every rank checks, since all of them must stop if one does; the caches are shared.
        config = pinned(config)
        check_all(
            lambda: folder.check(inputs),
            lambda: _check_ranks(config, ranks.size),
            lambda: check(config, workspace, source),
            source=source,
        )
        try:
            with (
                _held(folder, inputs, ranks),
                terminal(out / f"train-{ranks.rank}.log", quiet or not ranks.main) as console,
                shown(console, PROGRESS),
                shown(console, "hft_ray.training") if resume else nullcontext(),
            ):
                return _train(config, workspace, folder, resume, console)
        except ConfigError:
            raise
        except (TrainingError, FrozenChangedError, ArtifactError) as error:
            reason = str(error)
        except Exception as error:
            if (problem := disk_problem(error)) is None:
                raise
            reason = f"{problem}\n{_left(out)}"
        if ranks.main:
            # The result alone is on the standard output of --json.
            typer.echo(f"failed: {reason}", err=quiet)
        raise typer.Exit(1)


def _train(
    config: Config, workspace: Workspace, folder: OutFolder, resume: bool, console: Console
) -> dict[str, Any] | None:
    """Train, and write what comes of it to the folder, which is held."""
    ranks, out = workspace.ranks, folder.path
    start_deepspeed()
    mirror = _mirror(config)
    if ranks.main and not resume:
        # Results of an earlier run must not be taken for those of this one.
        folder.clear(*FILES, *FOLDERS)
        if mirror is not None:
            for name in mirror.names():
                mirror.delete(name)
    ranks.barrier()
    report = _reporter(console)
    model, checkpoints, scores = (out / name for name in FOLDERS)
    outcome = run(config, workspace, report, model, checkpoints, mirror=mirror, items=scores)
    base = known_base(config, workspace)
    if not ranks.main:
        return None
    if base is not None:
        base_items(config, base).write(scores / f"{BASE}{SUFFIX}")
    folder.record("model", "scores")
    result = outcome.to_json()
    partial = out / PARTIAL_RESULT
    partial.write_text(dumps(result, indent=2) + "\n", encoding="utf-8")
    partial.replace(out / "result.json")
    _draw(result, config.name, out)
    console.print(f"model and result.json are in {out}", soft_wrap=True)
    return result


def _mirror(config: Config) -> Mirror | None:
    uri = config.cluster.mirror
    return None if uri is None else Mirror(uri) / f"runs/{config.name}/checkpoints"


def _folder(out: Path, ranks: int) -> OutFolder:
    logs = [f"train-{rank}.log" for rank in range(ranks)]
    return OutFolder(out, "train", [*FILES, *logs], FOLDERS, changing=CHECKPOINT_FILES)


def _inputs(config: Config, source: str) -> dict[str, str | Path]:
    """Return the files and folders that FILE names, and FILE itself: setting -> path."""
    named = {"model.name": config.model.name}
    named |= {path: data.train for path, data in (config.training_data | config.pair_data).items()}
    for path, evaluation in config.scored.places():
        named |= {f"{path}.{key}": name for key, name in files_of(evaluation)}
    found: dict[str, str | Path] = {"FILE": source}
    for path, name in named.items():
        # The check of FILE reports what is missing.
        with suppress(ConfigError):
            if (place := locate(name, path)) is not None:
                found[path] = place
    return found


@contextmanager
def _held(folder: OutFolder, inputs: Mapping[str, str | Path], ranks: Ranks) -> Iterator[None]:
    """Lock the folder for these ranks; all of them must stop if rank 0 cannot."""
    with ExitStack() as stack:
        problems: list[Problem] = []
        if ranks.main:
            try:
                stack.enter_context(folder.held(inputs))
            except ConfigError as error:
                problems = error.problems
        if problems := ranks.broadcast(problems):
            raise ConfigError(problems)
        yield


def _left(out: Path) -> str:
    """Return what a failed run has left, and how to continue."""
    if any((out / "checkpoints").glob("step-*")):
        return f"Checkpoints are in {out / 'checkpoints'}; continue with --resume."
    return "No checkpoint was written (training.checkpoint_every); start the command again."


def _draw(result: dict[str, Any], name: str, out: Path) -> None:
    # The import takes seconds; only rank 0 draws.
    from hft_ray.report.selection_png import render_selection
    from hft_ray.report.tasks_png import render_sequence, sequence_csv

    render_selection(result["selection"], result["steps"], name, out / "selection.png")
    if sequence := result.get("continual"):
        (out / "tasks.csv").write_text(sequence_csv(sequence), encoding="utf-8")
        render_sequence(sequence, name, out / "tasks.png")


def _reporter(console: Console) -> Any:
    def report(step: int, metrics: dict[str, float], scored: bool, last: bool) -> bool:
        names = ["train/loss", "train/grad_norm", "train/learning_rate"]
        if scored:
            names += ["task/score", "general/score", "forgetting/mean", "retention/mean"]
        shown = [f"{name} {metrics[name]:.4g}" for name in names if name in metrics]
        # One line a report at any width of the terminal, since programs read it too.
        line = "  ".join([f"step {step}", *shown, *_speed(metrics)])
        console.print(line, soft_wrap=True)
        return False

    return report


def _speed(metrics: Mapping[str, float]) -> Iterator[str]:
    """Yield speed and memory of a run, in words."""
    if (rate := metrics.get("train/tokens_per_second")) is not None:
        yield f"{rate:,.0f} tokens/s ({metrics['train/trained_tokens_per_second']:,.0f} trained)"
    if (share := metrics.get("train/mfu")) is not None:
        yield f"MFU {share:.1%}"
    each = [x for name, x in metrics.items() if name.startswith("system/peak_memory_bytes/")]
    if peaks := each or [x for name, x in metrics.items() if name == "cost/peak_memory_bytes"]:
        yield f"peak memory {', '.join(f'{x / (1 << 30):.2f}' for x in peaks)} GiB"


def _check_ranks(config: Config, size: int) -> None:
    """Refuse a batch that this number of processes does not divide."""
    training = config.training
    per_pass = (training.micro_batch_size or 1) * size
    if training.batch_size % per_pass:
        problem = f"must be a multiple of micro-batch x processes = {per_pass}"
        raise ConfigError(Problem("training.batch_size", problem, training.batch_size))
