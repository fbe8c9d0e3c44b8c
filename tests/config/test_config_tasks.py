"""Tasks and methods of FILE: what belongs together, and the benchmark TRACE."""

from pathlib import Path

import pytest

from hft_ray.config import Config, ConfigError
from hft_ray.config.load import load, parse
from hft_ray.config.sections.trace import TASKS

ROOT = Path(__file__).parents[2]
ASKED = "{name: u, kind: perplexity, data: b.jsonl}"
TASK = f"{{name: a, data: a.jsonl, evaluation: [{ASKED}]}}"
HEAD = "name: x\nmodel: m\ndata: {max_length: 64, format: text, limit: 9}\n"


def problems(text):
    with pytest.raises(ConfigError) as caught:
        parse(HEAD + text, "my.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("method: sft", "data.train: is required and not given"),
        (f"tasks: [{TASK}]\n", "tasks: are read by the methods continual and multitask alone"),
        ("method: continual", "tasks: are what this method trains on"),
        (
            f"method: continual\ntasks: [{TASK}]\nevaluation: {{task: [{ASKED}]}}",
            "evaluation.task: is not read where there are tasks",
        ),
        (
            f"method: multitask\ntasks: [{TASK[:-1]}, steps: 3}}]",
            "tasks.0: tasks of a mixture have weights",
        ),
        (
            f"method: continual\ntasks: [{TASK}, {TASK}]",
            "tasks.1.name: is the name of another metric already",
        ),
        (
            f"method: continual\ntasks: [{TASK[:-1]}, steps: 3, epochs: 2}}]",
            "tasks.0: give steps or epochs, not both",
        ),
        (
            f"method: {{kind: continual, replay: {{general: 0.1}}}}\ntasks: [{TASK}]",
            "method.replay: general replay needs data",
        ),
        ("method: continual\ntasks: {benchmark: trace}", "tasks.folder: is required"),
        (
            f"method: {{kind: multitask, replay: {{old: 0.5}}}}\ntasks: [{TASK}]",
            "method.replay: is read by method continual alone",
        ),
        (
            f"method: continual\ntasks: [{TASK[:-1]}, weight: 3}}]",
            "tasks.0.weight: is for the method multitask",
        ),
        (
            f"method: continual\ntasks: [{{name: a, data: {{train: b, format: preference}}, "
            f"evaluation: [{ASKED}]}}]",
            "tasks.0.data.format: is for the method dpo",
        ),
        (
            "method: continual\ntasks: [{name: a, data: b, "
            "evaluation: [{name: u, kind: generation, data: c, metrics: x}]}]",
            "tasks.0.evaluation.0.metrics: unknown key; did you mean 'metric'?",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(text, expected):
    assert any(problem.startswith(expected) for problem in problems(text)), problems(text)


def test_a_task_has_what_the_tasks_share_but_for_its_own():
    few = TASK.replace("a.jsonl", "{train: c.jsonl, limit: 4, subset_seed: 1}").replace("a,", "c,")
    replay = "{kind: continual, replay: {general: 0.5, data: g.jsonl}}"
    config = parse(f"{HEAD}method: {replay}\ntasks: [{TASK}, {few}]\n", "my.yaml")
    found = config.training_data
    assert list(found) == ["tasks.0.data.train", "tasks.1.data.train", "method.replay.data"]
    told = [(each.train, each.format, each.limit, each.subset_seed) for each in found.values()]
    # Of the general data there is no limit: its share is method.replay.general.
    assert told == [
        ("a.jsonl", "text", 9, None),
        ("c.jsonl", "text", 4, 1),
        ("g.jsonl", "auto", None, None),
    ]
    assert {each.max_length for each in found.values()} == {64}


def test_evaluations_of_tasks_have_the_tasks_names_and_their_own_places():
    two = f"{{name: b, data: a, evaluation: [{ASKED}, {ASKED.replace('u', 'v')}]}}"
    config = parse(f"{HEAD}method: continual\ntasks: [{TASK}, {two}]\n", "my.yaml")
    assert [(path, each.name) for path, each in config.scored.places()] == [
        ("tasks.0.evaluation.0", "a"),
        ("tasks.1.evaluation.0", "b.u"),
        ("tasks.1.evaluation.1", "b.v"),
    ]
    assert Config.model_validate(config.model_dump(mode="json", exclude_unset=True)) == config


def test_trace_has_its_order_epochs_and_metrics():
    config = load(ROOT / "search_spaces" / "trace_llama2_7b.yaml")
    assert [(task.name, task.epochs) for task in config.tasks] == [
        ("C-STANCE", 5),
        ("FOMC", 3),
        ("MeetingBank", 7),
        ("Py150", 5),
        ("ScienceQA", 3),
        ("NumGLUE-cm", 5),
        ("NumGLUE-ds", 5),
        ("20Minuten", 7),
    ]
    metrics = {each.name: each.metric for each in config.scored.task}
    others = {"MeetingBank": "rouge_l", "Py150": "edit_similarity", "20Minuten": "sari"}
    assert metrics == dict.fromkeys(TASKS, "exact_match") | others
    assert config.tasks[0].data.train.endswith("/C-STANCE/train.json")
    assert config.scored.task[0].data.endswith("/C-STANCE/test.json")
