"""``hft-ray status`` and ``hft-ray stop`` against a real sweep, known by tracking alone."""

from __future__ import annotations

import copy
import json
import shutil
import sqlite3
import time
from contextlib import closing, suppress

import pytest
from sweep_driver import SweepDriver, write_file
from sweep_runs import Runs, command

TRIALS = 60
LONG = 600
"""Seconds: a loaded machine takes minutes to start Ray."""
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "user-5d8a1c",
    "MLFLOW_TRACKING_PASSWORD": "password-93f1b7",
    "MLFLOW_TRACKING_TOKEN": "token-0c44e2",
    "HF_TOKEN": "hf_77ab0de1",
}
"""Set while a sweep runs; no file of it may have them."""
PHASES = ("idle", "loading the model", "training", "scoring", "scoring variants")
"""All that a group may do once a trial has started."""
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2000)]


@pytest.fixture(scope="module")
def file(tiny_file, mlflow_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopping")
    content = copy.deepcopy(tiny_file) | {"name": "stopped"}
    content["training"] |= {"steps": 40, "log_every": 1}
    content["search"] = {
        "trials": TRIALS,
        "variants": {"averages": 0, "half_reset": False},
        "space": {"selection.ratio": {"low": 0.25, "high": 0.75}},
        "weights": "none",
    }
    (folder / "home").mkdir()
    shutil.copy(mlflow_store, folder / "home")
    return write_file(folder, content)


@pytest.fixture
def ask(monkeypatch, capsys, tmp_path, file):
    """Run a command as on another machine: with another storage root, and the store's address."""

    def run(name, *arguments):
        store = f"sqlite:///{file.parent / 'home' / 'mlflow.db'}"
        return command(
            monkeypatch, capsys, tmp_path, name, "stopped", "--tracking-uri", store, *arguments
        )

    return run


def wait_until_heard_of(file, driver):
    """Wait until tracking has heard of the driver; before, its store may still be in the making."""
    store = file.parent / "home" / "mlflow.db"
    began, end = time.time(), time.monotonic() + LONG
    driver.wait_for_event("started", "base", LONG)
    while True:
        assert driver.process.poll() is None and time.monotonic() < end, driver.said()
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db,
        ):
            found = db.execute("SELECT value FROM tags WHERE key = 'hft_ray.alive'").fetchone()
            if found and float(found[0]) >= began - 1:
                return
        time.sleep(0.2)


def test_stop_lets_running_trials_end_and_status_tells(file, ask):
    driver = SweepDriver(file, file.parent / "home")
    try:
        wait_until_heard_of(file, driver)
        code, out, err = ask("stop", "--finish-running", "--timeout", str(LONG), "--json")
        assert code == 0, err
        assert json.loads(out) == {"sweep": "stopped", "state": "stopped", "taken": True}
        assert driver.wait(LONG) == 130, driver.said()
        assert "the same command continues the sweep" in driver.error_output
    finally:
        driver.close()
    runs = Runs(file.parent / "home", "stopped")
    assert set(runs.states().values()) == {"complete"}
    assert 0 < len(runs.trials) < TRIALS
    assert runs.parent.data.tags["hft_ray.state"] == "stopped"
    code, out, _ = ask("status", "--json")
    status = json.loads(out)
    assert status["states"] == {"complete": len(runs.trials), "planned": TRIALS - len(runs.trials)}
    assert status["hypervolume"] == runs.parent.data.metrics["front/hypervolume"]
    assert status["elapsed_seconds"] > 0
    assert status["eta_seconds"] is None
    assert "is not running: it is stopped" in ask("stop")[1]


def test_an_old_request_is_not_followed_and_a_new_one_at_once(file, ask, monkeypatch):
    for name in SECRETS:
        monkeypatch.setenv(name, SECRETS[name])
    before, began = len(Runs(file.parent / "home", "stopped").trials), time.time()
    driver = SweepDriver(file, file.parent / "home")
    try:
        wait_until_heard_of(file, driver)
        driver.wait_for_event("started", f"t{before + 1:04d}", LONG)
        status = json.loads(ask("status", "--json")[1])
        assert status["state"] == "running"
        assert status["eta_seconds"] > 0
        (group,) = status["groups"]
        assert (group["group"], len(group["nodes"])) == (0, 1)
        assert group["phase"] in PHASES
        assert began - 1 <= group["since"] <= time.time()
        assert "running" in ask("status")[1]
        code, out, err = ask("stop", "--timeout", str(LONG))
        assert code == 0, err
        assert "has ended: it is stopped" in out
        assert driver.wait(LONG) == 130, driver.said()
        said = driver.said()
    finally:
        driver.close()
    assert before < len(Runs(file.parent / "home", "stopped").trials) < TRIALS
    # A sweep that has ended is not watched any longer.
    assert "stopped  stopped" in ask("status", "--watch")[1]
    files = [path for path in file.parent.rglob("*") if path.is_file()]
    assert len(files) > 10
    for secret in SECRETS.values():
        assert secret not in said
        assert not [path for path in files if secret.encode() in path.read_bytes()]
