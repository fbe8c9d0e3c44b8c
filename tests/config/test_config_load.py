"""FILE is read, or refused with everything that is wrong in it at once."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hft_ray.config import Choices, Config, ConfigError, Interval
from hft_ray.config.keys import known_keys
from hft_ray.config.load import load, parse

BASE = "name: run\nmodel: some/model\ndata: {train: t.jsonl}\n"
TASK = "evaluation: {task: [{name: x, kind: generation, data: a.jsonl}]}\n"


def refusal(text, *overrides):
    """The problems of a FILE that is refused: path -> the problem as the user reads it."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "run.yaml", overrides)
    return {problem.path: str(problem) for problem in caught.value.problems}


def space(entries):
    return BASE + yaml.safe_dump({"search": {"space": entries}})


def test_a_small_file_has_the_papers_defaults():
    config = parse(BASE, "run.yaml")
    assert config.model.name == "some/model"
    assert (config.selection.ratio, config.selection.granularity) == (0.5, "category")
    assert (config.selection.embeddings, config.selection.reselect) == ("trained", "never")
    assert config.search is None


@pytest.mark.parametrize(
    ("text", "path", "known"),
    [
        ("trainin: {}\n", "trainin", "training"),
        ("selection: {ratioo: 0.5}\n", "selection.ratioo", "ratio"),
        ("training: {learningrate: 0.1}\n", "training.learningrate", "learning_rate"),
        ("data: {train: a, max_len: 9}\n", "data.max_len", "max_length"),
        ("evaluation: {tasks: []}\n", "evaluation.tasks", "task"),
        (
            "evaluation: {task: [{name: x, kind: generation, data: a, max_new_token: 3}]}\n",
            "evaluation.task.0.max_new_token",
            "max_new_tokens",
        ),
        (
            "evaluation: {general: [{name: x, kind: perplexity, data: a, maxlength: 3}]}\n",
            "evaluation.general.0.maxlength",
            "max_length",
        ),
        ("search: {space: {selection.ratio: [1]}, trial: 3}\n", "search.trial", "trials"),
        (
            "search: {space: {selection.ratio: {low: 0.1, high: 1.0, Log: true}}}\n",
            "search.space.selection.ratio.Log",
            "log",
        ),
        (
            "search: {space: {selection.granularity: {choices: [layer], whn: {}}}}\n",
            "search.space.selection.granularity.whn",
            "when",
        ),
        (
            "search: {space: {selecton.ratio: [1]}}\n",
            "search.space.selecton.ratio",
            "selection.rat",
        ),
        ("cluster: {worker: 2}\n", "cluster.worker", "workers"),
        ("tracking: {url: x}\n", "tracking.url", "uri"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(text, path, known):
    problems = refusal(
        "name: run\nmodel: m\n" + ("" if "data:" in text[:5] else "data: {train: t}\n") + text
    )
    assert list(problems) == [path]
    assert f"did you mean '{known}" in problems[path]


def test_an_unknown_key_that_resembles_nothing_is_refused_without_a_guess():
    assert refusal(BASE + "zzzz: 1\n") == {"zzzz": "zzzz: unknown key"}


@pytest.mark.parametrize(
    ("text", "path", "allowed", "given"),
    [
        ("selection: {ratio: 0}", "selection.ratio", "greater than 0", "0"),
        ("selection: {ratio: 1.01}", "selection.ratio", "less than or equal to 1", "1.01"),
        ("selection: {ratio: -0.5}", "selection.ratio", "greater than 0", "-0.5"),
        ("selection: {ratio: half}", "selection.ratio", "valid number", "'half'"),
        ("selection: {ratio: [0.5]}", "selection.ratio", "valid number", "[0.5]"),
        ("selection: {ratio: .nan}", "selection.ratio", "finite number", "nan"),
        ("selection: {granularity: block}", "selection.granularity", "'category'", "'block'"),
        ("selection: {reselect: 0}", "selection.reselect", "'never', 'task' or 'epoch'", "0"),
        ("selection: {reselect: daily}", "selection.reselect", "valid integer", "'daily'"),
        ("training: {steps: two}", "training.steps", "valid integer", "'two'"),
        ("training: {steps: 2.5}", "training.steps", "valid integer", "2.5"),
        ("training: {zero_stage: 4}", "training.zero_stage", "0, 1, 2 or 3", "4"),
        ("training: {adam_betas: [0.9, 1.0]}", "training.adam_betas.1", "less than 1", "1.0"),
        ("training: {learning_rate: 0}", "training.learning_rate", "greater than 0", "0"),
        ("training: [1]", "training", "mapping", "[1]"),
        ("training:", "training", "mapping", "None"),
        ("data: t.jsonl", "data", "mapping", "'t.jsonl'"),
        ("model: 7", "model", "mapping", "7"),
        ("name: a b", "name", "match pattern", "'a b'"),
        ("evaluation: {task: {name: x}}", "evaluation.task", "list", "{'name': 'x'}"),
        (
            "evaluation: {task: [{name: x, kind: quiz, data: a}]}",
            "evaluation.task.0.kind",
            "perplexity, multiple_choice, generation",
            "'quiz'",
        ),
        (
            "search: {space: {selection.ratio: 0.5}}",
            "search.space.selection.ratio",
            "mapping",
            "0.5",
        ),
        ("search: {space: []}", "search.space", "mapping", "[]"),
        (
            "search: {space: {selection.ratio: [1]}, sampler: best}",
            "search.sampler",
            "'tpe'",
            "'best'",
        ),
        (
            "search: {space: {selection.ratio: [1]}, objectives: {task/score: up}}",
            "search.objectives.task/score",
            "'max' or 'min'",
            "'up'",
        ),
        ("cluster: {workers: 0}", "cluster.workers", "greater than or equal to 1", "0"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed_and_what_was_given(
    text, path, allowed, given
):
    raw = yaml.safe_load(BASE) | yaml.safe_load(text)
    problems = refusal(yaml.safe_dump(raw))
    assert list(problems) == [path]
    assert problems[path].startswith(f"{path}: ")
    assert allowed in problems[path]
    assert problems[path].endswith(f"(given: {given})")


def test_all_problems_are_told_together_with_the_file():
    with pytest.raises(ConfigError) as caught:
        parse("model: {}\nselection: {ratio: 2, seeed: 1}\nclusters: {}\n", "my.yaml")
    text = str(caught.value)
    assert text.splitlines()[0] == "6 problems in my.yaml:"
    for path in ("name", "model.name", "data", "selection.ratio", "selection.seeed", "clusters"):
        assert f"  - {path}: " in text


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("training: {steps: 3, epochs: 2}", "training", "steps or epochs, not both"),
        (
            "training: {batch_size: 6, micro_batch_size: 4}",
            "training",
            "batch_size 6 is not a multiple of micro_batch_size 4",
        ),
        (
            "training: {offload: optimizer, zero_stage: 0}",
            "training",
            "it needs a zero_stage of 1, 2 or 3, not 0",
        ),
        (
            "training: {optimizer_states: bf16}",
            "training",
            "a second of adam_betas of at most 0.995, not 0.999",
        ),
        (
            "training: {optimizer_states: bf16, precision: fp32, offload: optimizer,"
            " adam_betas: [0.9, 0.99]}",
            "training",
            "needs precision bf16 or auto, not fp32; and offload none",
        ),
        (
            "evaluation: {task: [{name: x, kind: generation, data: a}],"
            " general: [{name: x, kind: perplexity, data: a}]}",
            "evaluation",
            "used twice: x",
        ),
        (
            "evaluation: {task: [{name: score, kind: generation, data: a}]}",
            "evaluation",
            "cannot be named score",
        ),
        ("evaluation: {task: [{name: x, data: a}]}", "evaluation.task.0.kind", "is required"),
        (
            "search: {space: {selection.ratio: [1]}, objectives: {accuracy: max}}",
            "search.objectives",
            "'accuracy' is not a metric name",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(text, path, message):
    problems = refusal(BASE + text)
    assert list(problems) == [path]
    assert message in problems[path]


@pytest.mark.parametrize(
    ("entries", "problems"),
    [
        (
            {"selection.ratio": {"low": 0, "high": 1.5}},
            ["should be greater than 0 (given: 0)", "less than or equal to 1 (given: 1.5)"],
        ),
        ({"selection.ratio": [0.5, 0]}, ["greater than 0 (given: 0)"]),
        ({"training.zero_stage": [0, 7]}, ["0, 1, 2 or 3 (given: 7)"]),
        ({"training.steps": [10, "many"]}, ["(given: 'many')"]),
        ({"training.warmup": {"low": 0.0, "high": 1.0}}, ["less than 1 (given: 1.0)"]),
        ({"selection.ratio": {"low": 0.9, "high": 0.5}}, ["low 0.9 must be below high 0.5"]),
        (
            {"training.learning_rate": {"low": 0.0, "high": 1.0, "log": True}},
            ["a logarithmic interval needs low above 0, not 0.0"],
        ),
        ({"evaluation.batch_size": [1, 2]}, ["is not a setting that can be searched"]),
        ({"search.trials": [1, 2]}, ["is not a setting that can be searched"]),
        ({"selection": [1]}, ["is not a setting that can be searched"]),
        ({"training.micro_batch_size": [3]}, ["batch_size 8 is not a multiple of"]),
    ],
)
def test_a_search_space_outside_the_schema_is_refused(entries, problems):
    with pytest.raises(ConfigError) as caught:
        parse(space(entries), "run.yaml")
    (key,) = entries
    assert [each.path for each in caught.value.problems] == [f"search.space.{key}"] * len(problems)
    for expected, problem in zip(problems, caught.value.problems, strict=True):
        assert expected in str(problem)


def test_an_empty_list_of_choices_is_refused():
    assert list(refusal(space({"selection.seed": []}))) == ["search.space.selection.seed.choices"]


def test_an_empty_space_is_refused():
    assert list(refusal(space({}))) == ["search.space"]


def test_a_list_is_short_for_choices():
    entries = {"selection.ratio": [0.25, 1], "selection.granularity": {"choices": ["layer"]}}
    found = parse(space(entries), "run.yaml").search.space
    assert found == {
        "selection.ratio": Choices(choices=[0.25, 1]),
        "selection.granularity": Choices(choices=["layer"]),
    }


def test_an_interval_keeps_whole_numbers_whole():
    entries = {
        "training.steps": {"low": 10, "high": 20},
        "selection.ratio": {"low": 0.1, "high": 1},
    }
    found = parse(space(entries), "run.yaml").search.space
    assert found["training.steps"] == Interval(low=10, high=20)
    assert isinstance(found["training.steps"].low, int)
    assert isinstance(found["selection.ratio"].low, float)


def test_a_searched_steps_replaces_the_epochs_of_the_file():
    text = space({"training.steps": [5, 10]}) + "training: {epochs: 2}\n"
    assert parse(text, "run.yaml").training.epochs == 2


def test_when_names_other_searched_settings():
    good = {
        "selection.granularity": ["layer", "category"],
        "selection.reselect": {"choices": [5, 9], "when": {"selection.granularity": "layer"}},
    }
    found = parse(space(good), "run.yaml").search.space
    assert found["selection.reselect"].when == {"selection.granularity": "layer"}
    for other in ("selection.ratio", "selection.reselect", "nothing"):
        bad = {**good, "selection.reselect": {"choices": [5], "when": {other: 1}}}
        path = "search.space.selection.reselect.when"
        assert refusal(space(bad)) == {
            path: f"{path}: must name another searched setting (given: {other!r})"
        }


def test_the_first_trials_are_checked_like_the_space():
    first = [{"selection.ratio": 1.0}, {"selection.ratio": 2}, {"selection.rati": 1}]
    text = BASE + yaml.safe_dump({"search": {"space": {"selection.ratio": [0.5]}, "first": first}})
    problems = refusal(text)
    assert list(problems) == ["search.first.1", "search.first.2.selection.rati"]
    assert "less than or equal to 1 (given: 2)" in problems["search.first.1"]
    assert "did you mean 'selection.ratio'" in problems["search.first.2.selection.rati"]


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("selection.ratio=0.25", lambda config: config.selection.ratio == 0.25),
        ("training.learning_rate=1e-3", lambda config: config.training.learning_rate == 1e-3),
        ("training.epochs=3", lambda config: config.training.epochs == 3),
        ("model=other", lambda config: config.model.name == "other"),
        ("model.attention=eager", lambda config: config.model.name == "some/model"),
        ("data.packing=true", lambda config: config.data.packing is True),
        ("tracking.uri=", lambda config: config.tracking.uri is None),
        ("tracking.uri=http://h:1/?a=b", lambda config: config.tracking.uri == "http://h:1/?a=b"),
        ("training.adam_betas=[0.8, 0.9]", lambda config: config.training.adam_betas == (0.8, 0.9)),
        ("evaluation.task.0.limit=5", lambda config: config.evaluation.task[0].limit == 5),
        ("evaluation.task.0.limit=5", lambda config: config.evaluation.task[0].name == "x"),
        (
            "search.space.selection.ratio=[1.0]",
            lambda config: list(config.search.space) == ["selection.ratio"],
        ),
        ("search.space={selection.ratio: [0.5]}", lambda config: config.search.trials == 20),
    ],
)
def test_set_replaces_one_setting(override, read):
    assert read(parse(BASE + TASK, "run.yaml", [override]))


def test_set_reaches_into_a_searched_setting():
    text = space({"training.learning_rate": {"low": 0.1, "high": 0.5, "log": True}})
    config = parse(text, "run.yaml", ["search.space.training.learning_rate.high=0.25"])
    assert config.search.space == {"training.learning_rate": Interval(low=0.1, high=0.25, log=True)}


def test_the_last_of_several_overrides_counts():
    config = parse(BASE, "run.yaml", ["selection.ratio=0.1", "selection.ratio=0.2"])
    assert config.selection.ratio == 0.2


@pytest.mark.parametrize(
    ("override", "path", "message"),
    [
        ("selection.ratio", "--set", "must look like dotted.key=value"),
        ("=3", "--set", "must look like dotted.key=value"),
        ("selection.ratio=[", "--set selection.ratio", "the value is not YAML"),
        ("selection.ratioo=1", "selection.ratioo", "did you mean 'ratio'"),
        ("selection.ratio=2", "selection.ratio", "less than or equal to 1 (given: 2)"),
        ("evaluation.task.1.limit=5", "evaluation.task.1.limit", "its entries are 0 to 0"),
        ("evaluation.task.x.limit=5", "evaluation.task.x.limit", "its entries are 0 to 0"),
        ("search.space.selection.rato=[1]", "search.space.selection.rato", "'selection.ratio'"),
        ("selection=3", "selection", "must be a mapping of settings (given: 3)"),
    ],
)
def test_a_wrong_override_is_refused(override, path, message):
    problems = refusal(BASE + TASK, override)
    assert list(problems) == [path]
    assert message in problems[path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "not valid YAML"),
        (b"- a\n", "must be a mapping of sections"),
        (b"", "must be a mapping of sections"),
        (b"a: \xff\xfe\n", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content, message):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing.yaml: the file cannot be read: No such file"):
        load(tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError, match="the file cannot be read: Is a directory"):
        load(tmp_path)


def test_long_values_are_shortened():
    problem = refusal(BASE + f"selection: {{granularity: {'x' * 500}}}\n")["selection.granularity"]
    assert len(problem) < 200
    assert problem.endswith("xxx')")
    assert "xxx...xxx" in problem


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_ratio_is_accepted_exactly_when_it_lies_above_0_and_not_above_1(ratio):
    raw = yaml.safe_load(BASE) | {"selection": {"ratio": ratio}}
    if not math.isnan(ratio) and 0 < ratio <= 1:
        assert parse(yaml.safe_dump(raw), "run.yaml").selection.ratio == ratio
    else:
        assert list(refusal(yaml.safe_dump(raw))) == ["selection.ratio"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*known_keys(), "search.space", "zzz"]), JSON, max_size=4))
def test_any_content_is_a_config_or_a_list_of_problems(assignments):
    raw = yaml.safe_load(BASE)
    for path, value in assignments.items():
        section, _, name = path.partition(".")
        if name and isinstance(raw.setdefault(section, {}), dict):
            raw[section][name] = value
        else:
            raw[section] = value
    try:
        config = parse(yaml.safe_dump(raw), "run.yaml")
    except ConfigError as error:
        assert error.problems
        assert all(problem.path and problem.message for problem in error.problems)
    else:
        assert isinstance(config, Config)
