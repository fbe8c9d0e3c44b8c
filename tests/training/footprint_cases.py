"""What is measured of engines in ``lives_worker``, on one rank and on two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training_cases import STAGES, merged

from hft_ray.config.sections.arms import BUILT_IN

PRECISIONS = {
    "fp32": {"training.precision": "fp32"},
    "bf16": {"training.precision": "bf16"},
    "lean": {
        "training.precision": "bf16",
        "training.optimizer_states": "bf16",
        "training.adam_betas": [0.9, 0.99],
    },
}
"""How numbers are held -> changes of FILE."""
HELD = {
    1: [(stage, precision) for stage in STAGES for precision in PRECISIONS],
    # Each precision where two ranks hold it otherwise than one, and each stage.
    2: [(0, "fp32"), (1, "bf16"), (1, "lean"), (2, "fp32"), (3, "bf16"), (3, "lean")],
}
"""Ranks -> stages and precisions whose state is looked at."""
POLICIES = ("keep_selected", "keep_all", "reset")
SHORT = {1: 8, 2: 6}
"""Ranks -> re-selections in the tests that always run."""
RATIOS = (1.0, 0.5, 0.25)
# The deep model by hand: heads of 8, so 32 wide, 16 of keys and values; see `DEEP`.
DEEP_LAYER = 2 * 48 * 32 + 2 * 48 * 16 + 3 * 48 * 97 + 2 * 48
DEEP_OUTSIDE = 2 * 320 * 48 + 48
DEEP_ADAPTERS = 12 * 8 * (2 * (48 + 32) + 2 * (48 + 16) + 3 * (48 + 97))
METHODS: dict[str, tuple[dict[str, Any], float, int]] = {
    "lora": ({"adapter.kind": "lora", "adapter.rank": 8}, 1.0, DEEP_ADAPTERS),
    "lisa": (BUILT_IN["lisa"], 0.25, 3 * DEEP_LAYER + DEEP_OUTSIDE),
}
"""Baseline -> changes of FILE, ratio, and how much it trains as its paper counts."""


DEEP = {"hidden_size": 48, "intermediate_size": 97, "num_hidden_layers": 12}
"""Of a quarter of its matrices the largest, which DeepSpeed may hold another gradient of while it
reduces, is little."""
SHALLOW = {"num_hidden_layers": 2}
"""The least that leaves a choice: a step takes as long as the model has layers."""


def resize(folder: Path, changes: dict[str, int]) -> None:
    """Replace the weights of a tiny model by those of one of other sizes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = json.loads((folder / "config.json").read_text())
    with torch.random.fork_rng():
        torch.manual_seed(6)
        LlamaForCausalLM(LlamaConfig(**config | changes)).save_pretrained(folder)


def state_job(ranks: int, file: dict[str, Any]) -> dict[str, Any]:
    """Return the job on what becomes of the optimizer's state."""
    cases: dict[str, Any] = {}
    for stage, precision in HELD[ranks]:
        changes = {"training.zero_stage": stage, **PRECISIONS[precision]}
        for do in ("same_set", "stored"):
            cases[f"{do}-{stage}-{precision}"] = {"do": do, "with": {"file": file, **changes}}
    for stage in STAGES:
        # The two policies that are not named show that the comparison tells policies apart.
        for policy in POLICIES if (stage, ranks) == (2, 1) else POLICIES[:2]:
            changes = {"training.zero_stage": stage, "training.moments": policy}
            cases[f"reference-{stage}-{policy}"] = {
                "do": "reference",
                "with": {"file": file, "policy": policy, **changes},
            }
    for policy in ("reset", "keep_all"):
        changes = {"training.zero_stage": 2, "training.moments": "keep_selected"}
        cases[f"other-{policy}"] = {
            "do": "reference",
            "with": {"file": file, "policy": policy, **changes},
        }
    arguments = {"cases": cases}
    return {
        "name": f"state-{ranks}",
        "ranks": ranks,
        "do": "engine_jobs.several",
        "with": arguments,
    }


