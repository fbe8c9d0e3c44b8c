"""What a sweep has cost: logged by its driver, shown by status and report."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from typer.testing import CliRunner

from hft_ray.cli.main import app
from hft_ray.config import Cluster
from hft_ray.config.load import validate
from hft_ray.device_cost import worker_seconds
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.recorder import Recorder
from hft_ray.orchestration.sweep_cost import DEVICE_HOURS
from hft_ray.search import Study, TrialSnapshot
from hft_ray.tracking import Tracker, artifact_location, read_sweep, tracking_uri

BASE = {"task/score": 0.0, "general/score": 1.0, "forgetting/mean": 0.0}
WORST = {"task/score": 0.0, "forgetting/mean": 1.0}
SCORES = {"task/score": 0.5, "forgetting/mean": 0.25}
FILE = {
    "name": "s",
    "model": "m",
    "data": {"train": "t.jsonl"},
    "search": {"space": {"selection.ratio": {"low": 0.1, "high": 1.0}}, "trials": 9},
    "cluster": {"workers": 2, "gpus_per_worker": 0.75, "price_per_device_hour": 4},
}


@pytest.fixture
def root(mlflow_store, tmp_path):
    shutil.copy(mlflow_store, tmp_path)
    return tmp_path


def invoke(root, *arguments):
    done = CliRunner().invoke(app, [*arguments, "--storage", str(root)])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("values", "seconds", "found"),
    [
        ({"cost/device_seconds": 90.0}, None, 90.0),
        # It failed after its last score, or made variants.
        ({"cost/device_seconds": 90.0}, 60.0, 120.0),
        ({}, 60.0, 120.0),
        (None, None, 0.0),
    ],
)
def test_the_seconds_of_a_trials_workers(values, seconds, found):
    result = {"values": values, "seconds": seconds}
    assert worker_seconds(Cluster(workers=2), result) == found


def test_driver_status_and_report_say_the_same(root):
    """One trial is complete, one has failed, one runs: 3 h, 1 h and 0.5 h of workers."""
    config = validate(FILE, "test.yaml")
    folder = SweepFolder(root, config.name)
    folder.claim(config)
    study = Study(config, folder.study)
    recorder = Recorder(config, folder, {})
    recorder.open(BASE, WORST, [])
    study.set_base_scores(BASE, recorder.reference)

    def take(kind, trial, **details):
        told = {"event": kind, "trial": trial, "configuration": trial, "time": 0.0}
        recorder.take(told | details)

    trials = []
    for _ in range(3):
        known = study.next_trial()
        take("submitted", known.trial, settings=known.params)
        trials.append(known.trial)
    taken = {"cost/device_seconds": 10800.0}
    take("finished", trials[0], state="complete", step=5, values=SCORES | taken, seconds=5400.0)
    take("finished", trials[1], state="failed", step=0, values={}, seconds=1800.0, reason="x")
    recorder.log_front(recorder.front(), 2)
    assert recorder.cost.device_hours == pytest.approx(3.0)
    take("report", trials[2], step=1, metrics={"cost/device_seconds": 1800.0})
    recorder.close("stopped")

    record = read_sweep(tracking_uri(None, root), "hft-ray", "s")
    assert record.metrics[DEVICE_HOURS] == pytest.approx(3.0)
    told = json.loads(invoke(root, "status", "s", "--json"))
    assert (told["device_hours"], told["price"]) == (pytest.approx(3.0), pytest.approx(12.0))
    assert "trials took 3 device hours, price 12.00" in invoke(root, "status", "s")
    assert "trials took 3 device hours, price 12.00" in invoke(root, "report", "s")
    page = (folder.path / "front" / "front.html").read_text()
    assert "Trials took: 3 device hours, price 12.00" in page

    # A driver that goes on knows what earlier ones have spent.
    params = {"selection.ratio": 0.5}
    ended = [
        TrialSnapshot(trials[0], "complete", params, {"values": SCORES | taken, "seconds": 5400.0}),
        TrialSnapshot(trials[1], "failed", params, {"values": {}, "seconds": 1800.0}),
    ]
    again = Recorder(config, folder, {})
    again.open(BASE, WORST, ended)
    assert again.cost.device_hours == pytest.approx(3.0)
    again.close("stopped")


@pytest.mark.parametrize("logged", [True, False])
def test_running_trials_count_and_an_older_sweep_says_nothing(root, logged):
    uri = tracking_uri(None, root)
    places = {"spool": root / "spool", "artifacts": artifact_location(uri, root)}
    tracker = Tracker(uri, "hft-ray", **places)
    tracker.open_sweep("s", yaml.safe_dump(FILE), {}, {})
    tracker.describe_front({"task/score": "max", "forgetting/mean": "min"}, WORST, BASE)
    tracker.open_trial("t0000", {"selection.ratio": 1.0}, {})
    tracker.log("t0000", 10, SCORES)
    tracker.finish_trial("t0000", "complete")
    tracker.open_trial("t0001", {"selection.ratio": 0.5}, {})
    tracker.log("t0001", 10, {"cost/device_seconds": 4800.0})
    if logged:
        tracker.log_sweep(1, {DEVICE_HOURS: 3.0})
    assert tracker.close(300)
    told = json.loads(invoke(root, "status", "s", "--json"))
    found = (told["device_hours"], told["price"])
    assert found == ((pytest.approx(4.0), pytest.approx(16.0)) if logged else (None, None))
    assert ("device hours" in invoke(root, "status", "s")) == logged
