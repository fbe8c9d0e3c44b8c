"""Tasks in turn and in a mixture: stages, replay, the matrix of scores, and what tracking has."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from training_cases import merged, start

from hft_ray.config import Config, Model
from hft_ray.config.sections.trace import TASKS, Trace
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.recorder import Recorder
from hft_ray.ranks import Ranks
from hft_ray.selection import draw
from hft_ray.training import Workspace
from hft_ray.training.methods import make_stages

STARTS, STEPS = [0, 3, 7], 9
"""First steps of the three tasks, and of what comes after them."""
TRACE = Path(__file__).parents[2] / "hft_ray" / "demo" / "data" / "trace"


@pytest.fixture(scope="module")
def task_file(tiny_file):
    """A FILE of three tasks: of 3 and 4 steps, and of 2 passes over 8 examples, 8 a step."""
    train, evaluation = tiny_file["data"]["train"], tiny_file["evaluation"]
    texts, questions = evaluation["general"]
    tasks = [
        {"name": "a", "data": {"train": train, "limit": 10}, "steps": 3, "evaluation": [texts]},
        {"name": "b", "data": train, "steps": 4, "evaluation": [questions]},
        {
            "name": "c",
            "data": {"train": train, "limit": 8, "subset_seed": 1},
            "epochs": 2,
            "evaluation": [texts | {"name": "u"}, questions | {"name": "v"}],
        },
    ]
    changes = {"data": {"max_length": 48}, "evaluation": {"general": [texts]}, "tasks": tasks}
    return tiny_file | changes | {"method": "continual"}


@pytest.fixture(scope="module")
def runs(jobs, task_file, tiny_file, tmp_path_factory):
    """Every run that is looked at here, in one process."""
    folder = tmp_path_factory.mktemp("tasks")
    redrawn = merged(task_file, {"selection.reselect": "task"})
    mixture = [
        {key: x for key, x in task.items() if key not in ("steps", "epochs")} | {"weight": weight}
        for task, weight in zip(task_file["tasks"], (2, 1, 1), strict=True)
    ]
    alone = {"data.limit": 10, "training.steps": 3}
    cases = {
        "turn": redrawn,
        "boundary": merged(redrawn, {"training.checkpoint_every": 3})
        | {"stop_at": 4, "again": True},
        "middle": merged(redrawn, {"training.checkpoint_every": 2}) | {"stop_at": 5, "again": True},
        "once": task_file,
        "alone": merged(tiny_file, alone),
        "then": merged(tiny_file, {"model": str(folder / "alone"), "training.steps": 4}),
        "replay": merged(task_file, {"method": {"kind": "continual", "replay": {"old": 0.5}}}),
        "mixture": merged(task_file, {"method": "multitask", "tasks": mixture}),
        "trace": task_file | {"tasks": miniature(), "data": {"max_length": 512}},
    }
    return start(jobs, folder, cases)


def miniature():
    tasks = Trace(benchmark="trace", folder=str(TRACE), limit=2).tasks()
    for task in tasks:
        task["evaluation"][0]["max_new_tokens"] = 2  # of a model that answers nothing anyway
    return tasks


def rows(runs, case):
    return runs.outcome(case)["continual"]["rows"]


def test_each_task_is_a_training_run_of_its_own(runs):
    """With one selection the first two tasks are two runs of sft, one on the other's model."""
    assert runs.losses("once")[:3] == runs.losses("alone")
    assert runs.losses("once")[3:7] == runs.losses("then")


def test_each_task_draws_anew_if_asked(runs, task_file, tiny_models):
    catalog = Workspace(runs.folder, Ranks(), torch.device("cpu")).catalog(
        Model(name=tiny_models["untied"])
    )
    selection = Config.model_validate(runs.files["turn"]).selection
    found = runs.outcome("turn")["selection"]
    assert [each["step"] for each in found] == STARTS
    assert [each["hash"] for each in found] == [draw(catalog, selection, n).hash for n in range(3)]
    assert [each["step"] for each in runs.outcome("once")["selection"]] == [0]


@pytest.mark.parametrize("case", ["boundary", "middle"])
def test_a_resumed_sequence_has_the_same_bits(runs, case):
    assert rows(runs, case) == rows(runs, "turn")
    ours, theirs = runs.weights(case), runs.weights("turn")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    names = [name for name in runs.outcome("turn")["values"] if name.startswith("continual/")]
    assert len(names) == 7
    for name in names:
        assert runs.outcome(case)["values"][name] == runs.outcome("turn")["values"][name]


def test_the_matrix_has_a_row_for_the_base_and_after_each_task(runs):
    outcome = runs.outcome("turn")
    assert outcome["continual"]["tasks"] == ["a", "b", "c"]
    assert [row["step"] for row in rows(runs, "turn")] == [0, *STARTS[1:], STEPS]
    for values, row in ((outcome["base"], rows(runs, "turn")[0]), (outcome["values"], -1)):
        row = rows(runs, "turn")[-1] if row == -1 else row
        # Of a cross-entropy the negative counts, of two evaluations the mean.
        assert row["tasks"][:2] == [-values["task/a"], -values["task/b"]]
        assert row["tasks"][2] == values["task/c"]
        assert values["task/c"] == pytest.approx(-(values["task/c.v"] + values["task/c.u"]) / 2)
        assert values["task/score"] == pytest.approx(np.mean(row["tasks"]))
        assert row["general"] == [-values["general/texts"]]


