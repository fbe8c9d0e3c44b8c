"""Sweeps that start at the same moment on a store that is not there yet."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from hft_ray.background import BackgroundErrors
from hft_ray.tracking import Tracker, artifact_location, probe, read_sweep, tracking_uri

LONG = 400
"""Seconds: making a store takes a loaded machine minutes."""


def start_sweeps(name, roots, barrier, answers):
    """Run a sweep in each of the roots, at the same moment as the other process."""
    for root in roots:
        uri = tracking_uri(None, root)
        barrier.wait(LONG)
        away = probe(uri, "together", root)
        errors = BackgroundErrors()
        tracker = Tracker(
            uri,
            "together",
            spool=root / name,
            artifacts=artifact_location(uri, root),
            errors=errors,
            retry=(0.1, 1.0),
        )
        tracker.open_sweep(name, f"name: {name}\n", {"p": name}, {})
        for trial in ("t0", "t1"):
            tracker.open_trial(trial, {"lr": 0.1}, {})
            for step in range(3):
                tracker.log(trial, step, {"x": float(step)})
            tracker.finish_trial(trial, "complete")
        tracker.finish_sweep("complete")
        answers.put((name, away, tracker.close(LONG), errors.summary()))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_two_sweeps_that_start_at_the_same_moment_both_arrive(times, tmp_path):
    roots = [tmp_path / str(number) for number in range(times)]
    names = ["first", "second"]
    spawning = multiprocessing.get_context("spawn")
    barrier, answers = spawning.Barrier(2), spawning.Queue()
    processes = [
        spawning.Process(target=start_sweeps, args=(name, roots, barrier, answers), daemon=True)
        for name in names
    ]
    for process in processes:
        process.start()
    told = [answers.get(timeout=LONG * 2) for _ in range(times * len(names))]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(told) == sorted((name, None, True, []) for name in names for _ in roots)
    for root in roots:
        for name in names:
            check_whole(root, name)


def check_whole(root: Path, name: str) -> None:
    record = read_sweep(tracking_uri(None, root), "together", name)
    assert (record.state, record.params) == ("complete", {"p": name})
    assert record.artifact("config.yaml") == f"name: {name}\n".encode()
    assert [trial.state for trial in record.trials] == ["complete"] * 2
    for trial in record.trials:
        assert trial.history("x") == [(0, 0.0), (1, 1.0), (2, 2.0)]
