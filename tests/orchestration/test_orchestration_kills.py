"""A driver of a real sweep that is killed again and again: every trial once, none for ever."""

from __future__ import annotations

import copy
import os
import random
import signal
import time

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sweep_driver import SweepDriver, read_front, write_file
from sweep_runs import Runs

TRIALS, KILLS, MOST_EVENTS = 12, 10, 30
LONG = 600
"""Seconds: a loaded machine takes minutes to start Ray."""
ENDS = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}


@pytest.fixture
def file(tiny_file, tmp_path):
    content = copy.deepcopy(tiny_file) | {"name": "killed", "cluster": {"groups": 2}}
    content["training"] |= {"steps": 12, "checkpoint_every": 3}
    content["evaluation"]["every"] = 3
    content["search"] = {
        "trials": TRIALS,
        "scheduler": {"kind": "asha", "eta": 2},
        "space": {
            "selection.ratio": {"low": 0.25, "high": 0.75},
            "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        },
        "weights": "none",
    }
    (tmp_path / "home").mkdir()
    return write_file(tmp_path, content)


def killed(file, root, rng):
    """Start the sweep and kill its driver at a random moment; say whether it was still running."""
    driver = SweepDriver(file, root)
    events, end = rng.randrange(MOST_EVENTS), time.monotonic() + LONG
    try:
        while len(driver.events()) < events and driver.process.poll() is None:
            assert time.monotonic() < end, driver.said()
            time.sleep(0.05)
        time.sleep(rng.random())
        running = driver.process.poll() is None
        os.kill(driver.process.pid, signal.SIGKILL)
        return running
    finally:
        driver.close()


def stored(root):
    """Optuna's trials as they are on disk; a last line cut off is the next driver's to mend."""
    journal = root / "sweeps" / "killed" / "search.jsonl"
    if not journal.exists():
        return []
    copied = root.parent / "copy.jsonl"
    text = journal.read_bytes()
    copied.write_bytes(text[: text.rfind(b"\n") + 1])
    storage = JournalStorage(JournalFileBackend(str(copied)))
    try:
        return optuna.load_study(study_name="killed", storage=storage).trials
    except KeyError:
        return []


def ended(trials):
    return {t.number: (t.state.name, t.params, t.values) for t in trials if t.state.is_finished()}


@pytest.mark.soak
@pytest.mark.cluster
@pytest.mark.timeout(10_000)
def test_no_trial_of_a_real_sweep_is_lost_or_made_twice(file, tmp_path):
    root, rng, count = tmp_path / "home", random.Random(4), 0
    known = {}
    for _ in range(KILLS):
        count += killed(file, root, rng)
        now = ended(stored(root))
        assert known.items() <= now.items()
        known = now
    driver = SweepDriver(file, root)
    try:
        assert driver.wait(LONG * 5) == 0, driver.said()
    finally:
        driver.close()
    trials = stored(root)
    names = [f"t{number:04d}" for number in range(TRIALS)]
    # As many as planned, each once; what had ended has ended in the same way.
    assert known.items() <= ended(trials).items()
    assert len(trials) == len(ended(trials)) == TRIALS
    front = read_front(root, "killed")
    assert [point["trial"] for point in front["points"]] == names
    states = {point["trial"]: point["state"] for point in front["points"]}
    assert [ENDS[states[name]] for name in names] == [trial.state.name for trial in trials]
    runs = Runs(root, "killed")
    assert runs.states() == states
    assert "RUNNING" not in {*runs.statuses().values(), runs.parent.info.status}
    # Of the decisions only the last one of a trial stops it, and it was stopped by one if at all.
    for trial in trials:
        rungs = [each for key, each in trial.user_attrs.items() if key.startswith("rung:")]
        stops = [each["stop"] for each in sorted(rungs, key=lambda each: each["rung"])]
        assert not any(stops[:-1])
        assert trial.state.name != "PRUNED" or stops[-1]
    assert count >= KILLS / 2
