"""Scoring finished models on the evaluation section of FILE, without training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hft_ray.config import Config, ConfigError, Model, Problem
from hft_ray.evaluation import Scores, metric_estimates
from hft_ray.training.causal import require_causal
from hft_ray.training.models import load_model
from hft_ray.training.numerics import Numerics
from hft_ray.training.vocabulary import evaluation_problems
from hft_ray.training.workspace import Workspace


@dataclass(frozen=True)
class Evaluated:
    """What a model scores.

    Attributes:
        scores: Its scores.
        base: Scores of the base on the same items; None without a base.
    """

    scores: Scores
    base: Scores | None

    def to_json(self) -> dict[str, Any]:
        """Return ``scores``, and with a base ``forgetting`` and ``retention``, each by name.

        A mean of what was forgotten is there where the scores have one unit; the retention of what
        the base is not able to do is not.
        """
        content: dict[str, Any] = {
            "scores": {
                name: {
                    "value": estimate["value"],
                    "stderr": estimate["stderr"],
                    "interval": estimate["interval"],
                    "n": score.n,
                    "metric": score.metric,
                }
                for part in (self.scores.task, self.scores.general)
                for name, score in part.items()
                for estimate in [score.estimate.to_json()]
            }
        }
        if self.base is not None:
            found = metric_estimates(self.scores, self.base)
            for part in ("forgetting", "retention"):
                content[part] = {
                    name.removeprefix(f"{part}/"): each.to_json()
                    for name, each in found.items()
                    if name.startswith(f"{part}/")
                }
        return content


def evaluate(config: Config, workspace: Workspace, name: str, base: str | None) -> Evaluated:
    """Score a model and its base (a collective); what was scored before is taken from the store.

    Args:
        config: FILE; its model's name is not used.
        workspace: Where to run.
        name: The model: a Hugging Face directory, a GGUF file, ``package:...`` or a hub name.
        base: What it was tuned from, alike. Taken for none when its weights are the model's.

    Raises:
        ConfigError: A model or the data of an evaluation is wrong, or there is no evaluation.
    """
    if not [*config.scored.places()]:
        problem = "names no evaluation: list what to score under task or general"
        raise ConfigError(Problem("evaluation", problem))
    tuned = _model(config, name)
    with _called("MODEL", name):
        weights = workspace.weights_hash(tuned)
    found: Scores | None = None
    key: str | None = None
    if base is not None:
        with _called("BASE", base):
            if workspace.weights_hash(_model(config, base)) != weights:
                key, found = _score(config, workspace, _model(config, base), None, None)
    with _called("MODEL", name):
        return Evaluated(_score(config, workspace, tuned, key, found)[1], found)


def _model(config: Config, name: str) -> Model:
    return config.model.model_copy(update={"name": name, "revision": None, "architecture": None})


@contextmanager
def _called(what: str, name: str) -> Iterator[None]:
    """Name problems of the model by what the user calls it."""
    try:
        yield
    except ConfigError as error:
        problems = [
            Problem(what, each.message, name) if each.path.startswith("model.") else each
            for each in error.problems
        ]
        raise ConfigError(problems) from error


def _score(
    config: Config, workspace: Workspace, model: Model, base_key: str | None, base: Scores | None
) -> tuple[str, Scores]:
    """Return the key of a model's scores and the scores, from the store or made and kept."""
    numerics = Numerics.of(config.training, workspace.device)
    store, ranks = workspace.base_scores(), workspace.ranks
    weights = workspace.weights_hash(model)
    key = store.key(weights, config.scored, str(numerics.dtype), base_key)
    scores = ranks.broadcast(store.get(key) if ranks.main else None)
    if scores is None:
        shape, tokenizer = workspace.shape(model), workspace.tokenizer(model)
        suite = workspace.suite(model, config.scored)
        if problems := list(evaluation_problems(config.scored.places(), tokenizer, shape)):
            raise ConfigError(problems)
        chosen, source = workspace.pinned(model), workspace.source(model)
        loaded: Any = load_model(chosen, source, numerics.dtype)
        loaded = loaded.to(numerics.device)
        require_causal(loaded, model.name)
        scores = suite.score(loaded, ranks, base)
        if ranks.main:
            store.put(key, scores)
    return key, scores
