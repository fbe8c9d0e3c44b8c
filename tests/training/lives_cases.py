"""Runs that are killed and go on: their settings and where they die."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jobs import Lives
from training_cases import TIMED, merged

STEPS, RESELECT, SAVE = 10, 4, 3
"""Rounds start at 0, 4 and 8, checkpoints are written at 3, 6 and 9."""
SETTINGS: dict[str, dict[str, Any]] = {
    "gradient-carry": {
        "training.zero_stage": 0,
        "selection.strategy": "gradient",
        "training.moments": "keep_selected",
        "selection.on_deselect": "reset",
        "training.micro_batch_size": 2,
    },
    "cyclic-store": {
        "training.zero_stage": 3,
        "selection.strategy": "cyclic",
        "training.moments": "keep_all",
    },
    "drift-reset": {
        "training.zero_stage": 2,
        "selection.strategy": "least_drifted",
        "training.moments": "reset",
        "training.log_every": 4,
    },
    "random-carry": {
        "training.zero_stage": 1,
        "training.moments": "keep_selected",
        "training.schedule": "cosine",
    },
    "random-store-back": {
        "training.zero_stage": 1,
        "training.moments": "keep_all",
        "selection.on_deselect": "reset",
        "selection.granularity": "layer",
    },
    "cyclic-reset": {
        "training.zero_stage": 0,
        "selection.strategy": "cyclic",
        "selection.ratio": 0.25,
        "training.checkpoints_kept": 1,
    },
    "drift-carry-back": {
        "training.zero_stage": 3,
        "selection.strategy": "least_drifted",
        "training.moments": "keep_selected",
        "selection.on_deselect": "reset",
        "selection.granularity": "model",
    },
    "gradient-store": {
        "training.zero_stage": 2,
        "selection.strategy": "gradient",
        "training.moments": "keep_all",
        "training.rewarmup": 2,
        "selection.embeddings": "selected",
    },
    "random-reset": {"training.zero_stage": 3, "training.moments": "reset"},
    "random-store-bf16": {
        "training.zero_stage": 2,
        "training.moments": "keep_all",
        "training.precision": "bf16",
    },
    "random-carry-lean": {
        "training.zero_stage": 2,
        "training.moments": "keep_selected",
        "training.precision": "bf16",
        "training.optimizer_states": "bf16",
        "training.adam_betas": [0.9, 0.99],
    },
}

DEATHS = {
    ("gradient-carry", 1): [{"rank": 0, "phase": "write", "at": 0.6}],
    ("cyclic-store", 2): [{"rank": 1, "phase": "select", "at": 0.9}],
    ("drift-reset", 1): [{"rank": 0, "phase": "step", "at": 0.75}],
    ("random-carry-lean", 2): [{"rank": 1, "phase": "step", "at": 0.75}],
}
"""Setting and ranks -> where the life of a run ends, in the tests that always run."""

SETTING = "drift-reset"
"""The setting whose checkpoints are damaged."""
REFUSED: dict[str, dict[str, Any]] = {
    "ratio": {
        "changes": {"selection.ratio": 0.25},
        "says": ["another selection.ratio (0.5, this run has 0.25)"],
    },
    "strategy": {
        "changes": {"selection.strategy": "random"},
        "says": ["another selection.strategy (least_drifted, this run has random)"],
    },
    "rate": {
        "changes": {"training.learning_rate": 0.5, "training.steps": 11},
        "says": ["another training.learning_rate (0.003, this run has 0.5)", "training.steps (10"],
    },
    "model": {"changes": {"model": "tied"}, "says": ["another base model (", "model.name"]},
    "data": {"changes": {"data.limit": 12}, "says": ["another training set (", "data.limit"]},
    "draw": {
        "damage": ["other draw"],
        "says": ["another selection (000000000000, this run has ", "alone: lm_head.weight, "],
    },
}
"""Checkpoints of another run: how they differ, and what is said of them."""
RESUMED_DAMAGED: dict[str, dict[str, Any]] = {
    name: {"damage": [name]}
    for name in (
        "truncated",
        "missing",
        "manifest cut",
        "manifest missing",
        "one digit",
        "crash",
        "all",
    )
}


def killed_file(file: dict[str, Any], model: str, setting: str) -> dict[str, Any]:
    """Return FILE of a setting on ``model``, with one cheap evaluation."""
    evaluation = {"general": file["evaluation"]["general"][:1]}
    changes = {
        "model": model,
        "training.steps": STEPS,
        "training.checkpoint_every": SAVE,
        "selection.reselect": RESELECT,
    }
    return merged(file | {"evaluation": evaluation}, changes | SETTINGS[setting])


def killing_jobs(
    out: Path, file: dict[str, Any], ranks: int, setting: str, deaths: list[list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Return the jobs of one setting: without a death, and for each of ``deaths`` all its lives.

    Args:
        out: Folder of the worker.
        file: FILE.
        ranks: Processes.
        setting: Its name.
        deaths: For each story where the lives before the last end: ``rank``, ``phase``, ``at``.
    """
    name = f"{setting}-{ranks}"

    def job(part: str, folder: str, **more: Any) -> dict[str, Any]:
        cases = {"run": {"file": file, "out": str(out / f"{name}-{folder}")}}
        return {
            "name": f"{name}-{part}",
            "ranks": ranks,
            "do": "lives_jobs.train",
            "with": {"cases": cases},
        } | more

    jobs = [job("whole", "whole", record=True)]
    for number, story in enumerate(deaths):
        for life, death in enumerate(story):
            kill = {"of": f"{name}-whole"} | death
            jobs.append(job(f"{number}-killed-{life}", str(number), kill=kill))
        jobs.append(job(f"{number}-resumed", str(number)))
    return jobs


