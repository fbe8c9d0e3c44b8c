"""Searched values that are allowed one by one and not together."""

import pytest

from hft_ray.config import ConfigError
from hft_ray.config.load import validate
from hft_ray.config.rules.combinations import combinations

FILE = {"name": "sweep", "model": "model", "data": {"train": "data.jsonl"}}
SPACE = {
    "selection.strategy": ["random", "weighted"],
    "selection.granularity": ["layer", "category"],
    "selection.ratio": {"low": 0.25, "high": 0.5},
}


def with_space(**search):
    return FILE | {"search": search}


def test_values_that_do_not_fit_together_are_refused():
    with pytest.raises(ConfigError) as error:
        validate(with_space(space=SPACE), "file.yaml")
    (problem,) = error.value.problems
    assert problem.path == "search.space"
    assert "weighted weighs categories, and a layer has all of them" in problem.message
    assert problem.given["selection.strategy"] == "weighted"
    assert problem.given["selection.granularity"] == "layer"


def test_when_keeps_them_apart():
    apart = {"choices": ["layer", "category"], "when": {"selection.strategy": "random"}}
    config = validate(with_space(space=SPACE | {"selection.granularity": apart}), "file.yaml")
    found = list(combinations(config))
    assert len(found) == 2 * 2 + 1 * 2
    assert all(
        ("selection.granularity" in each) == (each["selection.strategy"] == "random")
        for each in found
    )


def test_first_trials_are_combined_with_the_rest():
    first = [{"selection.strategy": "weighted"}]
    space = {key: SPACE[key] for key in ("selection.granularity", "selection.ratio")}
    with pytest.raises(ConfigError, match="do not fit together"):
        validate(with_space(space=space, first=first), "file.yaml")


def test_both_ends_of_intervals_are_combined():
    space = {"training.learning_rate": {"low": 1e-5, "high": 1e-3}} | {
        key: {"low": 1, "high": 9}
        for key in ("training.steps", "training.log_every", "training.seed", "data.limit")
    }
    config = validate(with_space(space=space), "file.yaml")
    assert len(list(combinations(config))) == 2**5