def measured(R, G):
    """The measures by their definitions (TRACE, arXiv 2310.06762), written out here."""
    T = len(R) - 1
    op = sum(R[T][i] for i in range(T)) / T
    bwt = sum(R[T][i] - R[i + 1][i] for i in range(T)) / T
    general = sum(G[T][j] - G[0][j] for j in range(len(G[0]))) / len(G[0])
    return {"continual/op": op, "continual/bwt": bwt, "continual/general": general}


def test_the_measures_are_those_of_the_matrix(runs):
    found = rows(runs, "turn")
    expected = measured([row["tasks"] for row in found], [row["general"] for row in found])
    values = runs.outcome("turn")["values"]
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    assert expected["continual/bwt"] != 0
    base = runs.outcome("turn")["base"]
    assert base["continual/op"] == pytest.approx(np.mean(found[0]["tasks"]))
    assert base["continual/bwt"] == base["continual/general"] == 0


def test_the_matrix_can_be_read_from_tracking(runs, task_file, mlflow_store, tmp_path):
    """R, G, OP and BWT, recomputed from the metrics of a trial's run."""
    objectives = {"continual/op": "max", "continual/bwt": "max"}
    search = {"space": {"selection.seed": [0, 1]}, "objectives": objectives}
    shutil.copy(mlflow_store, tmp_path)
    config = Config.model_validate(runs.files["turn"] | {"search": search})
    told, outcome = runs.results["turn"]["told"], runs.outcome("turn")
    folder = SweepFolder(tmp_path, "tiny")
    folder.path.mkdir(parents=True)
    recorder = Recorder(config, folder, {})
    recorder.open(outcome["base"], dict.fromkeys(objectives, -9.0), [])
    of = {"trial": "t0", "configuration": "t0", "time": 0.0}
    recorder.take({"event": "submitted", "settings": {"selection.seed": 0}, **of})
    for step, metrics in told:
        recorder.take({"event": "report", "step": step, "metrics": metrics, **of})
    end = {key: outcome[key] for key in ("state", "selection", "steps", "continual")}
    recorder.take({"event": "finished", **of, **end})
    recorder.close("complete")

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "hft-ray"]
    filter_string = "tags.`hft_ray.kind` = 'trial'"
    (run,) = client.search_runs([experiment.experiment_id], filter_string)

    def history(metric):
        found = client.get_metric_history(run.info.run_id, metric)
        return {each.step: each.value for each in found}

    columns = [history(f"matrix/{task['name']}") for task in task_file["tasks"]]
    steps = sorted(columns[0])
    assert steps == [0, *STARTS[1:], STEPS]
    texts = history("general/texts")
    R = [[column[step] for column in columns] for step in steps]
    expected = measured(R, [[-texts[step]] for step in steps])
    logged = {name: history(name)[STEPS] for name in expected}
    assert logged == pytest.approx(expected)
    names = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert {"tasks.csv", "tasks.png"} <= names
    lines = (folder.pictures / "t0-tasks.csv").read_text().splitlines()
    assert lines[0] == "after,step,task/a,task/b,task/c,general/texts"
    assert [float(x) for x in lines[-1].split(",")[2:5]] == R[-1]


def test_replay_adds_the_same_share_of_earlier_tasks(runs):
    """Half of 10 to b's 20; half of 10 and of 20 to c's 8."""
    config = Config.model_validate(runs.files["replay"])
    workspace = Workspace(runs.folder / "root", Ranks(), torch.device("cpu"))
    stages, again = make_stages(config, workspace), make_stages(config, workspace)
    assert [len(stage.objective) for stage in stages] == [10, 25, 23]
    identities = [stage.objective.identity for stage in stages]
    assert identities == [stage.objective.identity for stage in again]
    b, c = (stages[n].objective for n in (1, 2))
    assert torch.equal(
        b.batch(range(20, 25), True)["input_ids"], c.batch(range(8, 13), True)["input_ids"]
    )
    # c's two passes are longer by what is replayed: 23 examples twice, 8 a step.
    assert [stage.start for stage in stages] == STARTS
    assert runs.outcome("replay")["steps"] == 7 + 6
    assert runs.losses("replay")[:3] == runs.losses("once")[:3]
    assert runs.losses("replay")[3:7] != runs.losses("once")[3:7]


def test_a_mixture_has_its_weights_and_a_score_for_each_task(runs):
    outcome = runs.outcome("mixture")
    assert outcome["steps"] == 4
    assert "continual" not in outcome
    assert {"task/a", "task/b", "task/c", "task/score"} <= set(outcome["values"])
    config = Config.model_validate(runs.files["mixture"])
    workspace = Workspace(runs.folder / "root", Ranks(), torch.device("cpu"))
    (stage,) = make_stages(config, workspace)
    data = stage.objective.data
    assert np.bincount(data.members).tolist() == [16, 8, 8]
    assert stage.per_epoch == 38 / 8
    # All of a's ten are trained on before one comes again.
    places = [place for step in range(stage.steps) for place in stage.indices(step)]
    taken = [int(data.indices[place]) for place in places if data.members[place] == 0]
    assert sorted(taken[:10]) == list(range(10))


def test_trace_in_its_folders_is_trained_and_scored(runs):
    outcome = runs.outcome("trace")
    assert outcome["continual"]["tasks"] == list(TASKS)
    assert len(rows(runs, "trace")) == 9
    # Two records, 8 a step: as many steps as 5, 3, 7, 5, 3, 5, 5, 7 passes take.
    steps = [row["step"] for row in rows(runs, "trace")]
    assert np.diff(steps).tolist() == [2, 1, 2, 2, 1, 2, 2, 2]
    assert {f"task/{name}" for name in TASKS} <= set(outcome["values"])
