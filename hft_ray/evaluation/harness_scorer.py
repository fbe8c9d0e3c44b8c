"""Scores of lm-eval's tasks with the items that paired differences need.

A metric that is a mean over documents has its values as items. Any other (perplexity, corpus BLEU,
F1 over a data set) is that of its jackknife: leave out one of G groups of documents, and

    item_g = R + (G - 1) (mean over h of R_-h  -  R_-g)

has mean R, the metric itself, and the jackknife's variance (Tukey, Ann. Math. Stat. 29, 1958), also
for the difference of two models. A group of tasks weighs its documents, or its tasks, alike.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hft_ray.config import ConfigError, LmEval, Problem
from hft_ray.data import encode_text
from hft_ray.evaluation.harness import LIMITED_WORST, Harness, load_harness
from hft_ray.evaluation.score import Score
from hft_ray.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GROUPS = 100
"""Most groups of the jackknife: each costs one computation of the metric."""
GUESSED: dict[str, Callable[[int], float]] = {
    **dict.fromkeys(("acc", "acc_norm", "acc_bytes", "acc_mutual_info"), lambda k: 1 / k),
    # The sum over choices of (1 / k - 1 for the right one, else 0)^2.
    "brier_score": lambda k: 1 - 1 / k,
}
"""Metric -> what equal probabilities for k choices score, or one of them drawn."""


class HarnessScorer:
    """Runs the tasks of one evaluation.

    Raises:
        ConfigError: See ``harness.check_harness``.
    """

    def __init__(self, evaluation: LmEval, tokenizer: PreTrainedTokenizerBase, path: str) -> None:
        self._evaluation, self._tokenizer, self._path = evaluation, tokenizer, path
        self._harness = load_harness(evaluation, path)

    def sequences(self) -> list[Sequence[int]]:
        """Return the texts around its documents, whose own tokens lm-eval makes as it runs."""
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        if not self._evaluation.chat or self._tokenizer.chat_template is None:
            return [encode_text(self._tokenizer, "a")]
        text = self._tokenizer.apply_chat_template(turns, tokenize=False)
        return [encode_text(self._tokenizer, str(text))]

    def score(self, model: PreTrainedModel, batch_size: int, ranks: Ranks) -> Score:
        """Return the metric over all documents of all tasks (a collective)."""
        from lm_eval.evaluator import evaluate

        from hft_ray.evaluation.harness_model import LiveModel

        harness, chat = self._harness, self._evaluation.chat
        harness.reset()
        # Its warnings repeat with every evaluation of a run.
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        results = evaluate(
            LiveModel(model, self._tokenizer, batch_size, ranks, self._path),
            harness.loaded,
            limit=self._evaluation.limit,
            bootstrap_iters=0,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            # Asked about when the task was loaded.
            confirm_run_unsafe_code=True,
        )
        return _collect(harness, results["samples"], self._path)


def _collect(harness: Harness, samples: dict[str, list[dict[str, Any]]], path: str) -> Score:
    items: list[float] = []
    weights: list[float] = []
    count = 0
    chances: list[tuple[float, float]] = []
    worst = LIMITED_WORST.get(harness.metric, 0.0)
    for name, task in harness.tasks.items():
        values = _values(harness, samples[name], path)
        own = task_items(values, task.aggregation().get(harness.metric))
        share = len(values) if harness.weight_by_size else 1.0
        items += own
        weights += [share / len(own)] * len(own)
        count += len(values)
        chances.append((share, _chance(harness, task, samples[name], worst)))
    alike = None if len(set(weights)) == 1 else weights
    chance = sum(w * each for w, each in chances) / sum(w for w, _ in chances)
    score = Score.of(harness.metric, items, worst=worst, weights=alike, chance=chance)
    return replace(score, n=count, higher_is_better=harness.higher_is_better)


def _chance(harness: Harness, task: Any, samples: list[dict[str, Any]], worst: float) -> float:
    """Return the metric of a guess among a task's choices; of anything else the worst value.

    A task that judges the choices by code of its own is anything else: what a guess makes there is
    not known.
    """
    of_guess = GUESSED.get(harness.metric)
    own = callable(task.config.process_results)
    if of_guess is None or own or task.OUTPUT_TYPE != "multiple_choice":
        return worst
    found = [of_guess(len(task.doc_to_choice(sample["doc"]))) for sample in samples]
    return sum(found) / len(found)


def _values(harness: Harness, samples: list[dict[str, Any]], path: str) -> list[Any]:
    """Return the metric's value of every document."""
    rows = [row for row in samples if row["filter"] == harness.filter]
    values = [row[harness.metric] for row in rows if harness.metric in row["metrics"]]
    if not values:
        found = ", ".join(sorted({name for row in rows for name in row["metrics"]})) or "none"
        message = f"is not a metric of the task; it gave {found}"
        raise ConfigError(Problem(f"{path}.metric", message, harness.metric))
    return values


def task_items(values: Sequence[Any], aggregate: Callable[[Any], Any] | None) -> list[float]:
    """Return items whose mean is the metric over ``values`` (see the module)."""
    from lm_eval.api.metrics import mean

    if aggregate is None or aggregate is mean:
        return [float(value) for value in values]
    whole = float(aggregate(list(values)))
    groups = min(GROUPS, len(values))
    if groups < 2:
        return [whole]
    without = [
        float(aggregate([value for place, value in enumerate(values) if place % groups != group]))
        for group in range(groups)
    ]
    centre = sum(without) / groups
    return [whole + (groups - 1) * (centre - each) for each in without]
