"""What FILE may not say: a key twice, a key that is not text, a number that is not finite."""

import math

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from hft_ray.config import Config, ConfigError
from hft_ray.config.keys import section_models
from hft_ray.config.load import parse
from hft_ray.config.sections.section import Section
from hft_ray.config.yaml_text import read_yaml

BASE = "name: run\nmodel: some/model\ndata: {train: t.jsonl}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "a is given twice, in lines 1 and 3"),
        ("d:\n  x: 1\n  y: 2\n  x: 1", "d.x is given twice, in lines 2 and 4"),
        ("d: {x: 1, x: 2}", "d.x is given twice, in lines 1 and 1"),
        ("l:\n- {a: 1}\n- a: 1\n  'a': 2", "l.1.a is given twice, in lines 3 and 4"),
        ("a: !!bool abc", "abc"),
        ("a: !!timestamp abc", "groupdict"),
        ("a: 1\na: 2\na: 3", "a is given 3 times, in lines 1, 2 and 3"),
        ('{"a": {"b": 1,\n "b": 2}}', "a.b is given twice, in lines 1 and 2"),
        ("a: &x {k: 1}\nb: {<<: *x, j: 1,\n j: 2}", "b.j is given twice, in lines 2 and 3"),
        ("a: 1\na: 2\nb: {c: 1, c: 1}", "b.c is given twice, in lines 3 and 3"),
        ("on: 1", "the key on in line 1 is not text: YAML reads it as true"),
        ("d:\n  no: 1", "the key d.no in line 2 is not text: YAML reads it as false"),
        ("d: {7: 1}", "the key d.7 in line 1 is not text: YAML reads it as 7"),
        ("~: 1", "the key ~ in line 1 is not text: YAML reads it as null"),
        ("2020-01-02: 1", "the key 2020-01-02 in line 1 is not text: YAML reads it as 2020-01-02"),
        ("? [a, b]\n: 1", "line 1 has a list or mapping where a key must stand"),
    ],
)
def test_keys_that_mean_two_things_are_refused(text, said):
    with pytest.raises(yaml.YAMLError) as caught:
        read_yaml(text)
    assert said in str(caught.value)


def test_keys_that_look_alike_and_are_not_are_taken():
    text = "a: &a {x: 1}\nb: {x: 1}\nc: {<<: *a, x: 2}\n'on': {'7': 1}\nd: *a\ne: *a"
    assert read_yaml(text)["c"] == {"x": 2}


def test_file_with_a_setting_twice_is_refused_and_overrides_may_repeat():
    space = "search: {space: {\n training.steps: [1, 2],\n training.steps: [3]}}"
    with pytest.raises(ConfigError, match=r"search\.space\.training\.steps is given twice, in lin"):
        parse(BASE + space, "run.yaml")
    config = parse(BASE, "run.yaml", ["training.steps=3", "training.steps=4"])
    assert config.training.steps == 4


def sections(cls=Section):
    for each in cls.__subclasses__():
        yield each
        yield from sections(each)


NUMBERS = sorted(
    (section.__name__, name, section)
    for section in set(sections())
    for name, field in section.model_fields.items()
    if "'number'" in str(TypeAdapter(field.annotation).json_schema())
    and not any(section_models(field.annotation))
)


@pytest.mark.parametrize(("section", "name", "cls"), NUMBERS, ids=lambda each: str(each))
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_every_setting_that_is_a_number_is_finite(section, name, cls, value):
    """Whether it is one number, one of a list or one of a mapping."""
    found = set()
    for given in (value, [value, value], {"x": value}):
        try:
            cls.model_validate({name: given})
        except ValidationError as error:
            found |= {each["type"] for each in error.errors() if each["loc"][0] == name}
    assert "finite_number" in found


def test_a_learning_rate_without_end_is_refused_wherever_it_stands():
    for text in (
        "training: {learning_rate: .inf}",
        "search: {space: {training.learning_rate: {low: 1.0e-5, high: .inf, log: true}}}",
        "search: {space: {training.learning_rate: [1.0e-5, .inf]}}",
        "search: {space: {training.steps: [1, 2]}, first: [{training.learning_rate: .nan}]}",
    ):
        with pytest.raises(ConfigError, match="should be a finite number"):
            parse(BASE + text, "run.yaml")


def test_the_settings_of_file_are_among_those():
    assert {"Training", "Interval", "Cluster"} <= {section for section, _, _ in NUMBERS}
    assert len(NUMBERS) > 25
    assert Config in set(sections())
