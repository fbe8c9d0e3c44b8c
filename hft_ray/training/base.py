"""The scores of the untouched model: made once per weights and evaluations, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from hft_ray.config import Config
from hft_ray.evaluation import Scores, best_values, metric_errors
from hft_ray.ranks import Ranks
from hft_ray.selection import draw
from hft_ray.training.engine import Engine
from hft_ray.training.numerics import Numerics
from hft_ray.training.scoring import (
    base_items,
    base_values,
    refuse_unable,
    tell_unable,
    worst_of,
)
from hft_ray.training.workspace import Workspace


def run_base(config: Config, workspace: Workspace, items: Path | None = None) -> dict[str, Any]:
    """Score the untouched model (a collective), or take its scores from the store.

    Args:
        config: FILE.
        workspace: Where to run.
        items: File to write the scores of single items to, if they are kept.

    Returns:
        Metric -> value each: ``values``; ``worst``, the worst sensible ones; ``best``, those that
        cannot be surpassed, where there is one.

    Raises:
        ConfigError: An objective or a constraint is not defined for this model.
    """
    scores = known_base(config, workspace)
    if scores is None:
        numerics = Numerics.of(config.training, workspace.device)
        ranks = run_ranks(config, workspace)
        with workspace.model(config, numerics) as model:
            engine = Engine(model, config.training, numerics, ranks)
            try:
                engine.attach(draw(workspace.catalog(config.model), config.selection, 0))
                scores = score_base(config, workspace, engine.forward_model, ranks)
            finally:
                engine.close()
    refuse_unable(config, scores)
    if workspace.ranks.main:
        tell_unable(scores)
        if items is not None:
            base_items(config, scores).write(items)
    return {
        "values": {**base_values(config, scores), **metric_errors(scores, scores)},
        "worst": worst_of(config, scores),
        "best": best_values(scores),
    }


def _base_key(config: Config, workspace: Workspace) -> str:
    numerics = Numerics.of(config.training, workspace.device)
    weights = workspace.weights_hash(config.model)
    how = str(numerics.dtype) + " liger" * config.model.use_liger_kernel
    return workspace.base_scores().key(weights, config.scored, how)


def known_base(config: Config, workspace: Workspace) -> Scores | None:
    """Return the stored scores of the base, the same answer on every rank."""
    found = None
    if workspace.ranks.main:
        found = workspace.base_scores().get(_base_key(config, workspace))
    return workspace.ranks.broadcast(found)


def score_base(config: Config, workspace: Workspace, model: nn.Module, ranks: Ranks) -> Scores:
    """Score ``model``, which must still be untouched, and store the scores (a collective)."""
    scores = workspace.suite(config.model, config.scored).score(model, ranks)
    if ranks.main:
        workspace.base_scores().put(_base_key(config, workspace), scores)
    return scores


def run_ranks(config: Config, workspace: Workspace) -> Ranks:
    """Return the ranks, in lockstep where a forward pass needs all of them."""
    ranks = workspace.ranks
    return Ranks(ranks.rank, ranks.size, config.training.zero_stage == 3 and ranks.size > 1)
