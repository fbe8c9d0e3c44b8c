"""Benchmarks of many sweeps that go on where they stopped: a line of a file for each."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def run_all(out: Path, jobs: Iterable[Line], run: Callable[..., Line]) -> list[Line]:
    """Run the jobs that are missing in a file; return all lines of the file.

    Args:
        out: The file: a job and what came of it in each line.
        jobs: Arguments of ``run``, each.
        run: Returns what came of a job.
    """
    lines = (
        [json.loads(each) for each in out.read_text("utf-8").splitlines()] if out.exists() else []
    )
    for job in jobs:
        if any(job.items() <= line.items() for line in lines):
            continue
        lines.append(job | run(**job))
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(lines[-1]) + "\n")
    return lines


def print_how() -> None:
    """Print machine, versions and command."""
    libraries = ", ".join(f"{each} {version(each)}" for each in ("optuna", "botorch", "torch"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {libraries}")
    print(" ".join(sys.argv))
