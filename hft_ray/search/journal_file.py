"""The file of the study: one JSON line for each change, in the format of Optuna's journal storage.

Every change is one line at the end, and what is read is kept in memory: a database asks its file
anew for every trial that is under way, which takes longer than the sampler with many of them.
Optuna's own backend of this format reads and locks the file at every look; here one process alone
writes (the driver holds the sweep's lock). ``JournalFileBackend`` and Optuna's dashboard read the
file too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from hft_ray.config import ConfigError, Problem


class JournalFile(BaseJournalBackend):
    """The lines of one file, written by this process alone.

    Args:
        path: The file; made when it is missing.

    Raises:
        ConfigError: A line in the middle is damaged. A last one that a killed driver left half
            written is taken away: what it recorded had not happened yet.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        self._lines: list[dict[str, Any]] = []
        self._file.seek(0)
        lines = self._file.readlines()
        for number, line in enumerate(lines, start=1):
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("it is cut off")
                self._lines.append(json.loads(line))
            except ValueError as error:
                if number < len(lines):
                    problem = f"the sweep's memory is damaged: {error}"
                    raise ConfigError(Problem(f"{path}:{number}", problem)) from error
                self._file.truncate(sum(map(len, lines[:-1])))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the lines from the given number on."""
        yield from self._lines[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines; they outlive the process from here on, and the machine from ``sync`` on."""
        text = "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in logs)
        self._file.write(text.encode())
        self._file.flush()
        # As another process would read them: numbers of Optuna's own kinds become plain ones.
        self._lines += map(json.loads, text.splitlines())

    def sync(self) -> None:
        """Wait until every line is on disk."""
        os.fdatasync(self._file.fileno())
