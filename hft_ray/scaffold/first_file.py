"""From a model and data to a FILE that runs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hft_ray.config import Config, ConfigError, Model, Problem
from hft_ray.config.load import validate
from hft_ray.data import Record
from hft_ray.scaffold.columns import Item, Shaped, shape
from hft_ray.scaffold.file_text import Line, file_text
from hft_ray.scaffold.holdout import hold_out
from hft_ray.scaffold.machine import (
    Machine,
    Room,
    Work,
    find_room,
    learning_rates,
    trials_within,
)
from hft_ray.scaffold.source import Source
from hft_ray.scaffold.task_score import TaskScore, choose_evaluation
from hft_ray.training import Workspace
from hft_ray.training.plan import plan

_DEMO = "package:hft_ray/demo/model"
_SUITES = {
    "demo-facts": 9_000,
    "smollm2-general": 20_000,
    "common-knowledge": 60_000,
    "broad-knowledge": 150_000,
    "instructions": 15_000,
}
"""Shipped suite -> tokens that one scoring reads, about."""
FEWEST, MOST = 8, 64
"""Trials of a sweep: fewer show no front, and of more the last ones add little."""
_PIECE = 256
"""Tokens of a piece of a long text."""
_ROUNDED = 32


@dataclass(frozen=True)
class Wishes:
    """What the user may say.

    Attributes:
        name: Name of the sweep, and of FILE.
        hours: How long the sweep may take.
        keep: Suite of general evaluations; None: chosen by model and machine.
        epochs: Passes over the data.
    """

    name: str
    hours: float
    keep: str | None = None
    epochs: float = 2.0


@dataclass(frozen=True)
class FirstFile:
    """What ``hft-ray init`` writes.

    Attributes:
        text: FILE.
        files: Name -> records of the files beside it.
        summary: What was found and chosen, a line each.
    """

    text: str
    files: dict[str, list[Record]]
    summary: list[str]


def first_file(
    model: Model, source: Source, wishes: Wishes, machine: Machine, workspace: Workspace
) -> FirstFile:
    """Look at model, data and machine, and write FILE for them.

    Raises:
        ConfigError: The model or the data cannot be used, or the machine has no room.
    """
    tokenizer = workspace.tokenizer(model)
    chat = bool(tokenizer.chat_template)
    shaped = _in_pieces(shape(source.train, chat=chat), tokenizer)
    test = None if source.test is None else _in_pieces(shape(source.test, chat=chat), tokenizer)
    if test is not None and test.kind != shaped.kind:
        message = f"holds {test.kind}, and the training data {shaped.kind}"
        raise ConfigError(Problem("--test", message, source.test.name if source.test else None))
    train, held = _divide(shaped, test)
    answers = [item.answer for item in shaped.items]
    score = choose_evaluation(shaped.kind, answers, lambda text: len(tokenizer.encode(text)))
    scored = [_as_text(each, tokenizer) for each in held] if _needs_text(shaped, score) else held
    lengths = _lengths(shaped, tokenizer)
    suite = wishes.keep or _suite(model, machine)
    chosen = _Chosen(model, wishes, machine, shaped, score, suite, len(train), len(held), lengths)
    parameters = workspace.catalog(model).parameters
    room = _room(chosen, workspace)
    lines = chosen.lines(room, parameters, source.what, held_out=test is None)
    folder = f"{wishes.name}-data"
    files = {f"{folder}/train.jsonl": train, f"{folder}/test.jsonl": scored}
    head = (
        f"Written by hft-ray init for {model.name} and {source.what}.\n"
        "Every line is a first guess from the model, the data and this machine: change what you\n"
        f"know better. See what would run: hft-ray plan {wishes.name}.yaml"
    )
    summary = [
        f"data: {source.what}: {len(train)} records to train on ({shaped.how}), "
        f"{len(held)} to test",
        f"task score: {score.settings['kind']}"
        + (f", {score.settings['metric']}" if "metric" in score.settings else "")
        + f" ({score.why})",
        f"general evaluations: {suite}",
        f"machine: {room.groups} trials at a time, workers of each: {room.workers} ({room.why})",
    ]
    return FirstFile(file_text(head, lines), files, summary)


def _divide(shaped: Shaped, test: Shaped | None) -> tuple[list[Record], list[Record]]:
    """Return the records to train on, and those of the task's evaluation."""
    if test is not None:
        return shaped.records, test.scored
    prompts: list[Any] = [item.prompt for item in shaped.items] or list(shaped.records)
    trained, held = hold_out(prompts)
    if not held or not trained:
        message = "has too few records to hold out a test part; give one with --test"
        raise ConfigError(Problem("DATA", message, len(prompts)))
    return [shaped.records[n] for n in trained], [shaped.scored[n] for n in held]


