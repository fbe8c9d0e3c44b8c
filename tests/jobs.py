"""Jobs in forked processes: one interpreter has imported the engine, and every job is a fork of it.

Importing PyTorch, DeepSpeed and Transformers takes ten seconds of processor, more than most jobs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

WORKER = Path(__file__).parent / "training" / "lives_worker.py"


@dataclass(frozen=True)
class Lives:
    """What jobs came to.

    Attributes:
        folder: Where their results and logs are.
        exits: Name of the job -> ``codes`` and ``cpu_seconds``.
    """

    folder: Path
    exits: dict[str, Any]

    def codes(self, job: str) -> list[int]:
        """How the ranks ended: 0, or minus the signal that killed them."""
        return list(self.exits[job]["codes"])

    def result(self, job: str, rank: int = 0) -> Any:
        path = self.folder / f"{job}-{rank}.json"
        assert path.exists(), self.log(job)
        return json.loads(path.read_text())["result"]

    def log(self, job: str) -> str:
        return "".join(path.read_text()[-3000:] for path in self.folder.glob(f"{job}-?.log"))

    def weights(self, folder: str) -> str:
        """SHA-256 of the trained model's file."""
        return sha256(
            (self.folder / folder / "model" / "model.safetensors").read_bytes()
        ).hexdigest()


class Jobs:
    """The process that forks; see ``lives_worker``.

    Args:
        folder: For its error output.
    """

    def __init__(self, folder: Path) -> None:
        self._errors = folder / "errors.log"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                text=True,
            )

    def run(self, folder: Path, jobs: list[dict[str, Any]]) -> Lives:
        """Run jobs one after the other, with their results in ``folder``."""
        path = folder / "job.json"
        content = {"root": str(folder / "root"), "out": str(folder), "jobs": jobs}
        path.write_text(json.dumps(content), encoding="utf-8")
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n", self._errors.read_text()[-6000:]
        return Lives(folder, json.loads((folder / "exits.json").read_text()))

    def command(
        self, folder: Path, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``hft-ray`` in a process that has imported what it needs.

        Args:
            folder: For what it prints.
            arguments: Of the command.
            environment: Further variables.
        """
        job = {"name": "command", "ranks": 1, "command": arguments, "environment": environment}
        (code,) = self.run(folder, [job]).codes("command")
        told, errors = (folder / name for name in ("command-0.log", "command.stderr"))
        return subprocess.CompletedProcess(arguments, code, told.read_text(), errors.read_text())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
