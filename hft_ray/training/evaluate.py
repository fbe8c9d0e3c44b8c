"""Scoring finished models on the evaluation section of FILE, without training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from hft_ray.config import Config, ConfigError, Problem, check_all
from hft_ray.evaluation import Scores, Suite, check_evaluation, metric_estimates
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

    Models and data are looked at before anything is scored.

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
    tuned, other = _ToScore(config, workspace, "MODEL", name), None
    if base is not None:
        other = _ToScore(config, workspace, "BASE", base)
    _check([tuned] if other is None else [tuned, other])
    if other is None or other.weights == tuned.weights:
        return Evaluated(tuned.score(None, None), None)
    before = other.score(None, None)
    return Evaluated(tuned.score(other.key(None), before), before)


def _check(models: list[_ToScore]) -> None:
    """Look at the models and at the data of their evaluations.

    Raises:
        ConfigError: Everything that is wrong, together.
    """
    problems: list[Problem] = []
    for each in models:
        try:
            each.check()
        except ConfigError as error:
            problems += error.problems
    if problems:
        # The data of an evaluation is read for each of the models.
        raise ConfigError({str(each): each for each in problems}.values())


class _ToScore:
    """A model that is to be scored on the evaluations of FILE.

    Args:
        config: FILE.
        workspace: Where to run.
        what: What the user calls it: MODEL or BASE.
        name: Its place.

    Attributes:
        weights: Hash of its weights, once it is checked.
    """

    def __init__(self, config: Config, workspace: Workspace, what: str, name: str) -> None:
        self._config, self._workspace, self._what, self._name = config, workspace, what, name
        changes = {"name": name, "revision": None, "architecture": None}
        self._model = config.model.model_copy(update=changes)
        self._numerics = Numerics.of(config.training, workspace.device)
        self.weights = ""
        self._suite: Suite | None = None

    def check(self) -> None:
        """Look at the model, its tokenizer and the data of the evaluations.

        Raises:
            ConfigError: Everything that is wrong, together.
        """
        check_all(self._check_model, self._check_data)

    def _check_model(self) -> None:
        with self._called():
            self._workspace.shape(self._model)
            self._workspace.tokenizer(self._model)
            self.weights = self._workspace.weights_hash(self._model)

    def _check_data(self) -> None:
        places = list(self._config.scored.places())
        if not self.weights:
            # Without a tokenizer data can be read, but not be encoded.
            check_all(*(partial(check_evaluation, each, path) for path, each in places))
            return
        self._suite = self._workspace.suite(self._model, self._config.scored)
        shape, tokenizer = (
            self._workspace.shape(self._model),
            self._workspace.tokenizer(self._model),
        )
        if problems := list(evaluation_problems(places, tokenizer, shape)):
            raise ConfigError(problems)

    def key(self, base: str | None) -> str:
        """Return the key of its scores against the base whose scores have the key ``base``."""
        precision = str(self._numerics.dtype)
        scored = self._config.scored
        return self._workspace.base_scores().key(self.weights, scored, precision, base)

    def score(self, base: str | None, found: Scores | None) -> Scores:
        """Return its scores, from the store or made and kept.

        Args:
            base: Key of the base's scores; None without a base.
            found: The base's scores, or None.

        Raises:
            ConfigError: Its weights cannot be loaded, or it is not causal.
        """
        key, store, ranks = self.key(base), self._workspace.base_scores(), self._workspace.ranks
        scores = ranks.broadcast(store.get(key) if ranks.main else None)
        if scores is None:
            assert self._suite is not None
            with self._called():
                scores = self._suite.score(self._load(), ranks, found)
            if ranks.main:
                store.put(key, scores)
        return scores

    def _load(self) -> Any:
        chosen, source = self._workspace.pinned(self._model), self._workspace.source(self._model)
        loaded: Any = load_model(chosen, source, self._numerics.dtype)
        loaded = loaded.to(self._numerics.device)
        require_causal(loaded, self._name)
        return loaded

    @contextmanager
    def _called(self) -> Iterator[None]:
        """Name problems of the model by what the user calls it."""
        try:
            yield
        except ConfigError as error:
            raise ConfigError(
                Problem(self._what, each.message, self._name)
                if each.path.startswith("model.")
                else each
                for each in error.problems
            ) from error
