"""What MLflow's own pages show of a sweep: models of the front, data sets, sources, seeds."""

from __future__ import annotations

import json
import shutil
from statistics import fmean, stdev

import mlflow
import pytest
from recorded_sweep import Sweep
from servers import MlflowServer

from hft_ray.tracking import source_tags
from hft_ray.tracking.environment import open_client

TASK, GENERAL, TRAIN = "answers", "facts", "train.jsonl"
ON_FRONT = "tags.`hft_ray.pareto` = 'true'"


@pytest.fixture
def root(mlflow_store, tmp_path):
    shutil.copy(mlflow_store, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = MlflowServer(tmp_path_factory.mktemp("server"))
    server.launch()
    server.wait()
    yield server
    server.stop()


def make_file(folder, **more):
    """Return the sections of a FILE with data, whose files are in the folder."""
    names = {"train": TRAIN, "task": "task.jsonl", "general": "general.jsonl"}
    paths = {key: folder / name for key, name in names.items()}
    for key, path in paths.items():
        path.write_text(json.dumps({"prompt": key, "answer": "x"}) + "\n", encoding="utf-8")
    score = {"kind": "generation"}
    return {
        "data": {"train": str(paths["train"])},
        "evaluation": {
            "task": [{"name": TASK, "data": str(paths["task"]), **score}],
            "general": [{"name": GENERAL, "data": str(paths["general"]), **score}],
        },
        **more,
    }


def models(sweep, wanted=None, by="task/score"):
    """Return the models of a sweep's experiment by descending metric."""
    client = open_client(sweep.uri)
    experiment = client.get_experiment_by_name("hft-ray")
    order = [{"field_name": f"metrics.{by}", "ascending": False}]
    return client.search_logged_models([experiment.experiment_id], wanted, order_by=order)


def trials_of(found):
    return [each.tags["hft_ray.trial"] for each in found]


def values_of(model):
    return {metric.key: metric.value for metric in model.metrics}


def check_pages(sweep, members, others):
    """Check runs and models of a sweep without seeds, as MLflow's pages read them."""
    found = models(sweep, ON_FRONT)
    assert trials_of(found) == members
    left = models(sweep, "tags.`hft_ray.pareto` = 'false'")
    assert sorted(trials_of(left)) == sorted(others)
    assert {str(model.status) for model in left} == {"UNSPECIFIED"}, "the page shows no tags"
    record = sweep.record()
    runs = {trial.trial: trial for trial in record.trials}
    for model in found:
        run = runs[model.tags["hft_ray.trial"]]
        assert model.source_run_id == run.run_id
        assert (str(model.status), model.model_type) == ("READY", "fine-tuned")
        assert float(model.params["selection.ratio"]) == run.params["selection.ratio"]
        shown = ("task/score", "forgetting/mean", "stderr/task/score")
        assert values_of(model) == {name: run.metrics[name] for name in shown}
        measured = {metric.key: metric.dataset_name for metric in model.metrics}
        assert measured["task/score"] == measured["stderr/task/score"] == TASK
        assert measured["forgetting/mean"] == GENERAL
        assert all(len(metric.dataset_digest) == 8 for metric in model.metrics)
        assert run.history("task/score") == [(8, run.metrics["task/score"])], "one row each"
    client = open_client(sweep.uri)
    (base,) = [each for each in models(sweep) if each.model_type == "base"]
    for each in (record, *record.trials, *record.variants):
        run = client.get_run(each.run_id)
        names = {x.dataset.name: x.tags[0].value for x in run.inputs.dataset_inputs}
        assert names == {TRAIN: "training", TASK: "task", GENERAL: "general"}
        assert [model.model_id for model in run.inputs.model_inputs] == [base.model_id]
        assert run.data.tags["mlflow.source.name"] == "demo.yaml"
        assert run.data.tags["mlflow.source.type"] == "LOCAL"
        outputs = [model.model_id for model in run.outputs.model_outputs]
        assert outputs == [x.model_id for x in [*found, *left] if x.source_run_id == each.run_id]
    assert values_of(base)["base/general/score"] == 1.0
    assert "hft-ray export s --select knee" in record.tags["mlflow.note.content"]
    experiment = client.get_experiment(record.experiment_id)
    assert "hft_ray.pareto" in experiment.tags["mlflow.note.content"]
    assert mlflow.data.get_source(run.inputs.dataset_inputs[0]).load().endswith(".jsonl")


def run_sweep(root, file):
    """Run three trials, of which the last replaces the first on the front."""
    sweep = Sweep(root, file, source_tags("demo.yaml"))
    first, second, third = (sweep.start() for _ in range(3))
    sweep.end(first, score=0.5, lost=0.25)
    sweep.end(second, score=0.9, lost=0.9)
    sweep.end(third, score=0.6, lost=0.2)
    return sweep, first, second, third


def test_models_on_a_server_are_the_front(server, tmp_path):
    file = make_file(tmp_path, tracking={"uri": server.uri})
    sweep, first, second, third = run_sweep(tmp_path, file)
    sweep.recorder.write_report(sweep.study.trials())
    sweep.close("complete")
    check_pages(sweep, [second, third], [first])


def test_a_sweep_that_goes_on_logs_nothing_twice(root):
    file = make_file(root)
    sweep, first, second, third = run_sweep(root, file)
    sweep.close("stopped")
    check_pages(sweep, [second, third], [first])

    again = Sweep(root, file, source_tags("demo.yaml"))
    last = again.start()
    again.end(last, score=0.95, lost=0.85)
    again.recorder.write_report(again.study.trials())
    again.close("complete")
    check_pages(again, [last, third], [first, second])


def test_what_a_killed_driver_had_not_marked_is_marked_by_the_next(root):
    file = make_file(root)
    sweep, first, second, third = run_sweep(root, file)
    sweep.close("stopped")
    # The driver is killed when the search knows of an end that MLflow never hears of.
    lost = sweep.study.next_trial().trial
    values = {"task/score": 0.95, "forgetting/mean": 0.1, "stderr/task/score": 0.01}
    sweep.study.tell(lost, {"state": "complete", "step": 8, "values": values})

    again = Sweep(root, file, source_tags("demo.yaml"))
    again.close("stopped")
    check_pages(again, [lost], [first, second, third])


def test_an_outage_changes_nothing(server, tmp_path):
    file = make_file(tmp_path, tracking={"uri": server.uri, "experiment": "hft-ray"}, name="out")
    server.stop()
    sweep, first, second, third = run_sweep(tmp_path, file)
    sweep.recorder.close("stopped")
    server.launch()
    server.wait()
    again = Sweep(tmp_path, file, source_tags("demo.yaml"))
    again.close("stopped")
    ours = " AND tags.`hft_ray.sweep` = 'out'"
    assert trials_of(models(again, ON_FRONT + ours)) == [second, third]
    assert trials_of(models(again, ON_FRONT.replace("true", "false") + ours)) == [first]


def test_a_description_that_the_user_wrote_stays(root):
    sweep = Sweep(root, make_file(root))
    sweep.close("stopped")
    client, record = open_client(sweep.uri), sweep.record()
    client.set_tag(record.run_id, "mlflow.note.content", "mine")
    client.set_experiment_tag(record.experiment_id, "mlflow.note.content", "mine too")
    Sweep(root, make_file(root)).close("stopped")
    assert sweep.record().tags["mlflow.note.content"] == "mine"
    experiment = client.get_experiment(record.experiment_id)
    assert experiment.tags["mlflow.note.content"] == "mine too"


def test_means_and_deviations_over_seeds(root):
    sweep = Sweep(root, make_file(root), seeds=3, trials=1)
    scores = [0.5, 0.7, 0.9]
    for score in scores:
        sweep.end(sweep.start(), score=score)
    sweep.close("stopped")
    again = Sweep(root, make_file(root), seeds=3, trials=1)
    again.close("complete")
    record = again.record()
    for trial in record.trials:
        mean, deviation = (trial.metrics[f"seeds/{x}/task/score"] for x in ("mean", "deviation"))
        assert (mean, deviation) == pytest.approx((fmean(scores), stdev(scores)))
        assert len(trial.history("seeds/mean/task/score")) in (1, 2)
    for model in models(again, ON_FRONT, "seeds/mean/task/score"):
        (mean,) = [each for each in model.metrics if each.key == "seeds/mean/task/score"]
        assert (mean.step, mean.value) == (3, pytest.approx(fmean(scores)))
    assert "seeds/deviation" in record.tags["mlflow.note.content"]


def test_a_server_without_models_still_takes_the_runs(root, monkeypatch, caplog):
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND
    from mlflow.tracking import MlflowClient

    def missing(*_, **__):
        raise MlflowException("no such endpoint", ENDPOINT_NOT_FOUND)

    monkeypatch.setattr(MlflowClient, "search_logged_models", missing)
    sweep, *_ = run_sweep(root, make_file(root))
    sweep.close("complete")
    assert [trial.state for trial in sweep.record().trials] == ["complete"] * 3
    assert caplog.text.count("has no models") == 1
