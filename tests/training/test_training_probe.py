"""``hft-ray plan --probe``: the time of a sweep, from a few real steps."""

from __future__ import annotations

import json

import pytest
import yaml

STEPS, EVERY = 30, 10
TRIES = 3


@pytest.fixture
def command(jobs, tiny_file, tmp_path):
    """Run a command on a FILE, in a process that has imported what it needs."""
    path = tmp_path / "probe.yaml"

    def run(changes, *arguments):
        path.write_text(yaml.safe_dump(tiny_file | changes))
        return jobs.command(
            tmp_path,
            arguments[0],
            str(path),
            *arguments[1:],
            HFT_RAY_HOME=str(tmp_path / "home"),
            CUDA_VISIBLE_DEVICES="",
        )

    return run


def changes(tiny_file, **training):
    return {
        "training": tiny_file["training"] | {"steps": STEPS} | training,
        "evaluation": tiny_file["evaluation"] | {"every": EVERY},
        "cluster": {"cpus_per_worker": 1},
    }


def test_the_measured_time_is_that_of_a_training(command, tiny_file, tmp_path):
    file = changes(tiny_file)
    ratios = []
    for number in range(TRIES):  # other processes may take the processor in the middle of one
        planned = json.loads(command(file, "plan", "--probe", "--json").stdout)
        probe = planned["probe"]
        assert planned["seconds_estimate"] == probe["trial_seconds"]
        steps, scorings = STEPS * probe["step_seconds"], STEPS // EVERY * probe["score_seconds"]
        assert probe["trial_seconds"] == pytest.approx(steps + scorings)
        out = tmp_path / f"out-{number}"
        done = command(file, "train", "--out", str(out), "--json")
        assert done.returncode == 0, done.stderr[-3000:]
        ratios.append(probe["trial_seconds"] / json.loads(done.stdout)["seconds"])
        if 1 / 1.5 <= ratios[-1] <= 1.5:
            return
    pytest.fail(f"estimated / measured: {ratios}")


def test_a_sweep_takes_what_its_trials_and_their_variants_take(command, tiny_file):
    search = {"space": {"selection.ratio": [0.25, 1.0]}, "trials": 6}
    variants = {"averages": [0.25, 0.5], "half_reset": True}
    file = changes(tiny_file) | {"search": search | {"variants": variants}}
    file["cluster"] = {"cpus_per_worker": 1, "groups": 2}
    planned = json.loads(command(file, "plan", "--probe", "--json").stdout)
    probe = planned["probe"]
    scorings = STEPS // EVERY + 3
    expected = STEPS * probe["step_seconds"] + scorings * probe["score_seconds"]
    assert probe["trial_seconds"] == pytest.approx(expected)
    assert planned["seconds_estimate"] == pytest.approx(probe["trial_seconds"] * 6 / 2)
    assert planned["device_hours_estimate"] == pytest.approx(probe["trial_seconds"] * 6 / 3600)


def test_what_cannot_be_timed_is_refused(command, tiny_file):
    short = command(changes(tiny_file, steps=2), "plan", "--probe")
    assert short.returncode == 2
    assert "a probe needs more than 2 steps" in short.stderr
    file = changes(tiny_file) | {"cluster": {"gpus_per_worker": 1}}
    elsewhere = command(file, "plan", "--probe")
    assert elsewhere.returncode == 2
    assert "this machine has no GPU" in elsewhere.stderr
