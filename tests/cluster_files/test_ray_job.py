"""A sweep as a Ray job on the cluster that ``clusters/local.sh`` starts."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml

from hft_ray.tracking import read_sweep, tracking_uri

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "clusters" / "local.sh"
RAY = Path(sys.executable).parent / "ray"
SWEEP = {
    "name": "job",
    "model": "package:hft_ray/demo/model",
    "data": {"train": "package:hft_ray/demo/data/task_train.jsonl", "limit": 32, "max_length": 64},
    "training": {"steps": 2, "batch_size": 4, "zero_stage": 0},
    "evaluation": {
        part: [
            {
                "name": part,
                "kind": "generation",
                "data": f"package:hft_ray/demo/data/{data}.jsonl",
                "limit": 4,
                "max_new_tokens": 2,
            }
        ]
        for part, data in (("task", "task_test"), ("general", "general"))
    },
    "search": {
        "space": {"selection.ratio": {"low": 0.2, "high": 0.8}},
        "trials": 2,
        "variants": {"averages": 0, "half_reset": False},
        "weights": "none",
    },
    # The cluster has one core: each group takes half of it.
    "cluster": {"groups": 2, "cpus_per_worker": 0.5},
}


@dataclass
class LocalCluster:
    """A started cluster, and how to talk to it."""

    home: Path
    temp: Path
    url: str
    environment: dict[str, str]

    def script(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run([str(SCRIPT), *arguments], self.environment)

    def submit(self, job: str, *entrypoint: str) -> subprocess.CompletedProcess[str]:
        submit = [str(RAY), "job", "submit", "--address", self.url, "--submission-id", job]
        metadata = ["--metadata-json", json.dumps({"team": "search"})]
        return run([*submit, *metadata, "--working-dir", ".", "--", *entrypoint], self.environment)

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.url + path, headers=headers, timeout=30)

    def listed(self, what: str, **only: str) -> list[dict[str, Any]]:
        """What the dashboard lists, actors or tasks, of which one field has one value."""
        ((key, value),) = only.items()
        query = f"?limit=10000&filter_keys={key}&filter_predicates=%3D&filter_values={value}"
        token = (self.home / ".ray" / "auth_token").read_text().strip()
        answer = self.get(f"/api/v0/{what}{query}", Authorization=f"Bearer {token}").json()
        found: list[dict[str, Any]] = answer["data"]["result"]["result"]
        return found

    def processes(self) -> list[psutil.Process]:
        """The cluster's own processes: each names the folder of its logs."""
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.temp) in " ".join(process.cmdline()):
                    found += [process, *process.children(recursive=True)]
            except psutil.Error:
                continue
        return found


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=900
    )


def free_ports() -> tuple[int, int]:
    """Return two free ports; the one after the first is free too, for Ray's client server."""
    for first in range(21000, 29000, 3):
        try:
            with socket.socket() as a, socket.socket() as b, socket.socket() as c:
                for offset, held in enumerate((a, b, c)):
                    held.bind(("127.0.0.1", first + offset))
                return first, first + 2
        except OSError:
            continue
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    ray_port, dashboard_port = free_ports()
    home = tmp_path_factory.mktemp("home")
    # Sockets lie in it, and their paths have to be short.
    temp = Path(tempfile.mkdtemp(prefix="ray-"))
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("RAY_", "HFT_RAY_", "MLFLOW_"))
    } | {
        "HOME": str(home),
        "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_PORT": str(ray_port),
        "DASHBOARD_PORT": str(dashboard_port),
        "RAY_TEMP_DIR": str(temp),
        "OMP_NUM_THREADS": "1",
        # By default 15, with which a worker gets next to nothing of a machine that is busy.
        "RAY_worker_niceness": "0",
    }
    cluster = LocalCluster(home, temp, f"http://127.0.0.1:{dashboard_port}", environment)
    started = cluster.script("start", "1")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        assert f"ray job submit --address {cluster.url}" in started.stdout
        environment["RAY_AUTH_MODE"] = "token"
        yield cluster
    finally:
        stopped = cluster.script("stop")
        left = cluster.processes()
        shutil.rmtree(temp, ignore_errors=True)
    assert stopped.returncode == 0, stopped.stderr
    assert not left, left