def _in_pieces(shaped: Shaped, tokenizer: Any) -> Shaped:
    """Cut long texts at paragraphs, for what is beyond ``data.max_length`` is not trained."""
    if shaped.kind != "texts":
        return shaped
    pieces = [
        {"text": piece}
        for record in shaped.records
        for piece in _pieces(record["text"], lambda text: len(tokenizer.encode(text)))
    ]
    return Shaped("texts", pieces, [], pieces, shaped.how)


def _pieces(text: str, count: Any) -> list[str]:
    found: list[str] = []
    for part in (each for each in text.split("\n\n") if each.strip()):
        joined = f"{found[-1]}\n\n{part}" if found else part
        if found and count(joined) <= _PIECE:
            found[-1] = joined
        else:
            found.append(part)
    return found


def _needs_text(shaped: Shaped, score: TaskScore) -> bool:
    return score.settings["kind"] == "perplexity" and shaped.kind == "answers"


def _as_text(record: Record, tokenizer: Any) -> Record:
    prompt, answer = record["prompt"], record["answer"]
    if isinstance(prompt, str):
        return {"text": f"{prompt} {answer}"}
    turns = [*prompt, {"role": "assistant", "content": answer}]
    return {"text": tokenizer.apply_chat_template(turns, tokenize=False)}


