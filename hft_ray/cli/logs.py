"""The output of libraries goes to a log file, not to the terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from hft_ray.background import log_handler

PIPE_WIDTH = 160


@contextmanager
def shown(console: Console, logger: str, level: int = logging.INFO) -> Iterator[None]:
    """Show on the console what ``logger`` logs from ``level`` on, while the block runs."""
    source, handler = logging.getLogger(logger), _ConsoleHandler(console, level)
    before = source.level
    source.addHandler(handler)
    source.setLevel(min(level, source.getEffectiveLevel()))
    try:
        yield
    finally:
        source.removeHandler(handler)
        source.setLevel(before)


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console, level: int) -> None:
        super().__init__(level)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(record.getMessage(), soft_wrap=True, markup=False)


@contextmanager
def terminal(log: Path, quiet: bool = False) -> Iterator[Console]:
    """Yield a console on the terminal while everything else that is printed goes to ``log``.

    Libraries print from Python, from C++ and from processes that they start. Redirecting the file
    descriptors catches all of it; only what is written to the yielded console is seen.

    Args:
        log: File to append to.
        quiet: Let the console write nothing either.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    # On the file itself: threads may still log while the command ends.
    logging.basicConfig(level=logging.INFO, handlers=[log_handler(log)], force=True)
    with os.fdopen(os.dup(kept[0]), "w", encoding="utf-8") as out:
        try:
            console = Console(file=out, quiet=quiet, highlight=False)
            if not console.is_terminal:
                # A file or a pipe has no width: columns of tables are not cut.
                console.width = PIPE_WIDTH
            yield console
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