@pytest.mark.cluster
def test_the_cluster_is_reached_over_loopback_and_with_its_token_only(cluster):
    token = cluster.home / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o077 == 0
    assert cluster.get("/api/jobs/").status_code == 401
    answer = cluster.get("/api/jobs/", Authorization=f"Bearer {token.read_text().strip()}")
    assert answer.status_code == 200 and answer.json() == []
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in cluster.processes()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.cluster
def test_a_second_cluster_on_the_same_port_is_refused(cluster):
    again = cluster.script("start")
    assert again.returncode == 2
    assert "runs on port" in again.stderr


@pytest.mark.cluster
def test_a_job_runs_a_sweep_on_the_cluster_that_it_was_given_to(cluster, mlflow_store, tmp_path):
    (cluster.home / "hft-ray").mkdir()
    shutil.copy(mlflow_store, cluster.home / "hft-ray")
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(SWEEP))
    job = cluster.submit("sweep-of-2", "hft-ray", "tune", str(file))
    assert job.returncode == 0, job.stdout + job.stderr
    root = cluster.home / "hft-ray"
    assert f"report:  {root / 'sweeps/job/front/front.html'}" in job.stdout
    assert f"mlflow ui --backend-store-uri {tracking_uri(None, root)}" in job.stdout
    assert "[2/2 " in job.stdout
    front = json.loads((root / "sweeps/job/front/front.json").read_text())
    assert [point["trial"] for point in front["points"]] == ["t0000", "t0001"]
    assert {point["state"] for point in front["points"]} == {"complete"}

    sweep = read_sweep(tracking_uri(None, root), "hft-ray", "job")
    assert sweep.tags["hft_ray.job"] == "sweep-of-2"
    assert sweep.tags["hft_ray.job.team"] == "search"

    # Two groups, which shared the core, did the trials.
    log = (root / "sweeps/job/logs/driver.log").read_text()
    assert "'group': 0" in log and "'group': 1" in log

    # The actors of the sweep were this cluster's, and no other cluster was started for it.
    assert [actor["name"] for actor in cluster.listed("actors", class_name="DispatcherActor")] == [
        "dispatcher:job"
    ]
    # What the dashboard lists names the trials.
    names = {task["name"] for task in cluster.listed("tasks", type="ACTOR_TASK")}
    for trial in ("t0000", "t0001"):
        assert {f"{trial}.next_result", f"{trial}.report step 2"} <= names
    session = cluster.temp / "session_latest"
    assert [path.name for path in cluster.temp.glob("session_2*")] == [session.resolve().name]

    # What was sent is the project without its environment and results.
    (sent,) = (
        path
        for path in (session / "runtime_resources" / "working_dir_files").iterdir()
        if path.is_dir()
    )
    assert (sent / "search_spaces" / "demo.yaml").is_file()
    assert not {".venv", ".git", "demo-output", "build"} & {path.name for path in sent.iterdir()}
    size = sum(path.stat().st_size for path in sent.rglob("*") if path.is_file())
    assert size < 32 * 1024**2


@pytest.mark.cluster
def test_a_job_with_a_bad_file_fails_with_its_message(cluster, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(SWEEP | {"trainings": {}}))
    job = cluster.submit("bad", "hft-ray", "tune", str(file))
    assert job.returncode == 1
    assert "unknown key; did you mean 'training'?" in job.stdout
    assert "failed with exit code 2" in job.stdout


@pytest.mark.parametrize("arguments", [["begin"], ["start", "0"], ["start", "two"], ["-1"]])
def test_a_wrong_argument_starts_nothing(arguments, tmp_path):
    environment = dict(os.environ) | {"RAY_PORT": "1", "TMPDIR": str(tmp_path)}
    done = run([str(SCRIPT), *arguments], environment)
    assert done.returncode == 2
    assert "clusters/local.sh: " in done.stderr
    assert not list(tmp_path.iterdir())


def test_stop_without_a_cluster_says_so(tmp_path):
    environment = dict(os.environ) | {"RAY_PORT": "1", "TMPDIR": str(tmp_path)}
    done = run([str(SCRIPT), "stop"], environment)
    assert done.returncode == 0
    assert "No cluster" in done.stdout
