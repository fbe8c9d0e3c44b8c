"""The folder of ``--out``: a command writes there without harm to what is there already.

A command that may be run again into the same folder keeps a list, ``.hft-ray.json``, of what it
wrote: command -> paths within the folder. At a name that the command writes, only what is on the
list is replaced or deleted. Everything else there is refused before the command starts, and other
names are left alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from filelock import FileLock, Timeout

from hft_ray.config.errors import ConfigError, Problem

MARKER = ".hft-ray.json"
_LOCK = ".hft-ray.lock"
_OPTION = "--out"
_MOST_NAMED = 5
_NOTHING = re.compile(r"(?!)")


def check_new(out: Path, inputs: Mapping[str, str | Path]) -> None:
    """Refuse ``out`` for a command that makes a new directory: only an empty one may be there.

    Args:
        out: What ``--out`` names.
        inputs: What the command reads: setting or argument -> path; others than paths are allowed.

    Raises:
        ConfigError: There is something at ``out``, it cannot be made, or it lies inside an input.
    """
    _check_name(out)
    if os.path.lexists(out) and not _is_empty_folder(out):
        raise ConfigError(Problem(_OPTION, "exists already; name a new directory", str(out)))
    if problems := _place_problems(out, inputs):
        raise ConfigError(problems)


class OutFolder:
    """A folder that one command writes, maybe more than once.

    Args:
        path: What ``--out`` names.
        command: The command, as the list in the folder calls it.
        files: Names of the files that it writes there.
        folders: Names of the folders that it writes there.
        changing: Paths in these folders that come and go while it runs, and so are on no list.
    """

    def __init__(
        self,
        path: Path,
        command: str,
        files: Iterable[str],
        folders: Iterable[str] = (),
        changing: re.Pattern[str] = _NOTHING,
    ) -> None:
        self.path, self._command = path, command
        self._files, self._folders, self._changing = tuple(files), tuple(folders), changing

    def check(self, inputs: Mapping[str, str | Path]) -> None:
        """Refuse the folder if the command would harm anything; writes nothing.

        Args:
            inputs: As for :func:`check_new`.

        Raises:
            ConfigError: Something is in the way, or ``--out`` and an input lie in one another.
        """
        _check_name(self.path)
        problems = _place_problems(self.path, inputs)
        for what, read in _existing(inputs):
            if name := next((n for n in self._names if _within(read, self.path / n)), None):
                message = f"{what} is read from {name} in it, which this command replaces"
                problems.append(Problem(_OPTION, message, str(self.path)))
        if found := self._in_the_way():
            shown = ", ".join(found[:_MOST_NAMED]) + (", ..." if len(found) > _MOST_NAMED else "")
            message = (
                f"has {shown}, which no earlier hft-ray {self._command} is known to have written "
                "there; name another folder, or move that away"
            )
            problems.append(Problem(_OPTION, message, str(self.path)))
        if problems:
            raise ConfigError(problems)

    @contextmanager
    def held(self, inputs: Mapping[str, str | Path]) -> Iterator[None]:
        """Make the folder and lock it for this process.

        Raises:
            ConfigError: As :meth:`check`, or another process has it.
        """
        self.check(inputs)
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            message = "another command is writing there; name another folder, or wait for its end"
            raise ConfigError(Problem(_OPTION, message, str(self.path))) from None
        try:
            self.check(inputs)
            # None of these files is there, but for those of an earlier run.
            self._write([*self._files, *(path for path in self._own() if _lies(self.path / path))])
            yield
        finally:
            lock.release()

    def clear(self, *names: str) -> None:
        """Delete what an earlier run has left under ``names``, while the folder is held."""
        for path in (self.path / name for name in names):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def record(self, *names: str) -> None:
        """Put all that the command has written under ``names`` on the list."""
        found = [path for name in names for path in self._found(name)]
        self._write([*self._own(), *found])

    @property
    def _names(self) -> tuple[str, ...]:
        return (*self._folders, *self._files)

    def _in_the_way(self) -> list[str]:
        lists, lock = self._lists(), self.path / _LOCK
        if lists is None:
            return [MARKER]
        if _lies(lock) and (lock.is_symlink() or not lock.is_file()):
            return [_LOCK]
        own = set(self._own())
        return [
            path
            for name in self._names
            for path in self._found(name)
            if not (path in own or (self._command in lists and self._changing.fullmatch(path)))
            or (self.path / path).is_symlink()
            or (self.path / path).is_dir()
        ]

    def _found(self, name: str) -> list[str]:
        """Return the files and links at and below a name."""
        top = self.path / name
        if top.is_symlink() or not top.is_dir() or name in self._files:
            return [name] if _lies(top) else []
        below = sorted(path for path in top.rglob("*") if path.is_symlink() or not path.is_dir())
        return [path.relative_to(self.path).as_posix() for path in below]

    def _own(self) -> list[str]:
        return (self._lists() or {}).get(self._command, [])

    def _lists(self) -> dict[str, list[str]] | None:
        """Return command -> paths; None if what has the list's name is not one."""
        path = self.path / MARKER
        if not _lies(path):
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        right = isinstance(content, dict) and all(map(_is_list, content.values()))
        return content if right and not path.is_symlink() else None

    def _write(self, paths: Iterable[str]) -> None:
        content = (self._lists() or {}) | {self._command: sorted(set(paths))}
        with NamedTemporaryFile("w", encoding="utf-8", dir=self.path, delete=False) as partial:
            partial.write(json.dumps(content, indent=1) + "\n")
        Path(partial.name).replace(self.path / MARKER)


def _check_name(out: Path) -> None:
    """Refuse a name that the file system does not take: a long one, links in a circle."""
    try:
        os.lstat(out)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        problem = f"cannot be a directory: {error.strerror}"
        raise ConfigError(Problem(_OPTION, problem, str(out))) from error


def _place_problems(out: Path, inputs: Mapping[str, str | Path]) -> list[Problem]:
    """Return why nothing can, or should, be written to ``out``."""
    problems = []
    for what, read in _existing(inputs):
        if read.is_dir() and _within(out, read):
            message = f"must not be, or lie inside, what {what} names"
            problems.append(Problem(_OPTION, message, str(out)))
    above = next(path for path in (out, *out.absolute().parents) if _lies(path))
    if not above.is_dir():
        problems.append(Problem(_OPTION, f"{above} is not a directory", str(out)))
    elif not os.access(above, os.W_OK | os.X_OK):
        problems.append(Problem(_OPTION, f"{above} cannot be written", str(out)))
    return problems


def _existing(inputs: Mapping[str, str | Path]) -> Iterator[tuple[str, Path]]:
    for what, name in inputs.items():
        path = Path(name).expanduser()
        if path.exists():
            yield what, path


def _within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _lies(path: Path) -> bool:
    """Whether there is anything at ``path``, a broken link included."""
    return os.path.lexists(path)


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
