"""``clusters/slurm.sh``: what it starts where, how signals reach the sweep, when it comes back.

Slurm's commands, Ray's and ours are scripts that write down how they were called. A real Slurm has
test_slurm_real.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from waiting import wait_for

SCRIPT = Path(__file__).resolve().parents[2] / "clusters" / "slurm.sh"
COMMANDS = {
    # As srun, it runs what follows its own options.
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "squeue": "echo $STATE",
    "scontrol": '[[ $1 == show ]] && printf "%s\\n" $NODES; true',
    "ray": "[[ $1 == start ]] && exec sleep 100; true",
    "python": "cat >/dev/null",
    "hostname": "echo 192.0.2.7 fe80::1",
    # It goes on for a moment after a signal, as a sweep does, and says which it was.
    "hft-ray": """trap 'sleep 0.3; exit 130' TERM; echo ready >>$CALLS
for _ in $(seq 50); do sleep 0.1; [[ -e $END ]] && exit $(<$END); done
exit 9""",
}


class Job:
    """A Slurm job on ``nodes``."""

    def __init__(self, folder: Path, nodes: str) -> None:
        self.calls, self.end = folder / "calls", folder / "end"
        self.calls.touch()
        commands = folder / "bin"
        commands.mkdir()
        for name, body in COMMANDS.items():
            path = commands / name
            path.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >>$CALLS\n{body}\n')
            path.chmod(0o755)
        self.environment = {
            "PATH": f"{commands}:/usr/bin:/bin",
            "HOME": str(folder),
            "HFT_RAY_HOME": str(folder / "home"),
            "SLURM_JOB_ID": "123",
            "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURM_CPUS_ON_NODE": "8",
            "SLURM_SUBMIT_DIR": str(folder),
            "NODES": nodes,
            "STATE": "RUNNING",
            "CALLS": str(self.calls),
            "END": str(self.end),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(SCRIPT), *arguments],
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def called(self, start: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if line.startswith(start)]


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_cluster_on_all_nodes_runs_the_sweep_and_ends_with_it(tmp_path, code):
    job = Job(tmp_path, "n1 n2 n3")
    job.end.write_text(str(code))
    process = job.start("f.yaml", "--set", "search.trials=3")
    assert process.wait(60) == code
    others, head = sorted(job.called("srun"), key=lambda line: "--head" in line)
    assert "--nodes=1 --ntasks=1 --nodelist=n1 ray start --head --block" in head
    assert "--node-ip-address 192.0.2.7 --port 20123" in head
    assert "--dashboard-host 127.0.0.1" in head
    assert "--nodes=2 --ntasks=2 --exclude=n1" in others
    assert "ray start --block --address 192.0.2.7:20123" in others
    assert job.called("ray get-auth-token") == ["ray get-auth-token --generate"]
    assert job.called("python")[0].endswith("192.0.2.7:20123 3")
    assert job.called("hft-ray") == ["hft-ray tune f.yaml --set search.trials=3"]
    assert not job.called("scontrol requeue")


def test_a_cluster_that_does_not_start_is_not_waited_for(tmp_path):
    job = Job(tmp_path, "n1")
    (tmp_path / "bin" / "ray").write_text("#!/usr/bin/env bash\n[[ $1 != start ]]\n")
    (tmp_path / "bin" / "python").write_text("#!/usr/bin/env bash\nexec sleep 100\n")
    process = job.start("f.yaml")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Ray on the first node has ended" in errors
    assert not job.called("hft-ray")


def test_one_node_is_reached_over_loopback_alone(tmp_path):
    job = Job(tmp_path, "n1")
    job.end.write_text("0")
    assert job.start("f.yaml").wait(60) == 0
    (head,) = job.called("srun")
    assert "--node-ip-address 127.0.0.1" in head


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_whose_time_is_up_ends_the_sweep_in_order_and_comes_back(tmp_path, number):
    job = Job(tmp_path, "n1")
    process = job.start("f.yaml")
    wait_for(lambda: job.called("ready"))
    os.kill(process.pid, number)
    assert process.wait(60) == 130
    assert job.called("scontrol requeue") == ["scontrol requeue 123"]


def test_a_job_that_was_cancelled_ends_the_sweep_in_order_and_does_not_come_back(tmp_path):
    job = Job(tmp_path, "n1")
    # As Slurm tells it from scancel on.
    job.environment["STATE"] = "COMPLETING"
    process = job.start("f.yaml")
    wait_for(lambda: job.called("ready"))
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) == 130
    assert not job.called("scontrol requeue")


def test_a_sweep_that_somebody_stopped_does_not_come_back(tmp_path):
    job = Job(tmp_path, "n1")
    job.end.write_text("130")
    assert job.start("f.yaml").wait(60) == 130
    assert not job.called("scontrol requeue")


@pytest.mark.parametrize(
    ("missing", "arguments", "said"),
    [
        (None, [], "give FILE"),
        ("SLURM_JOB_ID", ["f.yaml"], "inside a Slurm job"),
        ("HFT_RAY_HOME", ["f.yaml"], "set HFT_RAY_HOME"),
    ],
)
def test_what_is_missing_is_said_before_anything_starts(tmp_path, missing, arguments, said):
    job = Job(tmp_path, "n1")
    job.environment.pop(missing or "", None)
    process = job.start(*arguments)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said in errors
    assert not job.calls.read_text()
