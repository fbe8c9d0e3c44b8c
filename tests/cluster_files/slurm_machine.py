"""A Slurm of one node: this machine's, or Debian's packages unpacked into a folder."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
FOLDERS = ("usr/sbin", "usr/bin", "usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/slurm-wlm")


class NoSlurmError(Exception):
    """Slurm is not installed and cannot be downloaded; the message gives the reason."""


def unpacked(folder: Path) -> Path:
    """Download Debian's packages and unpack them into a folder; nothing is installed.

    Raises:
        NoSlurmError: This is not a Debian, or its archive is not reached.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise NoSlurmError("no slurmctld on the PATH, and this is not a Debian")
    debs = folder / "debs"
    debs.mkdir()
    asked = _run("apt-get", "-s", "install", "--no-install-recommends", *PACKAGES)
    needed = [line.split()[1] for line in asked.splitlines() if line.startswith("Inst ")]
    _run("apt-get", "download", *needed, cwd=debs)
    for deb in sorted(debs.glob("*.deb")):
        _run("dpkg-deb", "-x", str(deb), str(folder / "root"))
    return folder / "root"


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise NoSlurmError(f"{' '.join(command[:3])}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


class Slurm:
    """Controller, node and munge, as processes of this user, with everything in one folder.

    Args:
        environment: Variables of the jobs.

    Raises:
        NoSlurmError: There is none to start.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        # Sockets lie in it, and their paths have to be short.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self._started: list[subprocess.Popen[bytes]] = []
        try:
            installed = shutil.which("slurmctld") and shutil.which("munged")
            root = Path("/") if installed else unpacked(self.folder)
            folders = [str(root / each) for each in FOLDERS]
            self._plugins = root / FOLDERS[-1]
            self.environment = environment | {
                "PATH": os.pathsep.join([environment["PATH"], *folders[:2], "/usr/sbin"]),
                "SLURM_CONF": str(self.folder / "slurm.conf"),
            }
            if not installed:
                self.environment["LD_LIBRARY_PATH"] = os.pathsep.join(folders[2:])
            self._configure()
            self._start()
        except BaseException:
            self.close()
            raise

    def _configure(self) -> None:
        host = socket.gethostname().partition(".")[0]
        settings = {
            "ClusterName": "test",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": _free_port(),
            "SlurmdPort": _free_port(),
            "SlurmUser": getpass.getuser(),
            "SlurmdUser": getpass.getuser(),
            "StateSaveLocation": self.folder,
            "SlurmdSpoolDir": self.folder,
            "SlurmctldPidFile": self.folder / "slurmctld.pid",
            "SlurmdPidFile": self.folder / "slurmd.pid",
            "PluginDir": self._plugins,
            "AuthInfo": f"socket={self.folder / 'munge'}",
            "CredType": "cred/munge",
            "ProctrackType": "proctrack/pgid",
            "TaskPlugin": "task/none",
            "MpiDefault": "none",
            "ReturnToService": 2,
            "SelectType": "select/linear",
            # A sweep that is cancelled writes what it has, which takes a busy machine long.
            "KillWait": 300,
            "SlurmdTimeout": 600,
            "MessageTimeout": 60,
            "NodeName": f"{host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN",
            "PartitionName": f"all Nodes={host} Default=YES State=UP",
        }
        text = "".join(f"{key}={value}\n" for key, value in settings.items())
        (self.folder / "slurm.conf").write_text(text)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)

    def _start(self) -> None:
        self.folder.chmod(0o755)
        here = self.folder
        munge = ["munged", "--foreground", f"--key-file={here / 'munge.key'}", "--force"]
        munge += [f"--{name}-file={here / f'munge.{name}'}" for name in ("log", "pid", "seed")]
        self._spawn(*munge, f"--socket={here / 'munge'}")
        self._wait_for(lambda: (here / "munge").exists(), "munge")
        self._spawn(self._program("slurmctld"), "-D")
        # It has the place of this program from where it was built.
        self._spawn(self._program("slurmd"), "-D", "-d", self._program("slurmstepd"))
        self._wait_for(lambda: "idle" in self.call("sinfo", "-h", "-o", "%T"), "node")

    def _program(self, name: str) -> str:
        # Debian's names until its alternatives are set up, which unpacking does not do.
        path = self.environment["PATH"]
        found = shutil.which(name, path=path) or shutil.which(f"{name}-wlm", path=path)
        assert found is not None, name
        return found

    def _spawn(self, *command: str) -> None:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)

    def _wait_for(self, there, what: str, seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not there():
            assert time.monotonic() < end, f"no {what}:\n{self.log()}"
            time.sleep(0.2)

    def log(self) -> str:
        """Return what the services have said."""
        return (self.folder / "log").read_text(errors="replace")

    def call(self, *command: str, cwd: Path | None = None) -> str:
        """Run one of Slurm's commands; return its output."""
        done = subprocess.run(
            command, env=self.environment, cwd=cwd, capture_output=True, text=True, timeout=300
        )
        return done.stdout if done.returncode == 0 else f"failed: {done.stderr}"

    def state(self, job: str) -> str:
        """Return the state of a job, such as RUNNING, CANCELLED or COMPLETED."""
        facts = self.call("scontrol", "show", "job", job).split()
        (state,) = [each.partition("=")[2] for each in facts if each.startswith("JobState=")]
        return state

    def wait_for_end(self, job: str, seconds: float) -> str:
        """Wait until a job has ended; return its state."""
        running = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
        end = time.monotonic() + seconds
        while (state := self.state(job)) in running or "COMPLETING" in self._queue(job):
            assert time.monotonic() < end, f"job {job} is {state}:\n{self.log()}"
            time.sleep(0.5)
        return state

    def _queue(self, job: str) -> str:
        return self.call("squeue", "-h", "-o", "%T", "-j", job)

    def close(self) -> None:
        """End the services, the node's before the controller's, and what is left of jobs."""
        if len(self._started) > 1:
            for job in self.call("squeue", "-h", "-o", "%A").split():
                self.call("scancel", "--full", "--signal=KILL", job)
            with contextlib.suppress(AssertionError):
                self._wait_for(lambda: not self.call("squeue", "-h"), "end of the jobs", 60)
        for process in reversed(self._started):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("SLURM_CONF") == str(self.folder / "slurm.conf"):
                    process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
