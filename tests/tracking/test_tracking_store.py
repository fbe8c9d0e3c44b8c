"""Writer and reader against a real sqlite store and a real MLflow server."""

from __future__ import annotations

import json
import math
import threading
import time

import pytest
from servers import MlflowServer
from waiting import wait_for

from hft_ray.background import BackgroundErrors
from hft_ray.config import ConfigError
from hft_ray.tracking import (
    Tracker,
    artifact_location,
    read_sweep,
    sweep_names,
    tracking_uri,
)
from hft_ray.tracking.environment import open_client
from hft_ray.tracking.store import Store, UnavailableError

OBJECTIVES = {"task/score": "max", "forgetting/mean": "min"}
REFERENCE = {"task/score": 0.0, "forgetting/mean": 1.0}
QUICK = (0.1, 0.5)


@pytest.fixture(scope="module", autouse=True)
def launched(tmp_path_factory):
    """A server that starts while the tests on sqlite run."""
    server = MlflowServer(tmp_path_factory.mktemp("server"))
    server.launch()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server(launched):
    launched.wait()
    return launched


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A storage root shared by the tests: creating a store takes seconds."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture
def open_tracker(root, tmp_path):
    """Return a function that opens a tracker on the sqlite store, or on ``uri``."""
    trackers = []

    def open_one(uri=None, **options):
        problems = []
        errors = BackgroundErrors(problems.append)
        tracker = Tracker(
            tracking_uri(uri, root),
            "experiment",
            spool=options.pop("spool", tmp_path / "sweep"),
            artifacts=artifact_location(tracking_uri(uri, root), root),
            errors=errors,
            retry=QUICK,
            **options,
        )
        tracker.problems, tracker.errors = problems, errors
        trackers.append(tracker)
        return tracker

    yield open_one
    for tracker in trackers:
        tracker.close(timeout=0)


def write_sweep(tracker, name):
    tracker.open_sweep(name, "name: demo\n", {"search.trials": 2}, {"team": "a"})
    tracker.describe_front(OBJECTIVES, REFERENCE, {"task/score": 0.1, "general/score": 0.8})
    settings = {"selection.ratio": 0.5, "model.name": "x", "none": None, "text": "7", "list": [1]}
    tracker.open_trial("t0", settings, {})
    for step in (10, 20):
        tracker.log("t0", step, {"train/loss": 1.0 / step, "task/score": step / 100})
    tracker.log("t0", 20, {"forgetting/mean": 0.25, "stderr/task/score": 0.01})
    tracker.finish_trial("t0", "complete")
    tracker.open_trial("t1", {"selection.ratio": 1}, {})
    tracker.log("t1", 5, {"task/score": math.nan})
    tracker.finish_trial("t1", "failed", "the loss is NaN")
    for trial, on in (("t0", "true"), ("t1", "false")):
        tracker.set_trial_tags(trial, {"hft_ray.pareto": on})
    tracker.log_sweep(1, {"front/hypervolume": 0.3, "front/size": 1})
    tracker.log_artifact("{}", "front/front.json")
    tracker.finish_sweep("complete")


def check_sweep(uri, name):
    record = read_sweep(uri, "experiment", name)
    assert (record.state, record.tags["hft_ray.kind"]) == ("complete", "sweep")
    assert record.objectives == OBJECTIVES
    assert record.reference_point == REFERENCE
    assert record.base == {"task/score": 0.1, "general/score": 0.8}
    assert record.metrics["front/hypervolume"] == 0.3
    assert record.artifact("config.yaml") == b"name: demo\n"
    assert record.artifact("front/front.json") == b"{}"
    first, second = record.trials
    assert first.params == {
        **{"selection.ratio": 0.5, "model.name": "x", "none": None, "text": "7", "list": [1]}
    }
    assert first.history("task/score") == [(10, 0.1), (20, 0.2)]
    assert first.tags["hft_ray.pareto"] == "true"
    assert second.tags["hft_ray.pareto"] == "false"
    assert second.tags["hft_ray.reason"] == "the loss is NaN"
    assert (first.state, second.state) == ("complete", "failed")
    client = open_client(uri)
    run = client.get_run(first.run_id)
    assert run.data.tags["mlflow.parentRunId"] == record.run_id
    assert (run.info.run_name, run.info.status) == ("t0", "FINISHED")
    assert client.get_run(second.run_id).info.status == "FAILED"
    assert client.get_run(record.run_id).info.run_name == name
    experiment = client.get_experiment_by_name("experiment")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert (first.trial, first.variant) == ("t0", None)
    values = {"task/score": 0.2, "forgetting/mean": 0.25, "stderr/task/score": 0.01}
    assert values.items() <= first.metrics.items()
    assert math.isnan(second.metrics["task/score"])


def test_sqlite_layout_and_reading_back(root, open_tracker, tmp_path):
    tracker = open_tracker()
    write_sweep(tracker, "layout")
    assert tracker.close(60)
    check_sweep(tracking_uri(None, root), "layout")
    assert (root / "mlflow.db").exists()
    assert list((root / "artifacts").rglob("front.json"))
    assert tracker.problems == []
    assert tracker.errors.undone == {}
    assert not (tmp_path / "sweep/tracking.jsonl").exists()


