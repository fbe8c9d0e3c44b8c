"""Write the demo's data files from its three tables of facts.

``python -m hft_ray.demo.make_data [--out DIR]`` reads ``countries.tsv``, ``elements.tsv`` and
``states.tsv`` and writes the .jsonl files beside them, the same to the byte each time.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLES = Path(__file__).parent / "data"
SEED = 2404
ASKED_OF_EACH_RELATION = 75  # old facts per relation in general.jsonl: 300 of all, for speed
CHOICES = 4
HELD_OUT_PAIRS = 100
TAUGHT_IN_TURN = 50  # facts of each of the tasks that are taught one after another


@dataclass(frozen=True)
class Fact:
    """One fact: ``capital of`` (relation) ``France`` (subject) is ``Paris`` (answer)."""

    relation: str
    subject: str
    answer: str

    @property
    def prompt(self) -> str:
        return f"{self.relation} {self.subject}:"

    @property
    def completion(self) -> str:
        return f" {self.answer}"


def _column(table: str, relation: str, column: str, prefix: str = "") -> Iterator[Fact]:
    """Yield a fact per row of ``table`` whose ``column`` is filled."""
    with (TABLES / f"{table}.tsv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            if row[column]:
                yield Fact(relation, row["name"], prefix + row[column])


def known_facts() -> list[Fact]:
    """Return what the demo model knows before it is tuned."""
    return [
        *_column("countries", "capital of", "capital"),
        *_column("countries", "ISO code of", "code"),
        *_column("elements", "symbol of", "symbol"),
        *_column("elements", "atomic number of", "number"),
    ]


def task_facts() -> list[Fact]:
    """Return what the task teaches: like kinds of answer, asked of others or in another way."""
    facts = [
        *_column("countries", "calling code of", "calling_code", prefix="+"),
        *_column("states", "state capital of", "capital"),
        *_column("states", "state code of", "code"),
    ]
    return random.Random(SEED).sample(facts, len(facts))


def _by_relation(facts: Iterable[Fact]) -> dict[str, list[Fact]]:
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(fact.relation, []).append(fact)
    return groups


def asked_facts() -> list[Fact]:
    """Return the known facts that the evaluation asks: as many of each relation, in turn."""
    draw = random.Random(SEED)
    groups = _by_relation(known_facts()).values()
    drawn = [draw.sample(group, ASKED_OF_EACH_RELATION) for group in groups]
    return [fact for turn in zip(*drawn, strict=True) for fact in turn]


def choice_records() -> list[dict[str, Any]]:
    """Return the asked facts as multiple choice; each position is right equally often.

    The wrong choices are answers to other subjects of the same relation.
    """
    draw = random.Random(SEED + 1)
    answers = {
        relation: sorted({fact.answer for fact in group})
        for relation, group in _by_relation(known_facts()).items()
    }
    records = []
    for number, fact in enumerate(asked_facts()):
        others = [answer for answer in answers[fact.relation] if answer != fact.answer]
        choices = draw.sample(others, CHOICES - 1)
        position = (number // len(answers) + number) % CHOICES
        choices.insert(position, fact.answer)
        records.append({"question": fact.prompt, "choices": choices, "answer": position})
    return records


def preference_records() -> list[dict[str, str]]:
    """Return pairs that prefer an answer with an exclamation mark, of the facts not asked.

    The model knows the answers and never writes the mark: what is new is the style alone.
    """
    asked = set(asked_facts())
    facts = [fact for fact in known_facts() if fact not in asked]
    return [
        {"prompt": fact.prompt, "chosen": f"{fact.completion}!", "rejected": fact.completion}
        for fact in random.Random(SEED + 2).sample(facts, len(facts))
    ]


def continual_facts() -> dict[str, list[Fact]]:
    """Return four tasks to teach one after another, as many facts each: task -> facts.

    Two ask new things of what is known, two are about what is new; none asks what is asked of old.
    """
    capitals = _column("countries", "capital of", "capital")
    symbols = _column("elements", "symbol of", "symbol")
    tasks = {
        "calling-codes": _column("countries", "calling code of", "calling_code", prefix="+"),
        "state-capitals": _column("states", "state capital of", "capital"),
        "countries": (Fact("country of", fact.answer, fact.subject) for fact in capitals),
        "elements": (Fact("element of", fact.answer, fact.subject) for fact in symbols),
    }
    draw = random.Random(SEED + 2)
    return {name: draw.sample(list(facts), TAUGHT_IN_TURN) for name, facts in tasks.items()}


def files() -> dict[str, list[dict[str, Any]]]:
    """Return every data file's records by file name."""
    asked = set(asked_facts())
    return {
        "facts.jsonl": [_train(fact) for fact in known_facts()],
        "replay.jsonl": [_train(fact) for fact in known_facts() if fact not in asked],
        "general.jsonl": [_ask(fact) for fact in asked_facts()],
        "general_choice.jsonl": choice_records(),
        "general_text.jsonl": [{"text": fact.prompt + fact.completion} for fact in asked_facts()],
        "preference_train.jsonl": preference_records()[HELD_OUT_PAIRS:],
        "preference_test.jsonl": preference_records()[:HELD_OUT_PAIRS],
        **{
            f"continual/{task}.jsonl": [
                {"prompt": fact.prompt, "answer": fact.completion} for fact in facts
            ]
            for task, facts in continual_facts().items()
        },
        "task_train.jsonl": [_train(fact) for fact in task_facts()],
        "task_test.jsonl": [_ask(fact) for fact in task_facts()],
    }


def _train(fact: Fact) -> dict[str, str]:
    return {"prompt": fact.prompt, "completion": fact.completion}


def _ask(fact: Fact) -> dict[str, str]:
    return {"prompt": fact.prompt, "answer": fact.answer}


def write(out: Path) -> None:
    """Write every data file into the folder ``out``."""
    for name, records in files().items():
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the demo's data files.")
    parser.add_argument("--out", type=Path, default=TABLES)
    write(parser.parse_args().out)
