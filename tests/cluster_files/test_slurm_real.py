"""``clusters/slurm.sh`` on a real Slurm: submitted, cancelled in the middle, submitted again."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
import yaml
from slurm_machine import NoSlurmError, Slurm
from test_ray_job import SWEEP
from waiting import wait_for

pytestmark = [pytest.mark.soak, pytest.mark.cluster, pytest.mark.timeout(3600)]
REPOSITORY = Path(__file__).resolve().parents[2]
TRIALS = 6
UNSTARTED = ("Ray on the first node has ended", "Some Ray subprocesses exited unexpectedly")
"""What a job says when Ray did not start."""


@pytest.fixture(scope="module")
def home(mlflow_store, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "storage").mkdir()
    shutil.copy(mlflow_store, home / "storage")
    return home


@pytest.fixture(scope="module")
def slurm(home):
    # Sockets lie in it, and their paths have to be short.
    temporary = tempfile.mkdtemp(prefix="ray-")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HFT_", "SLURM"))}
    environment = kept | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "HFT_RAY_HOME": str(home / "storage"),
        "OMP_NUM_THREADS": "1",
        "RAY_TMPDIR": temporary,
        "RAY_worker_niceness": "0",
    }
    try:
        made = Slurm(environment)
    except NoSlurmError as error:
        pytest.skip(f"needs a Slurm: {error}")
    yield made
    made.close()
    shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture(scope="module")
def file(home):
    content = SWEEP | {"name": "slurm", "search": SWEEP["search"] | {"trials": TRIALS}}
    content["training"] = SWEEP["training"] | {"steps": 20}
    path = home / "slurm.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def submit(slurm, home, file):
    """Submit the sweep; return the job's number and the file of what it says."""
    script = REPOSITORY / "clusters" / "slurm.sh"
    options = ["--parsable", "--nodes=1", f"--output={home}/job-%j.log"]
    job = slurm.call("sbatch", *options, str(script), str(file), cwd=home).strip()
    assert job.isdigit(), job + slurm.log()
    return job, home / f"job-{job}.log"


def begin(slurm, home, file):
    """Submit the sweep, and wait until it has started; return as :func:`submit`.

    On a busy machine Ray's processes may not find one another within half a minute, and end.
    """
    waiting = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
    before = len(events(home))
    for _ in range(8):
        job, log = submit(slurm, home, file)
        wait_for(lambda: len(events(home)) > before or slurm.state(job) not in waiting, 900)  # noqa: B023
        if len(events(home)) > before:
            return job, log
        assert any(each in log.read_text() for each in UNSTARTED), log.read_text()
    raise AssertionError("Ray does not start")


def events(home):
    path = home / "storage" / "sweeps" / "slurm" / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def ended(home):
    return {each["trial"]: each["state"] for each in events(home) if each["event"] == "ended"}


def test_a_job_that_was_cancelled_goes_on_when_it_is_submitted_again(slurm, home, file):
    job, log = begin(slurm, home, file)

    def begun():
        assert slurm.state(job) in ("PENDING", "CONFIGURING", "RUNNING"), log.read_text()
        return ended(home)

    wait_for(begun, 1500)
    assert slurm.call("scancel", job) == ""
    assert slurm.wait_for_end(job, 600) == "CANCELLED", log.read_text()
    before = ended(home)
    assert 0 < len(before) < TRIALS
    # It was ended in order, and Slurm has not queued it again.
    assert events(home)[-1] == events(home)[-1] | {"event": "sweep_ended", "state": "stopped"}
    assert slurm.call("squeue", "-h") == ""

    job, log = begin(slurm, home, file)
    assert slurm.wait_for_end(job, 1500) == "COMPLETED", log.read_text()
    assert events(home)[-1]["state"] == "complete"
    front = home / "storage" / "sweeps" / "slurm" / "front" / "front.json"
    states = {each["trial"]: each["state"] for each in json.loads(front.read_text())["points"]}
    assert states == {f"t{number:04d}": "complete" for number in range(TRIALS)}
    # What ended before was not done again.
    done = [each["trial"] for each in events(home) if each["event"] == "ended"]
    assert all(done.count(trial) == 1 for trial, state in before.items() if state != "stopped")

    def ours():
        titles = (" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"]))
        return [title for title in titles if slurm.environment["RAY_TMPDIR"] in title]

    wait_for(lambda: not ours(), 120)