def preparing_job(out: Path, file: dict[str, Any]) -> dict[str, Any]:
    """Return a run of one step, after which data and base scores lie ready for all others."""
    case = {"file": merged(file, {"training.steps": 1}), "out": str(out / "prepared")}
    arguments = {"cases": {"run": case}}
    return {"name": "prepared", "ranks": 1, "do": "lives_jobs.train", "with": arguments}


def resume_job(
    out: Path, file: dict[str, Any], name: str, setting: str, cases: dict[str, Any], ranks: int = 1
) -> dict[str, Any]:
    """Return the job that goes on from checkpoints that are damaged or not of the same run.

    Args:
        out: Folder of the worker.
        file: FILE of ``setting``.
        name: Name of the job.
        setting: The setting whose run without a death, on one rank, wrote the checkpoints.
        cases: Name -> ``damage`` (names of ``lives_jobs.DAMAGES``) and ``changes`` of FILE.
        ranks: Processes.
    """
    runs = {
        case: {
            "out": str(out / name / case),
            "file": merged(file, how.get("changes", {})),
            "damage": how.get("damage", []),
        }
        for case, how in cases.items()
    }
    arguments = {"source": str(out / f"{setting}-1-whole"), "cases": runs}
    return {"name": name, "ranks": ranks, "do": "lives_jobs.resume_damaged", "with": arguments}


def started_at(result: dict[str, Any]) -> int:
    """Return the step that a run went on from, as it tells; 0 if it started afresh."""
    last = result["told"][-1]
    if "starting afresh" in last:
        return 0
    return int(re.search(r"resuming from .*, step (\d+) of", last)[1])


def same_to_the_bit(lives: Lives, ranks: int, setting: str, number: int) -> int:
    """Compare a story with the run without a death; return the step that it went on from last."""
    name = f"{setting}-{ranks}"
    jobs = (f"{name}-whole", f"{name}-{number}-resumed")
    for job in jobs:
        assert lives.codes(job) == [0] * ranks, lives.log(job)
    for rank in range(ranks):
        whole, resumed = (lives.result(job, rank)["run"] for job in jobs)
        expected, found = whole["outcome"], resumed["outcome"]
        assert found["selection"] == expected["selection"]
        assert found["touched_fraction"] == expected["touched_fraction"]
        assert found["base"] == expected["base"]
        told = {each for each in expected["values"] if not each.startswith(TIMED)}
        assert {"train/loss", "forgetting/mean", "distance/all"} <= told
        assert {each: found["values"][each] for each in told} == {
            each: expected["values"][each] for each in told
        }
    whole, resumed = (lives.result(job)["run"] for job in jobs)
    assert resumed["losses"]
    assert resumed["losses"].items() <= whole["losses"].items()
    assert lives.weights(f"{name}-{number}") == lives.weights(f"{name}-whole")
    # Nothing half-written is left.
    folder = lives.folder / f"{name}-{number}"
    assert not list(folder.glob(".*")) + list(folder.glob("checkpoints/.*"))
    return started_at(resumed)
