"""What can be seen to be wrong with a FILE before a model trains."""

import json
from pathlib import Path

import pytest
import torch

from hft_ray.config import Config, ConfigError
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace, check, check_settings


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("root"), Ranks(), torch.device("cpu"))


def problems_of(workspace, file):
    with pytest.raises(ConfigError) as caught:
        check(Config.model_validate(file), workspace, "run.yaml")
    return [str(problem) for problem in caught.value.problems]


def written(folder, content, name="data.jsonl"):
    path = Path(folder, name)
    path.write_text(content)
    return str(path)


def test_a_good_file_has_no_problem_and_its_data_is_encoded(workspace, tiny_file):
    assert check(Config.model_validate(tiny_file), workspace, "run.yaml") == []
    assert list((workspace.cache / "data").iterdir())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"text": "a"}\n{"text": \n', ":2: is not valid JSON"),
        ('{"text": "a"}\n\n[1]\n', ":3: a record must be a JSON object"),
        ("", "data.train: the data set is empty"),
        ("\n\n", "data.train: the data set is empty"),
        ('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n', ":2: "),
        ('{"question": "a"}\n', ":1: "),
    ],
)
def test_bad_training_data_is_told_with_its_line(workspace, tiny_file, tmp_path, content, expected):
    file = tiny_file | {"data": {"train": written(tmp_path, content)}}
    (problem,) = problems_of(workspace, file)
    assert expected in problem
    assert "data.jsonl" in problem


def test_adapters_on_nothing_are_told_before_anything_starts(workspace, tiny_file):
    adapter = {"kind": "lora", "targets": ["q_pro"]}
    (problem,) = problems_of(workspace, tiny_file | {"adapter": adapter})
    assert problem.startswith("adapter.targets: names no linear map")
    assert check(Config.model_validate(tiny_file | {"adapter": "lora"}), workspace, "x.yaml") == []


def test_a_missing_field_is_named(workspace, tiny_file, tmp_path):
    records = [{"prompt": "a", "completion": "b"}, {"prompt": "c"}]
    content = "".join(json.dumps(record) + "\n" for record in records)
    (problem,) = problems_of(workspace, tiny_file | {"data": {"train": written(tmp_path, content)}})
    assert "completion" in problem


@pytest.mark.parametrize("part", ["task", "general"])
def test_bad_evaluation_data_is_told(workspace, tiny_file, tmp_path, part):
    data = written(tmp_path, '{"prompt": "a", "answer": "b"}\n{"prompt": "a"}\n')
    item = {"name": "x", "kind": "generation", "data": data}
    (problem,) = problems_of(workspace, tiny_file | {"evaluation": {part: [item]}})
    assert "data.jsonl:2" in problem
    assert "answer" in problem


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("/nowhere/model", "no such file"),
        ("empty", "it has no config.json"),
        ("bare", "no safetensors weights"),
        ("broken", "config"),
    ],
)
def test_a_model_directory_that_is_none(workspace, tiny_file, tmp_path, model, expected):
    (tmp_path / "empty").mkdir()
    for name, config in (("bare", "{}"), ("broken", '{"model_type": "nonsense"}')):
        (tmp_path / name).mkdir()
        written(tmp_path / name, config, "config.json")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"")
    name = model if model.startswith("/") else str(tmp_path / model)
    problems = problems_of(workspace, tiny_file | {"model": name})
    assert all(problem.startswith("model.name: ") for problem in problems)
    assert expected in " ".join(problems)
    assert len(problems) <= 2


def test_everything_is_told_at_once(workspace, tiny_file, tmp_path):
    file = tiny_file | {
        "model": str(tmp_path),
        "data": {"train": str(tmp_path / "no.jsonl")},
        "cluster": {"workers": 3},
        "evaluation": {
            "task": [{"name": "x", "kind": "generation", "data": str(tmp_path / "neither.jsonl")}]
        },
    }
    paths = [problem.split(":")[0] for problem in problems_of(workspace, file)]
    assert paths == ["training.batch_size", "model.name", "data.train", "evaluation.task.0.data"]