def test_reopening_continues_the_runs(root, open_tracker):
    uri = tracking_uri(None, root)
    first = open_tracker()
    first.open_sweep("again", "a: 1\n", {"p": 1}, {})
    first.open_trial("t0", {"lr": 0.1}, {})
    for step in range(5):
        first.log("t0", step, {"train/loss": 1.0 + step})
    first.finish_trial("t0", "stopped", "interrupted")
    assert first.close(60)
    sweep_run, trial_run = first.run_id(), first.run_id("t0")

    second = open_tracker()
    second.open_sweep("again", "a: 1\n", {"p": 1}, {})
    second.open_trial("t0", {"lr": 0.1, "new": 2}, {})
    for step in range(3, 8):  # steps 3 and 4 are repeated
        second.log("t0", step, {"train/loss": 100.0 + step})
    assert second.flush(60)
    assert (second.run_id(), second.run_id("t0")) == (sweep_run, trial_run)
    record = read_sweep(uri, "experiment", "again")
    assert [trial.state for trial in record.trials] == ["running"]
    assert record.trials[0].params == {"lr": 0.1, "new": 2}
    expected = [(s, 1.0 + s) for s in range(5)] + [(s, 100.0 + s) for s in range(5, 8)]
    assert record.trials[0].history("train/loss") == expected
    assert second.problems == []


def test_a_changed_parameter_keeps_its_first_value_and_is_told(root, open_tracker, caplog):
    for value in (1, 2):
        tracker = open_tracker()
        tracker.open_sweep("changed", "", {"p": value}, {})
        assert tracker.close(60)
    assert "changed: parameters keep their first value" in caplog.text
    assert read_sweep(tracking_uri(None, root), "experiment", "changed").params == {"p": 1}


def test_limits(root, open_tracker):
    tracker = open_tracker()
    tracker.open_sweep("limits", "", {}, {"long": "t" * 9000})
    many = {f"key{i}": i for i in range(150)}
    tracker.open_trial("t0", {"long": "x" * 7000, "odd[key]": "", **many}, {})
    tracker.log("t0", 1, {f"m{i}": float(i) for i in range(2500)})
    tracker.log("t0", 1, {"inf": math.inf, "minus": -math.inf, "nan": math.nan})
    assert tracker.close(60)
    trial = read_sweep(tracking_uri(None, root), "experiment", "limits").trials[0]
    assert trial.params["long"] == "x" * 6000
    assert trial.params["odd_key_"] == ""
    assert len(trial.params) == 152
    assert sum(name.startswith("m") for name in trial.metrics) == 2501
    assert trial.metrics["m2499"] == 2499.0
    assert (trial.metrics["inf"], trial.metrics["minus"]) == (math.inf, -math.inf)
    assert math.isnan(trial.metrics["nan"])
    assert tracker.problems == []


