"""Background work that neither dies nor fails silently.

A :class:`Worker` is a thread, and :func:`repeat` an asyncio task, that calls a function repeatedly.
An unforeseen error of the function is logged and shown to the user; the work waits and continues.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

log = logging.getLogger(__name__)
RETRY = (1.0, 30.0)
"""First and longest pause after an error, in seconds; each is twice the one before."""
CLOSING_ATTEMPTS = 3
"""Attempts at pending work when the work is closed."""


def log_handler(file: Path) -> logging.Handler:
    """Return a handler of logging that appends to a command's log file."""
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


class BackgroundErrors:
    """Errors of the background work of a command; threads may share it.

    Attributes:
        show: Shows the user a sentence while the command runs.
        counts: Name of the work -> number of its errors.
        undone: Name of the work -> what it left undone, where that is and how to continue.
    """

    def __init__(self, show: Callable[[str], None] = lambda text: None) -> None:
        self.show = show
        self.counts: Counter[str] = Counter()
        self.undone: dict[str, str] = {}
        self._lock = threading.Lock()

    def caught(self, work: str, error: Exception | str) -> None:
        """Count an error and log it, with its traceback; show the first of each work."""
        trace = error if isinstance(error, Exception) else None
        log.error("error in the background (%s): %s", work, error, exc_info=trace)
        with self._lock:
            self.counts[work] += 1
            first = self.counts[work] == 1
        if first:
            self.tell(f"error in the background ({work}), it is tried again: {in_a_line(error)}")

    def tell(self, text: str) -> None:
        """Log a sentence and show it to the user."""
        log.warning(text)
        try:
            self.show(text)
        except Exception:
            # A closed terminal must not end the work.
            log.exception("not shown: %s", text)

    def leave(self, work: str, undone: str) -> None:
        """Record what a work has left undone at its end."""
        log.warning(undone)
        self.undone[work] = undone

    def summary(self) -> list[str]:
        """Return the lines for the user at the end, empty without errors."""
        counted = [
            f"{count} error{'s' if count > 1 else ''} in the background ({work})"
            + ("" if self.undone else "; nothing was lost")
            for work, count in sorted(self.counts.items())
        ]
        return counted + [self.undone[work] for work in sorted(self.undone)]


class Worker:
    """A thread that calls ``step`` whenever it is woken, until it is closed.

    Args:
        work: Name of the work, and of the thread.
        step: Does the pending work. Returns the seconds after which it is called again without
            being woken, or None.
        on_error: Called with ``work`` and an error of ``step``.
        retry: First and longest pause after an error, in seconds.
    """

    def __init__(
        self,
        work: str,
        step: Callable[[], float | None],
        on_error: Callable[[str, Exception], None],
        retry: tuple[float, float] = RETRY,
    ) -> None:
        self.work = work
        self._step, self._on_error, self._retry = step, on_error, retry
        self._changed = threading.Condition()
        self._woken, self._failures = False, 0
        self._closing, self._drain = False, True
        self._thread = threading.Thread(target=self._run, name=work, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Have ``step`` called, once more if it is running."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self, timeout: float, drain: bool = True) -> bool:
        """End the thread.

        Args:
            timeout: Seconds to wait for it; a call that hangs longer is abandoned.
            drain: Call ``step`` for what is pending first, up to three times while it raises.

        Returns:
            Whether nothing is pending.
        """
        with self._changed:
            self._closing, self._drain = True, drain
            self._changed.notify_all()
        self._thread.join(timeout)
        return not (self._thread.is_alive() or self._pending)

    @property
    def _pending(self) -> bool:
        return self._woken or self._failures > 0

    def _run(self) -> None:
        pause = None
        while self._wait(pause):
            pause = self._call()
        for attempt in range(CLOSING_ATTEMPTS if self._drain else 0):
            if self._pending:
                time.sleep(backoff(self._retry, attempt) if attempt else 0.0)
                self._call()

    def _wait(self, pause: float | None) -> bool:
        """Wait for the next call; return whether there is to be one."""
        with self._changed:
            # After an error the pause counts, however often something wakes the thread.
            self._changed.wait_for(
                lambda: self._closing or (self._woken and not self._failures), pause
            )
            return not self._closing

    def _call(self) -> float | None:
        self._woken = False
        try:
            pause = self._step()
        except Exception as error:  # noqa: BLE001 - whatever it is, the work goes on
            self._failures += 1
            self._on_error(self.work, error)
            return backoff(self._retry, self._failures)
        self._failures = 0
        return pause


async def repeat(
    work: str,
    step: Callable[[], Awaitable[None]],
    every: float,
    on_error: Callable[[str, Exception], None],
    retry: tuple[float, float] = RETRY,
) -> None:
    """Call ``step`` every so many seconds until the task is cancelled, whatever it raises."""
    failures = 0
    while True:
        await asyncio.sleep(backoff(retry, failures) if failures else every)
        try:
            await step()
        except Exception as error:  # noqa: BLE001 - as above
            failures += 1
            on_error(work, error)
        else:
            failures = 0


def backoff(retry: tuple[float, float], failures: int) -> float:
    """Return the seconds to wait after so many failures in a row, at least one."""
    first, longest = retry
    return float(min(first * 2.0 ** min(failures - 1, 30), longest))


def in_a_line(error: Exception | str) -> str:
    """Return an error's type and message in a line."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]
