"""A real MLflow server on a real PostgreSQL: outages, lost answers, secrets, full disks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from servers import MlflowServer, Postgres, Wire
from waiting import wait_for

from hft_ray.background import BackgroundErrors
from hft_ray.config import ConfigError
from hft_ray.tracking import Tracker, artifact_location, read_sweep, tracking_uri
from hft_ray.tracking.environment import open_client

LONG = 300
QUICK = (0.1, 0.5)


@pytest.fixture(scope="module")
def postgres():
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory):
    mlflow = MlflowServer(tmp_path_factory.mktemp("server"), postgres)
    mlflow.launch()
    mlflow.wait()
    yield mlflow
    mlflow.stop()


@pytest.fixture
def wire(server):
    wire = Wire(server.port)
    yield wire
    wire.close()


@pytest.fixture
def opened(tmp_path):
    trackers = []

    def open_one(uri, sweep, **options):
        spool = options.pop("spool", tmp_path / "spool")
        problems = []
        errors = BackgroundErrors(problems.append)
        tracker = Tracker(
            uri,
            options.pop("experiment", "runs"),
            spool=spool,
            retry=QUICK,
            errors=errors,
            **options,
        )
        tracker.problems = problems
        trackers.append(tracker)
        tracker.open_sweep(sweep, f"name: {sweep}\n", {"p": 1}, {})
        return tracker

    yield open_one
    for tracker in trackers:
        tracker.close(timeout=0)


def active_runs(server, sweep):
    client = open_client(server.uri)
    experiment = client.get_experiment_by_name("runs")
    wanted = f"tags.`hft_ray.sweep` = '{sweep}'"
    runs = client.search_runs([experiment.experiment_id], filter_string=wanted)
    return sorted(run.info.run_name for run in runs)


def test_a_frozen_and_a_killed_server_get_every_point_once(postgres, server, opened, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")
    tracker = opened(server.uri, "frozen")
    tracker.open_trial("t0", {"lr": 0.1}, {})
    tracker.log("t0", 0, {"train/loss": 0.0})
    assert tracker.flush(LONG)
    server.signal(signal.SIGSTOP)
    slowest = 0.0
    for step in range(1, 301):
        before = time.perf_counter()
        tracker.log("t0", step, {"train/loss": float(step), "task/score": 1.0})
        slowest = max(slowest, time.perf_counter() - before)
        if step == 150:
            wait_for(lambda: any("Read timed out" in each for each in tracker.problems), LONG)
    assert slowest < 0.5
    server.signal(signal.SIGCONT)  # whatever it still holds it carries out now
    assert tracker.flush(LONG)
    server.stop()
    tracker.log("t0", 301, {"train/loss": 301.0, "task/score": 1.0})
    tracker.finish_trial("t0", "complete")
    assert not tracker.flush(1)
    server.launch()
    server.wait()
    assert tracker.close(LONG)
    query = "select key, count(*), count(distinct step), max(step) from metrics join tags using "
    query += "(run_uuid) where tags.key = 'hft_ray.sweep' and tags.value = 'frozen' group by "
    rows = postgres.rows(query.replace("key, count", "metrics.key, count", 1) + "metrics.key")
    assert sorted(rows) == [("task/score", 301, 301, 301), ("train/loss", 302, 302, 301)]
    assert active_runs(server, "frozen") == ["frozen", "t0"]
    (trial,) = read_sweep(server.uri, "runs", "frozen").trials
    assert trial.history("train/loss") == [(step, float(step)) for step in range(302)]
    assert trial.state == "complete"


def test_an_answer_that_is_lost_makes_no_second_run(server, wire, opened, tmp_path):
    """A run that was created and never heard of is found, also by the process after a crash."""
    fates = iter([None, "lost", "lost"])  # the sweep's own run comes through

    def lose_answers(method, path):
        return next(fates, None) if path.endswith("/runs/create") else None

    wire.spoil = lose_answers
    tracker = opened(wire.uri, "lossy")
    tracker.open_trial("t0", {"lr": 0.1}, {})
    tracker.log("t0", 1, {"x": 1.0})
    assert tracker.flush(LONG)
    assert any("not reached" in problem for problem in tracker.problems)
    # The process is killed between the creation and the note of it: nothing of it is on disk.
    wire.spoil = lambda method, path: "lost" if path.endswith("/runs/create") else 0.0
    killed = opened(wire.uri, "lossy", spool=tmp_path / "killed")
    del killed
    wire.spoil = lose_answers
    after = opened(wire.uri, "lossy", spool=tmp_path / "after")
    for each in (after, tracker):
        each.open_trial("t1", {}, {})
    after.open_trial("t0", {"lr": 0.1}, {})
    assert after.flush(LONG)
    assert active_runs(server, "lossy") == ["lossy", "t0", "t1"]


def test_a_request_that_comes_late_makes_no_second_run(server, wire, opened):
    """The server creates a run that was given up, after another was created for the trial."""
    fates = iter([None, 2.0])
    wire.spoil = lambda _, path: next(fates, None) if path.endswith("/runs/create") else None
    tracker = opened(wire.uri, "late")
    tracker.open_trial("t0", {"lr": 0.1}, {})
    tracker.log("t0", 1, {"x": 1.0})
    assert tracker.flush(LONG)
    mine = tracker.run_id("t0")
    wait_for(lambda: active_runs(server, "late") == ["late", "t0", "t0"], LONG)
    tracker.finish_trial("t0", "complete")
    assert tracker.flush(LONG)
    assert active_runs(server, "late") == ["late", "t0"]
    (trial,) = read_sweep(server.uri, "runs", "late").trials
    assert (trial.run_id, trial.state, trial.metrics) == (mine, "complete", {"x": 1.0})


def test_passwords_and_tokens_come_from_the_environment(
    server, wire, opened, monkeypatch, tmp_path
):
    for uri in ("postgresql://mlflow:hunter2@h/db", "http://me:hunter2@h", "http://h/?token=x"):
        with pytest.raises(ConfigError, match="must not carry a password") as refused:
            tracking_uri(uri, tmp_path)
        assert "hunter2" not in str(refused.value)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-hunter2")
    tracker = opened(wire.uri, "secret")
    assert tracker.flush(LONG)
    assert {header for *_, header in wire.seen} == {"Bearer tok-hunter2"}
    record = read_sweep(server.uri, "runs", "secret")
    assert "hunter2" not in f"{record.params} {record.tags} {tracker.problems}"
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    wire.seen.clear()
    assert opened(wire.uri, "basic", spool=tmp_path / "basic").flush(LONG)
    assert {header for *_, header in wire.seen} == {"Basic bWU6aHVudGVyMg=="}


def test_postgresql_without_a_server(postgres, server, opened, monkeypatch, tmp_path):
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    uri = tracking_uri(postgres.uri, tmp_path)
    where = artifact_location(uri, tmp_path)
    tracker = opened(uri, "direct", experiment="direct", artifacts=where)
    tracker.open_trial("t0", {"lr": 0.1}, {})
    tracker.log("t0", 1, {"x": 1.0})
    assert tracker.flush(LONG)
    assert read_sweep(uri, "direct", "direct").trials[0].metrics == {"x": 1.0}


FULL = """
import resource, sys, time
from pathlib import Path
from hft_ray.background import BackgroundErrors
from hft_ray.tracking import Tracker
# A file may not grow: what a full disk or a quota does.
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
uri, spool, limit = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
told = []
errors = BackgroundErrors(told.append)
tracker = Tracker(uri, "runs", spool=spool, retry=(0.05, 0.1), errors=errors)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
tracker.open_sweep("full", "name: full", {}, {})
for step in range(200):
    tracker.log_sweep(step, {"x": float(step)})
end = time.monotonic() + 200
while not any("wait in memory" in each for each in told) and time.monotonic() < end:
    time.sleep(0.05)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
assert not tracker.close(1)
print(told)
"""


def test_a_spool_on_a_full_disk_loses_nothing_while_the_process_lives(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, "http://127.0.0.1:9", str(tmp_path), "1000"],
        capture_output=True,
        text=True,
        timeout=LONG,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "cannot be written, events wait in memory" in done.stdout
    lines = (tmp_path / "tracking.jsonl").read_text().splitlines()
    assert len(lines) == 202
