"""Scores of two ranks, and under ZeRO-3 in lockstep (jobs of ``lives_worker``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepspeed
from evaluation_models import make_pair, moved

from hft_ray.config import EvaluationSection
from hft_ray.evaluation import Suite
from hft_ray.ranks import Ranks


def scores(ranks: Ranks, root: Path, section: str) -> dict[str, Any]:
    """Score sharded, then under ZeRO-3 in lockstep."""
    model, tokenizer = make_pair("llama")
    suite = Suite(EvaluationSection.model_validate_json(section), tokenizer)
    base, tuned = suite.score(model, ranks), moved(model)
    told = {"plain": suite.score(tuned, ranks, base).to_json()}
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    }
    engine, *_ = deepspeed.initialize(model=tuned, config=settings)
    told["partitioned"] = all(parameter.numel() == 0 for parameter in tuned.parameters())
    lockstep = Ranks(ranks.rank, ranks.size, lockstep=True)
    told["zero3"] = suite.score(engine.module, lockstep, base).to_json()
    engine.destroy()
    return told