def test_a_full_queue_drops_metrics_only_and_says_so(open_tracker, tmp_path, monkeypatch):
    held, go_on = threading.Event(), threading.Event()

    def hang(*_):
        held.set()
        assert go_on.wait(60)
        raise UnavailableError("gone")

    monkeypatch.setattr(Store, "write", hang)
    tracker = open_tracker("http://127.0.0.1:9", capacity=10)
    tracker.open_sweep("full", "", {}, {})
    assert held.wait(60)  # the writer takes nothing meanwhile
    for step in range(50):
        tracker.log("t0", step, {"x": 1.0})
    tracker.finish_trial("t0", "complete")
    go_on.set()
    assert not tracker.close(0.5)
    lines = (tmp_path / "sweep/tracking.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    # The config of the sweep may have been taken with its start, or wait in the queue.
    assert kinds[:2] + kinds[-1:] == ["Open", "Artifact", "Finish"]
    dropped = 50 - kinds.count("Metrics")
    assert dropped in (41, 42)
    assert f"{dropped} metric events were dropped" in tracker.errors.undone["tracking store"]
    assert any("metrics are dropped" in problem for problem in tracker.problems)


def test_a_full_spool_drops_metrics_only(open_tracker, tmp_path):
    tracker = open_tracker("http://127.0.0.1:9", capacity=2)
    tracker.open_sweep("bounded", "", {}, {})
    spool = tmp_path / "sweep/tracking.jsonl"

    def full():
        tracker.log_sweep(0, {"x": 1.0})
        return spool.exists() and len(spool.read_text().splitlines()) >= 20

    wait_for(full)
    for _ in range(50):
        tracker.log_sweep(1, {"late": 1.0})
    tracker.finish_sweep("complete")
    assert not tracker.close(0.5)
    text = spool.read_text()
    assert "late" not in text
    assert len(text.splitlines()) <= 25
    assert '"kind": "Finish"' in text.splitlines()[-1]
    assert any("metrics are dropped" in problem for problem in tracker.problems)


def test_what_the_store_refuses_is_put_aside_and_told(root, open_tracker, tmp_path):
    tracker = open_tracker()
    tracker.open_sweep("refused", "", {}, {})
    tracker.log("never-opened", 1, {"x": 1.0})
    tracker.log_artifact(tmp_path / "missing.png", "front/front.png")
    tracker.log_sweep(1, {"x": 2.0})
    assert not tracker.close(60)
    refused = tmp_path / "sweep/refused.jsonl"
    assert len(tracker.problems) == 2, "once for each kind"
    assert "never-opened" in tracker.problems[0]
    assert "missing.png" in tracker.problems[1]
    assert f"2 in {refused}" in tracker.errors.undone["tracking store"]
    assert sorted(json.loads(line)["kind"] for line in refused.read_text().splitlines()) == [
        "Artifact",
        "Metrics",
    ]
    assert read_sweep(tracking_uri(None, root), "experiment", "refused").metrics == {"x": 2.0}


def test_unknown_sweeps_experiments_and_stores_are_refused(root, open_tracker, tmp_path):
    uri = tracking_uri(None, root)
    tracker = open_tracker()
    tracker.open_sweep("known", "", {}, {})
    assert tracker.close(60)
    assert "known" in sweep_names(uri, "experiment")
    with pytest.raises(ConfigError, match="did you mean 'known'"):
        read_sweep(uri, "experiment", "knwon")
    with pytest.raises(ConfigError, match="no such experiment"):
        read_sweep(uri, "other", "known")
    with pytest.raises(ConfigError, match="no tracking store"):
        read_sweep(tracking_uri(None, tmp_path), "experiment", "known")
    assert not (tmp_path / "mlflow.db").exists()


def test_server_layout_and_reading_back(server, open_tracker):
    tracker = open_tracker(server.uri)
    write_sweep(tracker, "layout")
    assert tracker.close(60)
    check_sweep(server.uri, "layout")
    assert tracker.problems == []


def test_infinite_metrics_reach_a_server(server, open_tracker):
    tracker = open_tracker(server.uri)
    tracker.open_sweep("infinite", "", {}, {})
    tracker.log_sweep(1, {"inf": math.inf, "nan": math.nan, "one": 1.0})
    assert tracker.close(60)
    metrics = read_sweep(server.uri, "experiment", "infinite").metrics
    assert metrics["inf"] == math.inf
    assert metrics["one"] == 1.0
    assert math.isnan(metrics["nan"])


def test_an_outage(server, open_tracker, tmp_path):
    """Logging never waits, and every point arrives once, by this tracker or by the next."""
    lasting = open_tracker(server.uri)
    lasting.open_sweep("outage", "", {}, {})
    lasting.open_trial("t0", {}, {})
    lasting.log("t0", 0, {"train/loss": 0.0})
    assert lasting.flush(60)
    server.stop()
    slowest = 0.0
    for step in range(1, 1001):
        before = time.perf_counter()
        lasting.log("t0", step, {"train/loss": float(step)})
        slowest = max(slowest, time.perf_counter() - before)
        if step == 500:
            wait_for(lambda: any("not reached" in each for each in lasting.problems))
    lasting.open_trial("t1", {"lr": 0.1}, {})
    lasting.finish_trial("t0", "complete")
    assert slowest < 0.1
    assert not lasting.flush(0.5)

    first = open_tracker(server.uri, spool=tmp_path / "other")
    first.open_sweep("spooled", "a: 1\n", {"p": 1}, {})
    first.open_trial("t0", {"lr": 0.1}, {})
    first.log("t0", 1, {"train/loss": 1.0})
    assert not first.close(0.5)
    spool = tmp_path / "other/tracking.jsonl"
    assert len(spool.read_text().splitlines()) == 4
    assert f"4 in {spool}" in first.errors.undone["tracking store"]
    with spool.open("a") as file:
        file.write('{"kind": "Metr')  # as a killed process leaves it

    server.launch()
    server.wait()
    check_outage(server.uri, lasting)
    second = open_tracker(server.uri, spool=tmp_path / "other")
    second.open_sweep("spooled", "a: 1\n", {"p": 1}, {})
    second.open_trial("t0", {"lr": 0.1}, {})
    second.log("t0", 1, {"train/loss": 5.0})
    second.log("t0", 2, {"train/loss": 2.0})
    assert second.close(60)
    (trial,) = read_sweep(server.uri, "experiment", "spooled").trials
    assert trial.history("train/loss") == [(1, 1.0), (2, 2.0)]
    assert not spool.exists()
    assert any("broken line" in problem for problem in second.problems)


def check_outage(uri, tracker):
    assert tracker.flush(60)
    record = read_sweep(uri, "experiment", "outage")
    assert record.trials[0].history("train/loss") == [(s, float(s)) for s in range(1001)]
    assert [trial.state for trial in record.trials] == ["complete", "running"]
    assert tracker.problems[-1] == "tracking store reached again, everything is written"
