"""A Ray cluster of several nodes on this machine: raylets with own addresses, ports and resources.

Each node has a loopback address of its own, so that Ray and torch see as many machines. Nothing has
a fixed port, and every node, job and driver needs the cluster's token.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import requests

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
HEAD = "127.0.0.2"
"""Not 127.0.0.1, for which Ray looks for an address that other machines could reach."""
CONTROLLING = ("DispatcherActor", "TrainController", "ResourceTrainable")
"""Classes of the actors that train nothing; the last is what Tune makes of a trial."""
OURS = ("TrainWorker", "hft-ray tune", *CONTROLLING)
"""Parts of the command lines of a sweep's processes; a cluster's idle workers are Ray's own."""
RAYS = ("JobSupervisor", "_AutoscalingCoordinatorActor")
"""Actors that Ray keeps."""


class RayNodes:
    """A head node without CPU cores, on which drivers and jobs run, and nodes that train.

    Args:
        folder: For the home, the storage root and the logs.
        environment: Further variables of all nodes, jobs and drivers.
    """

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder, self.root = folder, folder / "root"
        self.root.mkdir()
        # Sockets lie in it, and their paths have to be short.
        self.temp = Path(tempfile.mkdtemp(prefix="ray-"))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HFT_", "MLFLOW"))}
        self.environment = kept | {
            "HOME": str(folder),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "HFT_RAY_HOME": str(self.root),
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_JOB_STOP_WAIT_TIME_S": "30",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "RAY_health_check_period_ms": "1000",
            # By default 15, with which a worker gets next to nothing of a machine that is busy.
            "RAY_worker_niceness": "0",
            **(environment or {}),
        }
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.token = secrets.token_hex()
        (folder / ".ray").mkdir()
        (folder / ".ray" / "auth_token").write_text(self.token)
        port, dashboard = _free_port(), _free_port()
        self.address, self.url = f"{HEAD}:{port}", f"http://{HEAD}:{dashboard}"
        self._start(
            HEAD,
            *("--head", "--port", str(port), "--num-cpus", "0", "--temp-dir", str(self.temp)),
            *("--no-monitor", "--dashboard-host", HEAD, "--dashboard-port", str(dashboard)),
            *("--ray-client-server-port", str(_free_port())),
        )
        self._wait_for(lambda: self._answers("/api/version"), "dashboard")

    def add(self, number: int, cpus: int = 1) -> str:
        """Start the node 127.0.0.NUMBER with the resource ``nodeNUMBER``; return its address."""
        address = f"127.0.0.{number}"
        resources = json.dumps({f"node{number}": 1})
        more = ("--address", self.address, "--num-cpus", str(cpus), "--resources", resources)
        self._start(address, *more)
        return address

    def _start(self, address: str, *options: str) -> None:
        common = [
            *("--block", "--disable-usage-stats", "--node-ip-address", address),
            *("--min-worker-port", "0", "--max-worker-port", "0", "--include-log-monitor", "false"),
            *("--dashboard-agent-listen-port", "0", "--object-store-memory", "80000000"),
        ]
        # A node that is not there after half a minute gives up; a busy machine may need more.
        for _ in range(12):
            with (self.folder / f"node-{address}.log").open("wb") as log:
                node = subprocess.Popen(
                    [BIN / "ray", "start", *common, *options],
                    env=self.environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self.nodes[address] = node
            started = lambda: "runtime started" in self._log(address)  # noqa: E731
            self._wait_for(lambda: started() or node.poll() is not None, f"node {address}")  # noqa: B023
            if started():
                return
            self.kill(address)
        raise AssertionError(f"node {address} does not start")

    def _log(self, address: str) -> str:
        return (self.folder / f"node-{address}.log").read_text(errors="replace")

    def _wait_for(self, there: Any, what: str, seconds: float = 600) -> None:
        end = time.monotonic() + seconds
        while not there():
            logs = "\n".join(self._log(address) for address in self.nodes)
            assert time.monotonic() < end, f"no {what}:\n{logs}"
            time.sleep(0.2)

    def kill(self, address: str) -> None:
        """Have a node vanish as a spot instance does: all of its processes at once."""
        process = self.nodes.pop(address)
        for each in _with_children(process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()

    def take_away(self, address: str, seconds: int) -> None:
        """Have a node told that it will be taken away, and then vanish."""
        nodes = self.get("/api/v0/nodes")["data"]["result"]["result"]
        (node,) = (n["node_id"] for n in nodes if (n["node_ip"], n["state"]) == (address, "ALIVE"))
        self._run(
            *("drain-node", "--address", self.address, "--node-id", node),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "wanted elsewhere"),
            *("--deadline-remaining-seconds", str(seconds)),
        )
        time.sleep(seconds)
        self.kill(address)

    def wait_for_driver(self, seconds: float = 600) -> None:
        """Wait until there is a process that runs ``hft-ray tune``."""
        self._wait_for(self._drivers, "driver", seconds)

    def kill_driver(self) -> None:
        """Kill the one process that runs ``hft-ray tune``."""
        (driver,) = self._drivers()
        driver.kill()

    def _drivers(self) -> list[psutil.Process]:
        each = [process for node in self.nodes.values() for process in _with_children(node.pid)]
        return [each for each in each if "bin/hft-ray tune" in _title(each).partition(" ")[2]]

    def workers(self, address: str | None = None) -> list[psutil.Process]:
        """The processes that train, on one node or on all."""
        nodes = [self.nodes[address]] if address else self.nodes.values()
        each = [process for node in nodes for process in _with_children(node.pid)]
        return [process for process in each if "TrainWorker" in _title(process)]

    def mapped(self, address: str) -> set[Path]:
        """Files of the cache that the workers of a node have mapped into their memory."""
        maps = [each.path for worker in self.workers(address) for each in worker.memory_maps()]
        return {Path(path) for path in maps if path.startswith(str(self.root / "cache"))}

    def of_sweeps(self) -> list[str]:
        """Command lines of the sweeps' processes that are there."""
        each = [process for node in self.nodes.values() for process in _with_children(node.pid)]
        titles = [_title(process) for process in each]
        return [title for title in titles if any(part in title for part in OURS)]

    def get(self, path: str) -> Any:
        """Ask the dashboard."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return requests.get(self.url + path, headers=headers, timeout=600).json()

    def _answers(self, path: str) -> bool:
        try:
            self.get(path)
        except (requests.RequestException, ValueError):
            return False
        return True

    def living(self, kind: str) -> list[dict[str, Any]]:
        """Return the cluster's ``actors`` or ``placement_groups`` that are not gone."""
        result = self.get(f"/api/v0/{kind}?limit=10000")["data"]["result"]["result"]
        return [each for each in result if each["state"] not in ("DEAD", "REMOVED")]

    def controlling(self) -> dict[str, str]:
        """Class of each living actor that trains nothing -> address of its node."""
        nodes = self.get("/api/v0/nodes")["data"]["result"]["result"]
        addresses = {each["node_id"]: each["node_ip"] for each in nodes}
        return {
            kind: addresses[each["node_id"]]
            for each in self.living("actors")
            for kind in CONTROLLING
            if kind in each["class_name"]
        }

    def wait_until_clean(self, seconds: float = 300) -> None:
        """Wait until no sweep has anything left on the cluster."""
        end = time.monotonic() + seconds
        while left := [
            *self.of_sweeps(),
            *({each["class_name"] for each in self.living("actors")} - {*RAYS}),
            *(each["placement_group_id"] for each in self.living("placement_groups")),
        ]:
            assert time.monotonic() < end, left
            time.sleep(0.5)

    def submit(self, job: str, *entrypoint: str) -> None:
        """Submit a job and leave it to run."""
        self._run(
            *("job", "submit", "--address", self.url, "--submission-id", job, "--no-wait"),
            *("--", *entrypoint),
        )

    def job(self, job: str) -> dict[str, Any]:
        """Return what Ray knows of a job."""
        return dict(self.get(f"/api/jobs/{job}"))

    def job_log(self, job: str) -> str:
        """Return what a job has printed."""
        return str(self.get(f"/api/jobs/{job}/logs")["logs"])

    def stop_job(self, job: str) -> None:
        """Ask a job to stop, as ``ray job stop`` does."""
        self._run("job", "stop", "--address", self.url, "--no-wait", job)

    def wait_for_job(self, job: str, seconds: float = 1800) -> dict[str, Any]:
        """Wait for a job's end; return what Ray knows of it."""
        ended = ("SUCCEEDED", "FAILED", "STOPPED")
        end = time.monotonic() + seconds
        while (known := self.job(job))["status"] not in ended:
            assert time.monotonic() < end, f"{job} does not end:\n{self.job_log(job)}"
            time.sleep(0.5)
        return known

    def wait_for_line(self, job: str, text: str, times: int = 1, seconds: float = 1800) -> None:
        """Wait until a job has printed ``text`` so many times."""
        end = time.monotonic() + seconds
        while (log := self.job_log(job)).count(text) < times:
            status = self.job(job)["status"]
            assert status in ("PENDING", "RUNNING"), f"{job} is {status}:\n{log}"
            assert time.monotonic() < end, f"{job} does not say {text!r}:\n{log}"
            time.sleep(0.3)

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            [BIN / "ray", *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def close(self) -> None:
        """End every node with all that runs there."""
        for address in list(self.nodes):
            os.killpg(self.nodes[address].pid, signal.SIGTERM)
            self.kill(address)


def _with_children(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def _free_port() -> int:
    with socket.socket() as server:
        server.bind((HEAD, 0))
        return int(server.getsockname()[1])
