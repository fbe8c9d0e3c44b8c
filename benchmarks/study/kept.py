"""Finished sweeps as small files: what the study's tables need of them, without their MLflow store.

``NAME.json.gz`` holds FILE, base and the params and metrics of all trials and variants;
``NAME.safetensors`` the scores of single items. Folders of the machine are left out.
"""

from __future__ import annotations

import gzip
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hft_ray.orchestration.itemwise import SCORES
from hft_ray.tracking import SweepRecord, TimeSpan, TrialRecord, names

CONFIG, ITEMS = "config.yaml", f"front/{SCORES}"
"""The artifacts of a sweep that are kept."""
_SWEEP = ("name", "state", "params", "metrics", "objectives", "reference_point", "base")
_TRIAL = ("trial", "state", "metrics", "variant")


def keep(record: SweepRecord, folder: Path, out: Path) -> None:
    """Write a finished sweep below ``folder``.

    Args:
        record: The sweep.
        folder: Where kept sweeps are.
        out: Where it was run; paths below it are kept relative to it.

    Raises:
        ValueError: The sweep is not complete, or the scores of its items are missing.
    """
    if record.state != "complete":
        raise ValueError(f"{record.name} is {record.state}, not complete")
    content: dict[str, Any] = {key: getattr(record, key) for key in _SWEEP}
    content["config"] = record.artifact(CONFIG).decode("utf-8")
    content["trials"] = [_trial(each, record) for each in record.trials]
    content["variants"] = [_trial(each, record) for each in record.variants]
    text = json.dumps(content, indent=0).replace(f"{out}/", "")
    folder.mkdir(parents=True, exist_ok=True)
    with record.file(ITEMS) as items:
        if items is None:
            raise ValueError(f"{record.name} has no scores of single items")
        shutil.copyfile(items, folder / f"{record.name}.safetensors")
    # Without a time, so that the same sweep gives the same bytes.
    _path(folder, record.name).write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))


def _trial(trial: TrialRecord, record: SweepRecord) -> dict[str, Any]:
    """Return a trial with those params alone in which it differs from its sweep."""
    found = {key: getattr(trial, key) for key in _TRIAL}
    found["params"] = {k: v for k, v in trial.params.items() if v != record.params.get(k, ...)}
    found["tags"] = {k: v for k, v in trial.tags.items() if k == names.CONFIGURATION}
    measured = next((name for name in record.objectives if name in trial.metrics), None)
    found["step"] = trial.history(measured)[-1][0] if measured else 0
    return found


def kept_sweep(folder: Path, name: str) -> SweepRecord | None:
    """Return a kept sweep as :func:`hft_ray.tracking.read_sweep` would; None if it is not there."""
    path = _path(folder, name)
    if not path.exists():
        return None
    content = json.loads(gzip.decompress(path.read_bytes()))
    files = _Files(folder / f"{name}.safetensors", content.pop("config"))
    span = TimeSpan(0.0, 0.0)

    def trial(found: dict[str, Any]) -> TrialRecord:
        found["params"] = content["params"] | found["params"]
        client = _Steps(found.pop("step"))
        return TrialRecord(**found, run_id="", span=span, _client=client)

    content |= {part: list(map(trial, content[part])) for part in ("trials", "variants")}
    return SweepRecord(**content, run_id="", experiment_id="", tags={}, span=span, _client=files)


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json.gz"


@dataclass(frozen=True)
class _Artifact:
    path: str


@dataclass(frozen=True)
class _Measured:
    step: int
    value: float = math.nan


class _Steps:
    """Stands for MLflow's client, of which a kept trial asks for its last step alone."""

    def __init__(self, step: int) -> None:
        self._step = step

    def get_metric_history(self, run_id: str, metric: str) -> list[_Measured]:
        """Return when the trial was scored last."""
        return [_Measured(self._step)]


class _Files:
    """Stands for MLflow's client, of which a kept sweep asks for artifacts alone.

    Args:
        items: The file of item scores.
        config: The sweep's FILE.
    """

    def __init__(self, items: Path, config: str) -> None:
        self._items, self._config = items, config

    def list_artifacts(self, run_id: str, folder: str | None) -> list[_Artifact]:
        """Return what there is in the folder of item scores."""
        return [_Artifact(ITEMS)]

    def download_artifacts(self, run_id: str, path: str, folder: str) -> str:
        """Write an artifact below ``folder``; return where it is."""
        target = Path(folder) / Path(path).name
        if path == CONFIG:
            target.write_text(self._config, encoding="utf-8")
        else:
            shutil.copyfile(self._items, target)
        return str(target)
