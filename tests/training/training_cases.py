"""What the tests of training run, on one rank and on two, and how they are started."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import Jobs
from safetensors.torch import load_file
from torch import Tensor

from hft_ray.config.keys import nested

STAGES = (0, 1, 2, 3)
HALF, FULL = 6, 12
"""Steps of one round and of a run of two rounds."""
RESUMED = 8
"""The step that such runs write a checkpoint at, to go on with from another number of ranks."""
TIMED = ("cost/", "system/", "train/tokens", "train/trained_tokens")
"""Beginnings of the metrics that tell time or memory, of which no two runs have the same."""
UNASKED: dict[str, Any] = {"evaluation.task": []}
"""Where nothing looks at answers: generating them takes longer than the other evaluations."""
_PAIRS = "package:hft_ray/demo/data/preference_test.jsonl"
PAIRS: dict[str, Any] = UNASKED | {
    "method": {"kind": "dpo", "beta": 0.5},
    "data.train": _PAIRS,
    "data.limit": 20,
    "training.learning_rate": 3e-4,
}
STAGED: dict[str, Any] = UNASKED | {
    "stages": ["sft", {"kind": "dpo", "beta": 0.5, "steps": 5, "learning_rate": 3e-4}],
    "data.preferences": _PAIRS,
    "selection.reselect": "task",
}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return FILE ``base`` with dotted ``changes``."""
    result = json.loads(json.dumps(base))
    for section, value in nested(changes).items():
        if isinstance(value, dict) and isinstance(result.get(section), dict):
            result[section] |= value
        else:
            result[section] = value
    return result


def common_cases() -> dict[str, dict[str, Any]]:
    """Return the cases that run on one rank and on two: name -> changes of FILE."""
    cases: dict[str, dict[str, Any]] = {}
    for stage in STAGES:
        two_rounds = {"training.zero_stage": stage, "selection.reselect": HALF}
        cases[f"zero{stage}"] = two_rounds | {"training.steps": FULL}
        half = two_rounds | {"training.steps": HALF}
        cases[f"zero{stage}-half"] = half | UNASKED
        cases[f"zero{stage}-passes"] = half | UNASKED | {"training.micro_batch_size": 1}
        if stage in (0, 3):
            cases[f"zero{stage}-padded"] = half | UNASKED | {"data.packing": False}
        cases[f"zero{stage}-carry"] = two_rounds | {
            "training.steps": FULL,
            "training.moments": "keep_selected",
            "training.checkpoint_every": RESUMED,
        }
        short = UNASKED | {
            "training.zero_stage": stage,
            "training.steps": 6,
            "selection.reselect": 2,
        }
        cases[f"zero{stage}-leaving"] = short | {
            "selection.on_deselect": "reset",
            "training.moments": "keep_all",
        }
        if stage:
            cases[f"zero{stage}-offload"] = cases[f"zero{stage}-leaving"] | {
                "training.offload": "optimizer"
            }
        cases[f"zero{stage}-drift"] = short | {"selection.strategy": "least_drifted"}
        if stage < 3:
            cases[f"zero{stage}-gradient"] = short | {"selection.strategy": "gradient"}
    cases["bf16-leaving"] = short | {
        "training.zero_stage": 1,
        "training.precision": "bf16",
        "training.moments": "keep_all",
        "selection.on_deselect": "reset",
    }
    for stage in (1, 3):
        cases[f"bf16-{stage}"] = UNASKED | {
            "training.zero_stage": stage,
            "training.steps": 6,
            "training.precision": "bf16",
        }
    for stage in STAGES:
        cases[f"lean-{stage}"] = UNASKED | {
            "training.zero_stage": stage,
            "training.steps": 6,
            "training.precision": "bf16",
            "training.optimizer_states": "bf16",
            "training.adam_betas": [0.9, 0.99],
        }
    for stage in (0, 3):
        cases[f"diverging-{stage}"] = UNASKED | {
            "training.zero_stage": stage,
            "training.learning_rate": 1e30,
            "training.steps": 6,
        }
    variants = {
        "training.steps": 12,
        "selection.reselect": 6,
        "training.checkpoint_every": 4,
        "evaluation.every": 4,
        "extras": {"averages": [0.3, 0.7]},
    }
    for stage in (0, 3):
        cases[f"variants-{stage}"] = variants | {"training.zero_stage": stage}
    cases["variants-bf16"] = variants | {"training.zero_stage": 2, "training.precision": "bf16"}
    cases["variants-again"] = variants | {"training.zero_stage": 0, "stop_at": 9, "again": True}
    for stage in STAGES:
        cases[f"dpo-{stage}"] = PAIRS | {"training.zero_stage": stage}
    cases["dpo-padded"] = cases["dpo-2"] | {"data.packing": False}
    cases["offload-passes"] = cases["zero2-passes"] | {"training.offload": "optimizer"}
    for stage in (0, 3):
        cases[f"stages-{stage}"] = STAGED | {"training.zero_stage": stage}
        cases[f"stages-{stage}-again"] = cases[f"stages-{stage}"] | {
            "training.checkpoint_every": 6,
            "stop_at": 7,
            "again": True,
        }
    cases["tied"] = {"model": "tied", "training.zero_stage": 3}
    return cases