def test_without_a_tokenizer_the_records_are_still_read(workspace, tiny_file, tmp_path):
    data = written(tmp_path, '{"nothing": 1}\n')
    problems = problems_of(workspace, tiny_file | {"model": str(tmp_path), "data": {"train": data}})
    assert len(problems) == 2
    assert "data.jsonl:1" in problems[1]


def settings_problems(tiny_file, **sections):
    return [str(each) for each in check_settings(Config.model_validate(tiny_file | sections))]


def test_a_batch_that_the_ranks_do_not_divide(tiny_file):
    assert settings_problems(tiny_file, cluster={"workers": 4}) == []
    assert settings_problems(tiny_file, cluster={"workers": 3}) == [
        "training.batch_size: must be a multiple of 3 workers (given: 8)"
    ]
    micro = tiny_file["training"] | {"micro_batch_size": 4}
    assert settings_problems(tiny_file, training=micro, cluster={"workers": 4}) == [
        "training.batch_size: must be a multiple of micro_batch_size 4 x 4 workers (given: 8)"
    ]


def test_every_searched_batch_is_looked_at(tiny_file):
    search = {"space": {"training.batch_size": [8, 9, 10]}}
    (problem,) = settings_problems(tiny_file, search=search, cluster={"workers": 2})
    assert problem.endswith("(given: 9)")


def test_an_objective_that_nothing_produces(tiny_file):
    space = {"selection.ratio": [0.5]}
    objectives = {"task/answer": "max", "forgetting/mean": "min"}
    (problem,) = settings_problems(tiny_file, search={"space": space, "objectives": objectives})
    assert problem.startswith("search.objectives.task/answer: is produced by no evaluation")
    assert "did you mean 'task/answers'?" in problem
    assert "forgetting/texts" in problem


def test_an_objective_is_a_metric_of_every_trial(tiny_file):
    """``continual/op`` is of method continual alone, whichever method FILE itself has."""
    task = {
        "name": "a",
        "data": tiny_file["data"]["train"],
        "evaluation": tiny_file["evaluation"]["task"],
    }
    general = tiny_file["evaluation"]["general"]
    shared = {
        "method": "multitask",
        "tasks": [task],
        "data": {"max_length": 48},
        "evaluation": {"general": general},
    }
    methods = {name: {"set": {"method.kind": name}} for name in ("continual", "multitask")}
    search = {"objectives": {"continual/op": "max"}, "space": {"training.seed": [0, 1]}}
    both = search["space"] | {"method.kind": ["continual", "multitask"]}
    for one in ({"space": both}, {"arms": methods, "trials": 2}):
        (problem,) = settings_problems(tiny_file, **shared, search=search | one)
        assert problem.startswith("search.objectives.continual/op: is not produced by every trial")
    alone = {"arms": {"mine": methods["continual"]}, "trials": 2}
    assert settings_problems(tiny_file, **shared, search=search | alone) == []


def test_the_default_objectives_need_their_evaluations(tiny_file):
    search = {"space": {"selection.ratio": [0.5]}}
    assert settings_problems(tiny_file, search=search) == []
    problems = settings_problems(tiny_file, search=search, evaluation={})
    assert [each.split(":")[0] for each in problems] == [
        "search.objectives.task/score",
        "search.objectives.forgetting/mean",
    ]


CHOICE = {"name": "choice", "kind": "multiple_choice", "data": "x.jsonl"}
HARNESS = {"name": "arc", "kind": "lm_eval", "task": "arc_easy"}
MIXED = (
    "mixes units: nats per token (texts, questions); share (choice); take retention/mean, "
    "which has no unit, or {}/NAME of one evaluation"
)