def _lengths(shaped: Shaped, tokenizer: Any) -> list[int]:
    """Return the tokens of a record each, of at most a thousand."""
    every = max(1, len(shaped.records) // 1000)
    if shaped.items:
        chosen: Sequence[Item] = shaped.items[::every]
        return [_tokens(item.prompt, item.answer, tokenizer) for item in chosen]
    records = shaped.records[::every]
    if shaped.kind == "texts":
        return [len(tokenizer.encode(record["text"])) for record in records]
    texts = (json.dumps([record.get("prompt"), record["chosen"]]) for record in records)
    return [len(tokenizer.encode(text)) for text in texts]


def _tokens(prompt: str | list[dict[str, Any]], answer: str, tokenizer: Any) -> int:
    if isinstance(prompt, str):
        return len(tokenizer.encode(f"{prompt} {answer}")) + 1
    turns = [*prompt, {"role": "assistant", "content": answer}]
    return len(tokenizer.encode(tokenizer.apply_chat_template(turns, tokenize=False)))


def _suite(model: Model, machine: Machine) -> str:
    if model.name == _DEMO:
        return "demo-facts"
    return "common-knowledge" if machine.gpus else "smollm2-general"


@dataclass(frozen=True)
class _Chosen:
    """What is chosen before the machine is asked for room."""

    model: Model
    wishes: Wishes
    machine: Machine
    shaped: Shaped
    score: TaskScore
    suite: str
    train: int
    held: int
    lengths: list[int]

    @property
    def max_length(self) -> int:
        longest = np.quantile(self.lengths, 0.995)
        return max(_ROUNDED, _ROUNDED * math.ceil(longest / _ROUNDED))

    @property
    def batch_size(self) -> int:
        """A sixteenth of a pass over few records, 16 of many."""
        return max(4, min(16, 1 << int(math.log2(max(1, self.train / 16)))))

    def lines(self, room: Room, parameters: int, what: str, *, held_out: bool) -> list[Line]:
        """Return FILE's settings with their reasons."""
        epochs, trials, time = self._time(room, parameters)
        low, high = learning_rates(parameters)
        folder = f"{self.wishes.name}-data"
        gpu = bool(self.machine.gpus)
        every = "" if self.score.settings["kind"] != "perplexity" else ", negated"
        mixed = self.suite != "demo-facts"
        kept, way = ("retention/mean", "max") if mixed else ("forgetting/mean", "min")
        evaluation = {"name": "task", **self.score.settings, "data": f"{folder}/test.jsonl"}
        tested = f"{self.held} records" + (" held out of yours" if held_out else "")
        lines = [
            Line("name", self.wishes.name, "of the sweep; the same name continues it"),
            Line("model", self.model.name, f"{parameters:,} parameters"),
            Line("data.train", f"{folder}/train.jsonl", f"{self.train} records of {what}"),
            Line("data.max_length", self.max_length, "tokens: 995 of 1,000 records are not longer"),
            Line("training.epochs", epochs, "passes over the data"),
            Line("training.batch_size", self.batch_size, "records of an optimizer step"),
        ]
        if self.shaped.kind == "pairs":
            lines.insert(2, Line("method", "dpo", "the records are pairs of answers"))
        own = {key: x for key, x in room.settings.items() if key.startswith("training.")}
        if "training.zero_stage" not in own:
            lines.append(Line("training.zero_stage", 0, "one worker: nothing to divide"))
        lines += [Line(key, value, "makes room") for key, value in own.items()]
        return [
            *lines,
            Line("evaluation.task", [evaluation], f"{tested}; {self.score.why}"),
            Line(
                "evaluation.general",
                [self.suite],
                "what the model should keep; add what matters to you",
            ),
            Line("search.trials", trials, time),
            Line("search.objectives.task/score", "max", f"mean score of the task{every}"),
            Line(
                f"search.objectives.{kept}",
                way,
                "share of the base's ability that is left"
                if mixed
                else "points of the general score that are lost",
            ),
            Line(
                "search.space.selection.ratio",
                {"low": 0.1, "high": 1.0},
                "share of the matrices that is trained; 0.5 in the paper",
            ),
            Line(
                "search.space.selection.granularity",
                ["model", "layer", "category"],
                "what is drawn: matrices, layers, or matrices of each kind",
            ),
            Line(
                "search.space.selection.reselect",
                ["never", "epoch"],
                "whether the choice is drawn again",
            ),
            Line(
                "search.space.training.learning_rate",
                {"low": low, "high": high, "log": True},
                "a smaller share wants a higher rate",
            ),
            Line("cluster.groups", min(room.groups, trials), f"trials at a time: {room.why}"),
            Line("cluster.workers", room.workers, "workers of a trial"),
            Line("cluster.gpus_per_worker", int(gpu), "GPUs here" if gpu else "no GPU here"),
        ]

    def config(self, settings: dict[str, Any], parameters_room: Room) -> Config:
        """Return FILE with ``settings``, to ask how much memory it takes."""
        content: dict[str, Any] = {
            "name": self.wishes.name,
            "model": self.model.model_dump(exclude_defaults=True),
            "data": {"train": "train.jsonl", "max_length": self.max_length},
            "training": {"epochs": 1, "batch_size": self.batch_size, "zero_stage": 0},
            "evaluation": {"task": [{"name": "task", "kind": "perplexity", "data": "test.jsonl"}]},
            "cluster": {
                "workers": parameters_room.workers,
                "gpus_per_worker": int(bool(self.machine.gpus)),
            },
        }
        for key, value in settings.items():
            section, name = key.split(".")
            content[section][name] = value
        return validate(content, "FILE")

    def _time(self, room: Room, parameters: int) -> tuple[float, int, str]:
        """Return epochs, trials, and what was reckoned, in words."""
        mean = float(np.mean(self.lengths))
        read = self.held * mean + _SUITES.get(self.suite, 60_000)

        def seconds(epochs: float) -> float:
            trained = epochs * self.train * mean
            written = self.held * self.score.new_tokens / 2
            steps = epochs * self.train / self.batch_size
            passes = self.held / 32 * (1 + self.score.new_tokens) + 20
            work = Work(parameters, trained, read, written, steps, passes)
            return work.seconds(self.machine, room.workers)

        epochs = self.wishes.epochs
        trials = trials_within(self.wishes.hours, seconds(epochs), room.groups)
        if trials < FEWEST and epochs > 1:
            epochs = 1.0
            trials = trials_within(self.wishes.hours, seconds(epochs), room.groups)
        each = f"about {_clock(seconds(epochs))} each by arithmetic"
        if trials < FEWEST:
            whole = _clock(FEWEST * seconds(epochs) / room.groups)
            return epochs, FEWEST, f"{each}: {whole} in all, since fewer show no front"
        chosen = min(trials, MOST)
        whole = _clock(chosen * seconds(epochs) / room.groups)
        # Groups that divide the trials leave none idle at the end.
        spare = chosen % room.groups if chosen > room.groups else 0
        return epochs, chosen - spare, f"{each}: {whole} in all"


def _room(chosen: _Chosen, workspace: Workspace) -> Room:
    """Return how trials share the machine.

    Raises:
        ConfigError: It has no room for one.
    """
    needed: list[int] = []

    def memory(settings: dict[str, Any]) -> int:
        config = chosen.config(settings, Room(1, int(settings.get("cluster.workers", 1))))
        planned = plan(config, workspace, chosen.train)["memory_per_worker_bytes"]
        needed.append(sum(planned.values()))
        return needed[-1]

    room = find_room(chosen.machine, memory)
    if room is None:
        message = (
            f"a worker takes at least {min(needed) / 2**30:.1f} GiB, more than this machine has; "
            "take a smaller model, or write FILE for the cluster that will run it"
        )
        raise ConfigError(Problem("MODEL", message, chosen.model.name))
    return room


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def write(first: FirstFile, name: str, folder: Path) -> list[Path]:
    """Write FILE and the files beside it.

    Raises:
        ConfigError: One of them is there already; nothing is written then.
    """
    contents = {f"{name}.yaml": first.text}
    for file, records in first.files.items():
        contents[file] = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records)
    paths = {folder / file: text for file, text in contents.items()}
    there = [str(path) for path in paths if path.exists()]
    if there:
        message = "is there already; choose another --name or move it away"
        raise ConfigError([Problem(path, message) for path in there])
    for path, text in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(paths)
