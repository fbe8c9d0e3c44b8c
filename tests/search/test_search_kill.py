"""A driver that is killed at any moment, and started again: every trial once, none for ever."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

FILE = {
    "name": "s",
    "model": "nowhere/model",
    "data": {"train": "nowhere.jsonl"},
    "training": {"steps": 90},
    "evaluation": {"every": 10},
    "search": {
        "space": {
            "selection.ratio": {"low": 0.1, "high": 0.9},
            "selection.granularity": ["model", "layer"],
        },
        "scheduler": "asha",
    },
    "cluster": {"groups": 8},
}


def write_files(folder, search):
    rows = [{"params": {}, "step": 0, "metrics": {"task/score": 0.1, "forgetting/mean": 0.0}}]
    for number in range(20):
        ratio = (number + 1) / 20
        for step in range(10, 91, 10):
            metrics = {"task/score": step / 90 * ratio, "forgetting/mean": step / 90 * ratio**2}
            params = {"selection.ratio": ratio}
            rows.append({"params": params, "step": step, "metrics": metrics, "seconds": step * 2.0})
    rows[0]["seconds"] = 0
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = FILE | {"search": FILE["search"] | search}
    (folder / "f.yaml").write_text(yaml.safe_dump(file))


def start(folder):
    command = [sys.executable, "-m", "hft_ray", "tune", "f.yaml", "--simulate", "t.jsonl"]
    command += ["--json", "--storage", str(folder / "home")]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def kill_after(process, journal: Path, size: int) -> bool:
    """Kill the driver when its journal has grown to ``size``; say whether it came to that."""
    end = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < end:
        if journal.exists() and journal.stat().st_size >= size:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            return True
        time.sleep(0.0005)
    process.communicate()
    return False


@pytest.mark.parametrize(
    ("kills", "seed", "search"),
    [
        # What proposes is the sweep's own in `test_search_simulate`; its models take a minute here.
        (2, 0, {"trials": 150, "sampler": "tpe"}),
        pytest.param(10, 1, {"trials": 150}, marks=pytest.mark.soak),
    ],
)
def test_no_trial_is_lost_or_made_twice(tmp_path, kills, seed, search):
    write_files(tmp_path, search)
    trials = search["trials"]
    journal = tmp_path / "home" / "simulated" / "s" / "search.jsonl"
    rng, size, done = random.Random(seed), 0, 0
    known: dict[str, dict] = {}
    for _ in range(kills):
        size += rng.randrange(1, 2 * 900 * trials // (kills + 2))
        done += kill_after(start(tmp_path), journal, size)
        # What had ended before has ended in the same way after.
        ended = {str(t.number): (t.state.name, t.params, t.values) for t in trials_in(journal)}
        assert all(ended[number] == each for number, each in known.items())
        known = {n: each for n, each in ended.items() if each[0] in ("COMPLETE", "PRUNED")}
    assert done == kills
    process = start(tmp_path)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()
    points = json.loads(out)["points"]
    assert [point["trial"] for point in points] == [f"t{number:04d}" for number in range(trials)]
    assert {point["state"] for point in points} <= {"complete", "pruned"}
    found = trials_in(journal)
    assert len(found) == trials
    assert {trial.state for trial in found} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert all(
        (found[int(number)].state.name, found[int(number)].params, found[int(number)].values)
        == each
        for number, each in known.items()
    )
    # Every decision that was written is one, on each trial's rungs in ascending order.
    for trial in found:
        rungs = [each for key, each in trial.user_attrs.items() if key.startswith("rung:")]
        assert [each["stop"] for each in rungs[:-1]] == [False] * len(rungs[:-1])
        assert (trial.state == TrialState.PRUNED) == any(each["stop"] for each in rungs)


def trials_in(journal):
    if not journal.exists():
        return []
    # Read a copy: what a killed driver left half written is its successor's to mend.
    whole = journal.with_name("copy.jsonl")
    text = journal.read_bytes()
    whole.write_bytes(text[: text.rfind(b"\n") + 1])
    storage = JournalStorage(JournalFileBackend(str(whole)))
    return optuna.load_study(study_name="s", storage=storage).trials
