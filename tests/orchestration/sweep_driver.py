"""``hft-ray tune`` as users run it: a process of its own that is watched, and looked after."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml


class SweepDriver:
    """One run of ``hft-ray tune`` on a local Ray cluster.

    Args:
        file: FILE.
        root: Storage root.
        arguments: Further arguments.
    """

    def __init__(self, file: Path, root: Path, *arguments: str) -> None:
        self.root = root
        self.log = root / "sweeps" / yaml.safe_load(file.read_text())["name"] / "logs/driver.log"
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self.lines: list[str] = []
        environment = {
            **os.environ,
            "HFT_RAY_HOME": str(root),
            "OMP_NUM_THREADS": "1",
            # By default 15, with which a worker gets next to nothing of a machine that is busy.
            "RAY_worker_niceness": "0",
        }
        environment.pop("RAY_ADDRESS", None)
        self.errors = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed by close()
            "w+", dir=root.parent, suffix=".stderr", delete=False
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hft_ray", "tune", str(file), *arguments],
            cwd=root.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            # A process group of its own: Ctrl-C in a terminal goes to a whole group.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def error_output(self) -> str:
        return Path(self.errors.name).read_text()

    def events(self) -> list[str]:
        """The lines of the log that tell this run's events."""
        if not self.log.exists():
            return []
        with self.log.open(encoding="utf-8", errors="replace") as file:
            file.seek(self._log_start)
            return [line for line in file if "{'event':" in line]

    def wait_for_event(self, kind: str, trial: str, seconds: float = 480) -> None:
        end = time.monotonic() + seconds
        wanted = f"{{'event': '{kind}', 'trial': '{trial}'"
        while not any(wanted in line for line in self.events()):
            assert self.process.poll() is None, f"ended early:\n{self.said()}"
            assert time.monotonic() < end, f"no {kind} of {trial}:\n{self.said()}"
            time.sleep(0.1)

    def wait(self, seconds: float = 400) -> int:
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code

    def interrupt(self) -> None:
        """Do what Ctrl-C in a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def workers(self) -> list[psutil.Process]:
        """The processes that train."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                title = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if title.startswith("ray::") and "TrainWorker" in title:
                found.append(process)
        return found

    def open_to_others(self) -> list[str]:
        """Addresses, not of this machine alone, at which a process of the sweep listens.

        The workers' rendezvous is left out: torch's TCPStore listens everywhere, without a choice.
        """
        workers = self.workers()
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process in workers:
                    continue
                for connection in process.net_connections("tcp"):
                    address = connection.laddr.ip.removeprefix("::ffff:")
                    if connection.status == psutil.CONN_LISTEN and not address.startswith("127."):
                        found.append(f"{process.name()} {address}:{connection.laddr.port}")
        return found

    def left_behind(self, seconds: float = 20) -> list[str]:
        """Processes of this storage root that are still there after so many seconds."""
        end = time.monotonic() + seconds
        while found := [title for title in self._titles() if not title.startswith(_OF_RAY)]:
            if time.monotonic() > end:
                return found
            time.sleep(0.5)
        return []

    def _titles(self) -> Iterator[str]:
        for process in _of_root(self.root):
            with contextlib.suppress(psutil.Error):
                yield " ".join(process.cmdline()).strip()

    def said(self) -> str:
        return f"{self.output}\n{self.error_output}\n{''.join(self.events()[-20:])}"

    def close(self) -> None:
        """End whatever is still there."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in _of_root(self.root):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.errors.close()


# A raylet's helpers end by themselves when it is gone; on a loaded machine that takes Ray minutes.
_OF_RAY = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def _of_root(root: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HFT_RAY_HOME") != str(root) or process.pid == os.getpid():
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def write_file(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / f"{content['name']}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def read_front(root: Path, sweep: str) -> dict[str, Any]:
    return json.loads((root / "sweeps" / sweep / "front" / "front.json").read_text())
