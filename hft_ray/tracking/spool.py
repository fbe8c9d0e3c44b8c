"""A file of events that wait for the store, oldest first."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

from hft_ray.tracking.events import Event, from_line, to_line


class Spool:
    """Events on disk, one per line; read from the front, written at the end.

    The file is deleted once every event has been taken. After a crash all of them are read again,
    which is harmless: writing an event twice changes nothing. Threads may share a spool.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._offset = 0
        self._count = self._mend()

    def __len__(self) -> int:
        return self._count

    def append(self, events: Sequence[Event]) -> None:
        """Write the events at the end, all of them or none.

        Raises:
            OSError: The disk does not take them.
        """
        if not events:
            return
        lines = "".join(to_line(event) for event in events).encode()
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Without a buffer, which would be written once more when the file is closed.
            with self.path.open("ab", buffering=0) as file:
                end = file.tell()
                try:
                    _write(file, lines)
                except OSError:
                    file.truncate(end)
                    raise
            self._count += len(events)

    def take_over(self, other: Spool) -> int:
        """Move the events of another spool to the end; raises as :meth:`append`.

        Returns:
            How many lines were broken, and are skipped.
        """
        batch = other.peek(len(other))
        events = [event for event, _ in batch if event is not None]
        self.append(events)
        other.advance([length for _, length in batch])
        return len(batch) - len(events)

    def peek(self, longest: int) -> list[tuple[Event | None, int]]:
        """Return the oldest events, each with its length in the file; None is a broken line.

        Raises:
            OSError: The file cannot be read, or another program has changed it.
        """
        if not self._count:
            return []
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                lines = [line for line in (file.readline() for _ in range(longest)) if line]
        except FileNotFoundError:
            lines = []
        if not lines:
            missing = self._count
            with self._lock:
                self._offset, self._count = 0, self._mend()
            raise OSError(f"{self.path} was changed: {missing} events that waited there are gone")
        return [(_event(line), len(line)) for line in lines]

    def advance(self, lengths: Sequence[int]) -> None:
        """Forget the oldest events, given by their lengths."""
        with self._lock:
            self._offset += sum(lengths)
            self._count -= len(lengths)
            if not self._count:
                self.path.unlink(missing_ok=True)
                self._offset = 0

    def _mend(self) -> int:
        """Return the number of lines; a line cut off by a crash is ended, and skipped later."""
        if not self.path.exists():
            return 0
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            with self.path.open("ab") as file:
                file.write(b"\n")
            content += b"\n"
        return content.count(b"\n")


def _write(file: FileIO, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _event(line: bytes) -> Event | None:
    try:
        return from_line(line.decode("utf-8"))
    except ValueError:
        return None