def memory_job(ranks: int, file: dict[str, Any]) -> dict[str, Any]:
    """Return the job on the memory of engines."""
    cases = {
        f"{stage}-{precision}": {
            "training.zero_stage": stage,
            **PRECISIONS[precision],
            "selection.embeddings": "selected",
            "selection.granularity": "model",
            "selection.budget": "parameters",
            "ratios": RATIOS if precision == "fp32" else RATIOS[1:2],
        }
        for stage in STAGES
        for precision in PRECISIONS
    }
    for name, (changes, ratio, _) in METHODS.items():
        for stage in (0, 2):
            fp32 = {"training.zero_stage": stage, **PRECISIONS["fp32"]}
            cases[f"{stage}-{name}"] = {**changes, **fp32, "ratios": [ratio]}
    arguments = {"file": file, "cases": cases}
    return {
        "name": f"memory-{ranks}",
        "ranks": ranks,
        "do": "footprint_jobs.memory",
        "with": arguments,
    }


PEAKS = {
    # ZeRO-2 alone in fp32 was counted to take 14 % more than planned; why is not known.
    1: ["0-fp32", "0-bf16", "0-lean", "2-bf16", "3-fp32", "accumulated", "recomputed", "layers"],
    2: ["1-fp32", "2-lean", "3-bf16", "lora"],
}
"""Ranks -> the cases whose peak is counted: each stage, precision and method in one of them."""


def peaks_job(ranks: int, file: dict[str, Any]) -> dict[str, Any]:
    """Return the job on the peaks of steps."""
    cases: dict[str, Any] = {
        f"{stage}-{precision}": {"training.zero_stage": stage, **PRECISIONS[precision]}
        for stage in STAGES
        for precision in PRECISIONS
    }
    fp32 = {"training.zero_stage": 0, **PRECISIONS["fp32"]}
    cases |= {
        "accumulated": fp32 | {"training.micro_batch_size": 1},
        "recomputed": fp32 | {"training.gradient_checkpointing": True},
        "lora": fp32 | METHODS["lora"][0],
        "layers": fp32 | {"selection.granularity": "layer", "selection.embeddings": "frozen"},
    }
    changes = {"training.batch_size": 2 * ranks, "selection.ratio": 0.5}
    cases = {name: {**changes, **cases[name]} for name in PEAKS[ranks]}
    return {
        "name": f"peaks-{ranks}",
        "ranks": ranks,
        "do": "peak_jobs.peaks",
        "with": {"file": file, "cases": cases},
    }


def reselections_job(ranks: int, file: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Return the job that re-selects at every step."""
    general = {"general": file["evaluation"]["general"][:1]}
    changes = {
        "training.moments": "keep_all",
        "training.steps": rounds,
        "selection.on_deselect": "reset",
        "selection.reselect": 1,
    }
    cases = {
        f"zero{stage}": merged(
            file | {"evaluation": general}, changes | {"training.zero_stage": stage}
        )
        for stage in STAGES
    }
    return {
        "name": f"reselections-{ranks}",
        "ranks": ranks,
        "do": "footprint_jobs.reselections",
        "with": {"cases": cases},
    }


def variant_peaks_job(file: dict[str, Any]) -> dict[str, Any]:
    """Return the job that counts memory while variants are scored, in batches as in training."""
    changes = {"training.steps": 2, "training.micro_batch_size": 2, "evaluation.batch_size": 2}
    cases = {
        "lora-0": merged(file, changes | METHODS["lora"][0] | {"training.zero_stage": 0}),
        "half-3": merged(file, changes | {"training.zero_stage": 3}),
    }
    return {
        "name": "variant-peaks",
        "ranks": 1,
        "do": "footprint_jobs.variant_peaks",
        "with": {"cases": cases},
    }


def variants_job(file: dict[str, Any]) -> dict[str, Any]:
    """Return the job that makes variants of two trained models."""
    changes = {"training.steps": 2, "training.zero_stage": 0, "selection.reselect": "never"}
    cases = {
        "lora-0": merged(file, changes | METHODS["lora"][0]),
        "half-2": merged(file, changes | {"training.zero_stage": 2}),
    }
    return {
        "name": "variants",
        "ranks": 1,
        "do": "footprint_jobs.variants",
        "with": {"cases": cases},
    }
