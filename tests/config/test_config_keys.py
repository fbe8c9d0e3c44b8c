"""Dotted keys: flattening and nesting, replacing settings, what can be searched."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hft_ray.config import Config
from hft_ray.config.keys import (
    flatten,
    known_keys,
    nested,
    searchable_keys,
    searched_values,
    settings,
    with_settings,
)
from hft_ray.config.load import parse

SPACES = Path(__file__).parents[2] / "search_spaces"
RAW = {"name": "run", "model": "m", "data": {"train": "t.jsonl"}}
NAMES = st.text("abc_", min_size=1, max_size=3)
LEAVES = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
TREES = st.dictionaries(
    NAMES,
    st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3)),
    max_size=4,
)


@given(TREES)
def test_nesting_undoes_flattening(tree):
    flat = flatten(tree)
    assert nested(flat) == tree
    assert not any(isinstance(value, dict) for value in flat.values())


def test_settings_are_all_keys_with_their_defaults():
    found = settings(Config.model_validate(RAW))
    assert found["model.name"] == "m"
    assert found["selection.ratio"] == 0.5
    assert found["training.adam_betas"] == [0.9, 0.999]
    missing = set(known_keys()) - set(found) - {"search"}
    # The keys inside a search section are there when it is.
    assert all(key.startswith("search.") for key in missing)
    json.dumps(found)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "selection.ratio": st.floats(0.01, 1),
            "selection.reselect": st.sampled_from(["never", "epoch", 3]),
            "training.steps": st.integers(1, 99),
            "training.adam_betas": st.just([0.5, 0.75]),
            "model.revision": st.none() | st.just("abc"),
            "data.limit": st.none() | st.integers(1, 9),
            "training.zero_stage": st.sampled_from([0, 1, 2, 3]),
        },
    )
)
def test_what_was_set_is_read_back_and_nothing_else_changes(assignments):
    before = Config.model_validate(RAW)
    after = settings(with_settings(before, assignments))
    assert after == settings(before) | assignments


def test_settings_are_enough_to_make_the_configuration_again():
    text = yaml.safe_dump(
        RAW
        | {
            "selection": {"reselect": 7, "granularity": "layer"},
            "evaluation": {"general": [{"name": "x", "kind": "perplexity", "data": "d"}]},
        }
    )
    config = parse(text, "run.yaml")
    assert Config.model_validate(nested(settings(config))) == config
    assert Config.model_validate(config.model_dump(mode="json")) == config


def test_a_file_with_a_search_is_read_back_from_its_dump():
    space = {
        "selection.ratio": [0.5, 1],
        "training.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
        "selection.reselect": {"choices": ["never", 5], "when": {"selection.ratio": 0.5}},
    }
    config = parse(yaml.safe_dump(RAW | {"search": {"space": space}}), "run.yaml")
    for dump in (config.model_dump(mode="json"), config.model_dump(exclude_unset=True)):
        assert Config.model_validate(dump) == config


def test_a_value_that_is_not_allowed_raises():
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        with_settings(Config.model_validate(RAW), {"selection.ratio": 3})


def test_steps_and_epochs_replace_each_other():
    config = Config.model_validate(RAW | {"training": {"epochs": 2}})
    replaced = with_settings(config, {"training.steps": 9}).training
    assert (replaced.steps, replaced.epochs) == (9, None)
    back = with_settings(with_settings(config, {"training.steps": 9}), {"training.epochs": 3})
    assert (back.training.steps, back.training.epochs) == (None, 3)


def test_a_trial_can_have_every_setting_of_its_own_but_the_sweeps():
    keys = searchable_keys()
    assert {"selection.ratio", "training.weight_decay", "data.packing", "model.name"} <= set(keys)
    assert not {key.split(".")[0] for key in keys} & {"search", "cluster", "tracking", "evaluation"}
    assert len(keys) == len(set(keys))


def test_what_changes_a_worker_for_good_is_the_whole_sweeps():
    assert "model.use_liger_kernel" in known_keys()
    assert "model.use_liger_kernel" not in searchable_keys()
    assert "model.attention" in searchable_keys()


def test_every_searchable_key_takes_its_own_default_again():
    config = Config.model_validate(RAW)
    defaults = settings(config)
    for key in searchable_keys():
        assert settings(with_settings(config, {key: defaults[key]})) == defaults


def test_searched_values_are_the_corners_or_the_one_value():
    space = {"selection.ratio": {"low": 0.25, "high": 1.0}, "selection.granularity": ["layer"]}
    config = parse(yaml.safe_dump(RAW | {"search": {"space": space}}), "run.yaml")
    assert searched_values(config, "selection.ratio") == [0.25, 1.0]
    assert searched_values(config, "selection.granularity") == ["layer"]
    assert searched_values(config, "training.batch_size") == [8]


@pytest.mark.parametrize("file", sorted(SPACES.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_json_schema_accepts_what_ships(file):
    jsonschema.validate(yaml.safe_load(file.read_text()), Config.model_json_schema())


@pytest.mark.parametrize(
    "wrong", [{"nam": "x"}, {"selection": {"ratio": 2}}, {"search": {"space": {"a": 0.5}}}]
)
def test_the_json_schema_refuses_what_is_wrong(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(RAW | wrong, Config.model_json_schema())


def test_the_schema_is_json_schema_and_describes_every_setting():
    schema = Config.model_json_schema()
    assert json.loads(json.dumps(schema)) == schema
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name", "model", "data"]
    sections = schema["$defs"]
    assert {"Model", "Data", "Selection", "Training", "Search", "Cluster"} <= set(sections)
    for name, section in sections.items():
        if "properties" not in section:
            continue
        assert section["additionalProperties"] is False, name
        for key, described in section["properties"].items():
            assert described.get("description") or key == "kind", f"{name}.{key}"


@pytest.mark.parametrize("key", ["training.steps", "training.learning_rate", "selection.reselect"])
def test_true_is_no_number(key):
    section, name = key.split(".")
    content = {"name": "x", "model": "m", "data": {"train": "d"}, section: {name: True}}
    with pytest.raises(ValueError, match=f"{name} is true"):
        Config.model_validate(content)
