"""Named suites in FILE: expanded when it is read, with errors that name file and path."""

import pytest
import yaml

from hft_ray.config import Config, ConfigError
from hft_ray.config.keys import with_settings
from hft_ray.config.load import load, validate
from hft_ray.config.sections.suites import suite_names

OWN = {"name": "own", "kind": "perplexity", "data": "x.jsonl"}


def config(general, *, task=(), overrides=(), folder=None):
    raw = {"name": "n", "model": "m", "data": {"train": "t.jsonl"}}
    raw |= {"evaluation": {"task": list(task), "general": general}}
    if folder is None:
        return validate(raw, "FILE")
    path = folder / "file.yaml"
    path.write_text(yaml.safe_dump(raw))
    return load(path, overrides)


def problems(general, **more):
    with pytest.raises(ConfigError) as caught:
        config(general, **more)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_is_valid(name):
    entries = config([name]).evaluation.general
    assert entries
    assert all(entry.suite == name for entry in entries)


def test_a_suite_stands_for_its_evaluations():
    made = config([OWN, "common-knowledge", {"suite": "demo-facts", "limit": 7}]).evaluation
    names = [entry.name for entry in made.general]
    assert names == ["own", "knowledge", "english", "old-facts"]
    assert [entry.limit for entry in made.general] == [None, 413, 67, 7]
    places = [path for path, _ in made.places()]
    assert places == [
        "evaluation.general.0",
        "evaluation.general.1 (common-knowledge: knowledge)",
        "evaluation.general.1 (common-knowledge: english)",
        "evaluation.general.2 (demo-facts: old-facts)",
    ]


LIMITS = [(None, [100, 67]), (500, [100, 67]), (80, [80, 67]), (7, [7, 7])]


@pytest.mark.parametrize(("limit", "expected"), LIMITS)
def test_a_limit_never_adds_to_a_suite(limit, expected):
    made = config([{"suite": "smollm2-general", "limit": limit}]).evaluation
    assert [entry.limit for entry in made.general] == expected


def test_what_is_expanded_reads_back_as_it_is():
    made = config(["common-knowledge", OWN], task=["demo-facts"])
    assert Config.model_validate(made.model_dump(mode="json")) == made
    searched = with_settings(made, {"selection.ratio": 0.1})
    assert searched.evaluation == made.evaluation


def test_an_override_reaches_into_a_suite(tmp_path):
    made = config(["common-knowledge"], overrides=["evaluation.general.0.limit=3"], folder=tmp_path)
    assert [entry.limit for entry in made.evaluation.general] == [3, 3]


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"evaluations": [OWN]}))
    assert config([str(path)]).evaluation.general[0].name == "own"
    assert "no such suite file" in problems([str(tmp_path / "none.yaml")])[0]


BAD_FILES = [
    ("[1", "cannot be read"),
    ("- a", "is not as it should be"),
    ("evaluations: []", "evaluations List should have at least 1 item"),
    ("evaluations: [{name: a}]\nmore: 1", "more Extra inputs"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES)
def test_a_bad_suite_file_is_named(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    (problem,) = problems([str(path)])
    assert problem.startswith("evaluation.general: the suite file")
    assert str(path) in problem
    assert message in problem


def test_a_bad_evaluation_of_a_suite_is_named_with_its_file(tmp_path):
    path = tmp_path / "mine.yaml"
    entries = [OWN, {"name": "a", "kind": "generation", "data": "d", "metric": "bleu"}]
    path.write_text(yaml.safe_dump({"evaluations": entries}))
    (problem,) = problems([OWN | {"name": "b"}, str(path)])
    assert problem.startswith(f"evaluation.general.1 ({path}: evaluations.1).metric: ")


def test_places_after_a_suite_are_those_of_file():
    (problem,) = problems(["common-knowledge", OWN | {"max_length": 1}])
    assert problem.startswith("evaluation.general.1.max_length: ")
    (problem,) = problems(["common-knowledge", {"name": "a", "data": "d"}])
    assert problem == (
        "evaluation.general.1.kind: is required: "
        "perplexity, multiple_choice, generation, kl, preference, lm_eval"
    )


def test_what_names_no_suite_is_refused():
    assert "did you mean 'common-knowledge'?" in problems(["common-knowlege"])[0]
    assert "{suite: NAME, limit: N}" in problems([{"suite": "demo-facts", "shots": 2}])[0]
    assert "used twice: old-facts" in problems(["demo-facts"], task=["demo-facts"])[0]


BAD_SETTINGS = [
    ({"kind": "generation", "extract": "("}, "extract: is not a regular expression"),
    ({"kind": "generation", "stop": [""]}, "stop.0: "),
    ({"kind": "generation", "metric": "bleu"}, "metric: "),
    ({"kind": "generation", "shots_data": "s.jsonl"}, "shots_data needs shots"),
    ({"kind": "multiple_choice", "shots": -1}, "shots: "),
    ({"kind": "guess"}, "kind: must be one of perplexity"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS)
def test_a_bad_setting_of_an_evaluation_is_named(settings, message):
    (problem,) = problems([{"name": "e", "data": "d.jsonl"} | settings])
    assert problem.startswith("evaluation.general.0")
    assert message in problem