def single_cases() -> dict[str, dict[str, Any]]:
    """Return the cases of one rank alone."""
    frozen = UNASKED | {
        "training.steps": 4,
        "selection.embeddings": "frozen",
        "training.zero_stage": 2,
    }
    redrawn = UNASKED | {"training.steps": 7, "selection.reselect": 3}
    two_rounds = {"training.zero_stage": 2, "selection.reselect": HALF, "training.steps": FULL}
    return {
        "accumulated": UNASKED | two_rounds | {"training.micro_batch_size": 4},
        "again": two_rounds,
        "other-seed": UNASKED | {"training.seed": 1, "selection.seed": 1},
        "never": {"training.steps": 7},
        "epoch": UNASKED
        | {"training.epochs": 2.5, "training.steps": None, "selection.reselect": "epoch"},
        "every-3": redrawn,
        "checkpointing-off": frozen,
        "checkpointing-on": frozen | {"training.gradient_checkpointing": True},
        "rewarmed": redrawn | {"training.rewarmup": 2},
        "unaudited": redrawn | {"selection.audit": False},
        "stopped": UNASKED | {"training.steps": 7, "stop_at": 3},
        "sparse-log": UNASKED | {"training.steps": 7, "training.log_every": 3},
        "dpo-accumulated": PAIRS | {"training.micro_batch_size": 2},
        "dpo-gradient": PAIRS | {"selection.strategy": "gradient"},
        "everything": UNASKED | {"selection.ratio": 1.0},
    }


@dataclass(frozen=True)
class Runs:
    """What the cases of one number of ranks came to."""

    folder: Path
    files: dict[str, dict[str, Any]]
    results: dict[str, Any]

    def losses(self, case: str) -> list[float]:
        return self.results[case]["losses"]

    def outcome(self, case: str) -> dict[str, Any]:
        return self.results[case]["outcome"]

    def weights(self, case: str) -> dict[str, Tensor]:
        return load_file(self.folder / case / "model.safetensors")


def start(jobs: Jobs, folder: Path, cases: dict[str, dict[str, Any]], ranks: int = 1) -> Runs:
    """Run cases in forked processes, as many as there are ranks."""
    arguments = {"cases": cases, "out": str(folder)}
    name = f"runs-{ranks}"
    job = {"name": name, "ranks": ranks, "do": "training_worker.run_cases", "with": arguments}
    done = jobs.run(folder, [job])
    assert done.codes(name) == [0] * ranks, done.log(name)
    return Runs(folder, cases, done.result(name))
