"""What the forked processes of ``lives_worker`` do."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from hft_ray.config import Config
from hft_ray.ranks import Ranks
from hft_ray.training import CheckpointError, Workspace
from hft_ray.training.checkpoint import checkpoints
from hft_ray.training.checkpoint_reader import CheckpointReader
from hft_ray.training.checkpoint_writer import checkpoint_writer
from hft_ray.training.run import run


def train(ranks: Ranks, root: Path, cases: dict[str, Any]) -> dict[str, Any]:
    """Run cases: name -> FILE and ``out``, a folder that may have checkpoints to go on from."""
    workspace = Workspace(root, ranks, torch.device("cpu"))
    results: dict[str, Any] = {}
    told = _Told()
    for name, case in cases.items():
        losses: dict[int, float] = {}
        told.messages = []

        def report(
            step: int,
            metrics: dict[str, float],
            scored: bool,
            last: bool,
            losses: dict[int, float] = losses,
        ) -> bool:
            losses[step] = metrics["train/loss"]
            return False

        config, out = Config.model_validate(case["file"]), Path(case["out"])
        outcome = run(config, workspace, report, out / "model", out / "checkpoints")
        results[name] = {
            "losses": losses,
            "outcome": outcome.to_json(),
            "told": told.messages,
        }
    logging.getLogger("hft_ray.training").removeHandler(told)
    return results


class _Told(logging.Handler):
    """What training logs, which the command shows on the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.messages: list[str] = []
        logger = logging.getLogger("hft_ray.training")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def resume_damaged(
    ranks: Ranks, root: Path, source: str, cases: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Go on from copies of the checkpoints in ``source``, each damaged in another way.

    Args:
        ranks: The processes.
        root: Storage root.
        source: Folder with ``checkpoints``.
        cases: Name -> ``file``, ``out`` (a new folder) and ``damage``, a list of functions below.
    """
    results: dict[str, Any] = {}
    for name, case in cases.items():
        out = Path(case["out"])
        if ranks.main:
            shutil.copytree(Path(source, "checkpoints"), out / "checkpoints")
            for damage in case["damage"]:
                DAMAGES[damage](out / "checkpoints")
        ranks.barrier()
        try:
            results |= train(ranks, root, {name: case})
        except CheckpointError as error:
            results[name] = {"error": str(error)}
        results[name]["left"] = sorted(path.name for path in (out / "checkpoints").iterdir())
    return results


def _newest(folder: Path) -> Path:
    return checkpoints(folder)[0]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _all(folder: Path) -> None:
    for path in checkpoints(folder):
        (path / "manifest.json").unlink()


def _crash(folder: Path) -> None:
    """Leave what a crash in the middle of writing leaves."""
    partial = folder / ".partial-abc"
    shutil.copytree(_newest(folder), partial)
    (partial / "manifest.json").unlink()
    _cut(partial / "state-00000-00000.safetensors")


def _digit(folder: Path) -> None:
    path = _newest(folder) / "manifest.json"
    content = path.read_text()
    assert '"step": 9,' in content
    path.write_text(content.replace('"step": 9,', '"step": 8,'))


def _other_draw(folder: Path) -> None:
    """Have the newest checkpoint say, rightly signed, that it trains something else."""
    found = CheckpointReader(Ranks(), torch.device("cpu")).read(_newest(folder))
    tensors = {**found.state, **found.beside}
    other = {"selection": "0" * 64, "parameters": ["model.norm.weight"]}
    with checkpoint_writer(folder, 2, Ranks()) as writer:
        writer.save(found.manifest.model_copy(update=other), tensors.items())


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": lambda folder: _cut(_newest(folder) / "state-00000-00000.safetensors"),
    "missing": lambda folder: (_newest(folder) / "state-00000-00000.safetensors").unlink(),
    "manifest cut": lambda folder: _cut(_newest(folder) / "manifest.json"),
    "manifest missing": lambda folder: (_newest(folder) / "manifest.json").unlink(),
    "one digit": _digit,
    "all": _all,
    "crash": _crash,
    "other draw": _other_draw,
}