def mixed_problems(file, more=CHOICE, **search):
    general = [*file["evaluation"]["general"], more]
    evaluation = {"task": file["evaluation"]["task"], "general": general}
    search = {"space": {"selection.ratio": [0.5]}, **search}
    return settings_problems(file, search=search, evaluation=evaluation)


def test_means_of_several_units_are_refused_where_they_are_asked_for(tiny_file):
    # The default objectives ask for one.
    path = "search.objectives.forgetting/mean: "
    assert mixed_problems(tiny_file) == [path + MIXED.format("forgetting")]
    wanted = {"task/score": "max", "retention/mean": "max"}
    assert mixed_problems(tiny_file, objectives=wanted) == []
    (problem,) = mixed_problems(tiny_file, objectives={"general/score": "max"})
    assert problem == "search.objectives.general/score: " + MIXED.format("general")
    bound = "general/score >= 0.9 * base"
    (problem,) = mixed_problems(tiny_file, objectives=wanted, constraints=[bound])
    assert problem.startswith("search.constraints.0: general/score mixes units: ")
    bound = "retention/mean >= 0.9"
    assert mixed_problems(tiny_file, objectives=wanted, constraints=[bound]) == []


def test_the_unit_of_lm_eval_is_that_of_the_metric_that_is_named(tiny_file):
    named = HARNESS | {"metric": "bits_per_byte,none"}
    (problem,) = mixed_problems(tiny_file, named)
    assert "nats per token (texts, questions); bits_per_byte (arc)" in problem
    (problem,) = mixed_problems(tiny_file, HARNESS)
    assert "the first metric of arc_easy (arc)" in problem
    assert problem.endswith("; give lm_eval entries a metric, which tells their unit")


def test_a_mean_of_tasks_has_one_unit(tiny_file):
    task = [*tiny_file["evaluation"]["task"], *tiny_file["evaluation"]["general"]]
    search = {"space": {"selection.ratio": [0.5]}, "objectives": {"task/score": "max"}}
    (problem,) = settings_problems(tiny_file, search=search, evaluation={"task": task})
    assert problem.endswith("take task/NAME of one evaluation")
    search["objectives"] = {"task/answers": "max", "task/texts": "min"}
    assert settings_problems(tiny_file, search=search, evaluation={"task": task}) == []


def test_a_task_in_turn_has_one_unit(tiny_file):
    texts, _ = tiny_file["evaluation"]["general"]
    (answers,) = tiny_file["evaluation"]["task"]
    data = tiny_file["data"]["train"]
    tasks = [
        {"name": "a", "data": data, "evaluation": [texts, answers]},
        {"name": "b", "data": data, "evaluation": [texts]},
    ]
    file = {"tasks": tasks, "data": {"max_length": 48}, "evaluation": {}}
    (problem,) = settings_problems(tiny_file, **file, method="continual")
    assert problem.startswith("tasks.0.evaluation: mixes units: nats per token (a.texts); share")
    assert settings_problems(tiny_file, **file, method="multitask") == []
    # Each has one; what is a mean over both has not.
    tasks[0]["evaluation"] = [answers]
    search = {"space": {"selection.ratio": [0.5]}, "objectives": {"continual/op": "max"}}
    (problem,) = settings_problems(tiny_file, **file, method="continual", search=search)
    assert problem.startswith("search.objectives.continual/op: mixes units: share (a); nats")


def test_an_unbounded_objective_needs_a_reference_point(tiny_file):
    search = {
        "space": {"selection.ratio": [0.5]},
        "objectives": {"task/score": "max", "cost/device_seconds": "min"},
    }
    (problem,) = settings_problems(tiny_file, search=search)
    assert "give one in search.reference_point" in problem
    search["reference_point"] = {"cost/device_seconds": 60}
    assert settings_problems(tiny_file, search=search) == []
    search["reference_point"]["task/scor"] = 0
    assert settings_problems(tiny_file, search=search) == [
        "search.reference_point.task/scor: is not an objective"
    ]
