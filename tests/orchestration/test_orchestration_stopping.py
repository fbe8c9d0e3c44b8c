"""``hft-ray status`` and ``hft-ray stop`` against a real sweep, known by tracking alone."""

from __future__ import annotations

import copy
import json

import pytest
from sweep_driver import SweepDriver, write_file
from sweep_runs import Runs, command

LONG = 600
"""Seconds: a loaded machine takes minutes to start Ray."""
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2000)]


@pytest.fixture(scope="module")
def file(tiny_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopping")
    content = copy.deepcopy(tiny_file) | {"name": "stopped"}
    content["training"] |= {"steps": 40, "log_every": 1}
    content["search"] = {
        "trials": 4,
        "variants": {"averages": 0, "half_reset": False},
        "space": {"selection.ratio": {"low": 0.25, "high": 0.75}},
        "weights": "none",
    }
    (folder / "home").mkdir()
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


def test_status_shows_it_and_stop_lets_running_trials_end(file, ask):
    driver = SweepDriver(file, file.parent / "home")
    try:
        driver.wait_for_event("report", "t0000", LONG)
        code, out, err = ask("stop", "--finish-running", "--timeout", str(LONG), "--json")
        assert code == 0, err
        assert json.loads(out)["taken"] is True
        assert driver.wait(LONG) == 130, driver.said()
    finally:
        driver.close()
    runs = Runs(file.parent / "home", "stopped")
    # A trial that began before the driver heard of it has ended too.
    assert set(runs.states().values()) == {"complete"}
    assert 1 <= len(runs.trials) <= 2
    assert runs.parent.data.tags["hft_ray.state"] == "stopped"
    code, out, _ = ask("status", "--json")
    status = json.loads(out)
    planned = 4 - len(runs.trials)
    assert status["states"] == {"complete": len(runs.trials), "planned": planned}
    assert status["hypervolume"] == runs.parent.data.metrics["front/hypervolume"]
    assert status["elapsed_seconds"] > 0
    assert status["eta_seconds"] is None


def test_an_old_request_is_not_followed_and_a_new_one_at_once(file, ask):
    assert "is not running: it is stopped" in ask("stop")[1]
    begun = len(Runs(file.parent / "home", "stopped").trials)
    driver = SweepDriver(file, file.parent / "home")
    try:
        driver.wait_for_event("report", f"t{begun:04d}", LONG)
        status = json.loads(ask("status", "--json")[1])
        assert status["state"] == "running"
        assert status["eta_seconds"] > 0
        assert f"t{begun:04d} at step" in ask("status")[1]
        code, out, err = ask("stop", "--timeout", str(LONG))
        assert code == 0, err
        assert "has ended: it is stopped" in out
        assert driver.wait(LONG) == 130, driver.said()
        assert "the same command goes on" in driver.error_output
    finally:
        driver.close()
    assert Runs(file.parent / "home", "stopped").states()[f"t{begun:04d}"] == "stopped"
    # A sweep that has ended is not watched any longer.
    assert "stopped  stopped" in ask("status", "--watch")[1]
