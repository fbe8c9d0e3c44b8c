"""The demo's data and the search spaces that ship with the project."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml

from hft_ray.config import Config
from hft_ray.config.load import load
from hft_ray.demo import make_data
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace, check
from hft_ray.training.methods import known_sequences
from hft_ray.training.plan import plan

ROOT = Path(__file__).parents[2]
DATA = make_data.TABLES
NEEDS_DOWNLOADS = ("smollm2", "metamathqa_llama3.2_3b")
"""Search spaces whose models or data do not ship with the project."""
FIELDS = {
    "facts.jsonl": {"prompt": str, "completion": str},
    "preference_train.jsonl": {"prompt": str, "chosen": str, "rejected": str},
    "preference_test.jsonl": {"prompt": str, "chosen": str, "rejected": str},
    "task_train.jsonl": {"prompt": str, "completion": str},
    "task_test.jsonl": {"prompt": str, "answer": str},
    "replay.jsonl": {"prompt": str, "completion": str},
    "general.jsonl": {"prompt": str, "answer": str},
    "general_choice.jsonl": {"question": str, "choices": list, "answer": int},
    "general_text.jsonl": {"text": str},
    **{
        f"continual/{task}.jsonl": {"prompt": str, "answer": str}
        for task in ("calling-codes", "state-capitals", "countries", "elements")
    },
}


def records(name):
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def table(name):
    with (DATA / f"{name}.tsv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def test_the_script_writes_the_shipped_files(tmp_path):
    make_data.write(tmp_path)
    written = contents(tmp_path)
    assert written == contents(DATA)
    assert set(written) == set(FIELDS)


def test_what_is_replayed_is_known_and_never_asked():
    facts, asked = records("facts.jsonl"), {each["prompt"] for each in records("general.jsonl")}
    assert records("replay.jsonl") == [each for each in facts if each["prompt"] not in asked]
    assert len(facts) == len(asked) + len(records("replay.jsonl"))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jsonl")}


@pytest.mark.parametrize("name", FIELDS)
def test_records_have_their_fields(name):
    for record in records(name):
        assert {key: type(value) for key, value in record.items()} == FIELDS[name]
        assert all(value == 0 or value for value in record.values())


@pytest.mark.parametrize("name", ["facts.jsonl", "task_train.jsonl"])
def test_completions_begin_with_a_space_and_prompts_end_with_a_colon(name):
    for record in records(name):
        assert record["prompt"].endswith(":")
        assert record["completion"] == " " + record["completion"].strip()


def test_no_question_has_two_answers_and_the_task_is_new():
    old = [record["prompt"] for record in records("facts.jsonl")]
    new = [record["prompt"] for record in records("task_train.jsonl")]
    assert max(Counter(old + new).values()) == 1
    assert len(old) >= 600
    assert len(new) >= 250


def test_evaluations_ask_what_was_taught():
    for taught, asked, count in [
        ("facts.jsonl", "general.jsonl", 300),
        ("task_train.jsonl", "task_test.jsonl", 299),
    ]:
        answers = {record["prompt"]: record["completion"] for record in records(taught)}
        questions = records(asked)
        assert len(questions) == count
        assert all(answers[each["prompt"]] == " " + each["answer"] for each in questions)


def test_general_evaluations_ask_every_relation_equally_from_the_start():
    for count in (40, 300):
        asked = records("general.jsonl")[:count]
        relations = Counter(record["prompt"].split(" of ")[0] for record in asked)
        assert set(relations.values()) == {count // 4}


def test_multiple_choice_is_balanced_and_has_one_right_answer():
    facts = {record["prompt"]: record["completion"].strip() for record in records("facts.jsonl")}
    questions = records("general_choice.jsonl")
    assert set(Counter(record["answer"] for record in questions).values()) == {75}
    for record in questions:
        assert len(set(record["choices"])) == 4
        right = facts[record["question"]]
        assert record["choices"].index(right) == record["answer"]


def test_the_tables_of_facts_are_consistent():
    elements = table("elements")
    assert [int(row["number"]) for row in elements] == list(range(1, 119))
    assert len({row["symbol"] for row in elements}) == 118
    countries = table("countries")
    assert len({row["code"] for row in countries}) == len(countries) > 200
    states = table("states")
    assert len({row["code"] for row in states}) == len({row["capital"] for row in states}) == 50


SPACES = sorted(path.stem for path in (ROOT / "search_spaces").glob("*.yaml"))


@pytest.mark.parametrize("name", SPACES)
def test_search_spaces_are_named_as_their_files(name):
    assert load(ROOT / "search_spaces" / f"{name}.yaml").name.replace("-", "_") == name


@pytest.mark.parametrize("name", [name for name in SPACES if name not in NEEDS_DOWNLOADS])
def test_every_search_space_can_be_planned(name, tmp_path):
    workspace = Workspace(tmp_path, Ranks(), torch.device("cpu"))
    config = load(ROOT / "search_spaces" / f"{name}.yaml")
    trusted = check(config, workspace, name, trust_hub=True)
    planned = plan(config, workspace, known_sequences(config))
    assert planned["model"]["parameters"] > 0
    assert planned["selection"]
    # What is not on a hub ships with the project.
    assert all("package:" not in each for each in trusted)


def test_the_demo_has_full_fine_tuning_and_enough_trials():
    text = (ROOT / "search_spaces" / "demo.yaml").read_text(encoding="utf-8")
    search = Config.model_validate(yaml.safe_load(text)).search
    assert search.trials >= 12
    assert any(trial["selection.ratio"] == 1.0 for trial in search.first)
    assert {"selection.ratio", "selection.granularity", "selection.reselect"} <= set(search.space)
