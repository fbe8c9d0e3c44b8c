"""Earlier names of settings are refused, and the message has the new one."""

from copy import deepcopy

import pytest

from hft_ray.config import ConfigError
from hft_ray.config.keys import known_keys, place
from hft_ray.config.load import validate
from hft_ray.config.renamed import KEYS, VALUES

FILE = {"name": "s", "model": {"name": "m"}, "data": {"train": "t.jsonl"}}
SEARCH = {"space": {"selection.ratio": {"low": 0.1, "high": 1.0}}, "trials": 4}
TASK = {"name": "a", "evaluation": [{"name": "e", "kind": "generation", "data": "d.jsonl"}]}


def problems(raw):
    with pytest.raises(ConfigError) as caught:
        validate(raw, "f.yaml")
    return {each.path: each.message for each in caught.value.problems}


@pytest.mark.parametrize("key", [key for key in KEYS if not key.startswith("tasks")])
def test_an_earlier_key_is_refused_with_the_new_one(key):
    raw = deepcopy(FILE | ({"search": SEARCH} if key.startswith("search") else {}))
    place(raw, key, "anything")
    assert KEYS[key] in problems(raw)[key]


def test_an_earlier_key_of_a_task_is_refused_with_the_new_one():
    task = TASK | {"data": {"train": "t.jsonl", "limit": 4, "draw": 1}}
    raw = {"name": "s", "model": "m", "method": "continual", "data": {}, "tasks": [task]}
    assert "subset_seed" in problems(raw)["tasks.0.data.draw"]


@pytest.mark.parametrize(
    ("key", "old", "new"), [(key, *pair) for key in VALUES for pair in VALUES[key].items()]
)
def test_an_earlier_value_is_refused_with_the_new_one(key, old, new):
    section, _, setting = key.partition(".")
    assert new in problems(FILE | {section: {setting: old}})[key]
    space = {key: [old, "reset" if "moments" in key else "random"]}
    found = problems(FILE | {"search": SEARCH | {"space": space}})
    assert new in found[f"search.space.{key}"]


def test_an_earlier_key_is_refused_in_the_space_and_in_first():
    space = {"selection.leaving": ["keep", "reset"]}
    first = [{"data.draw": 1}]
    found = problems(FILE | {"search": SEARCH | {"space": space, "first": first}})
    assert "on_deselect" in found["search.space.selection.leaving"]
    assert "subset_seed" in found["search.first.0.data.draw"]


def test_the_new_names_are_settings():
    known = known_keys()
    for key, new in KEYS.items():
        section = key.rpartition(".")[0]
        if not key.startswith("tasks"):
            assert f"{section}.{new.partition(':')[0]}" in known
