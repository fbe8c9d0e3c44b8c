"""A sweep's folder under the storage root, and whether FILE may continue the sweep in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from hft_ray.config import Config, ConfigError, Problem, Search
from hft_ray.config.keys import SPACE, settings
from hft_ray.config.load import parse
from hft_ray.config.rules.narrowing import widening_problems
from hft_ray.config.sections.section import NAME, NAMED
from hft_ray.out_folder import MARKER
from hft_ray.strict_json import dumps

FREE = ("search.trials", "search.seeds", "search.budget", "search.plateau", "cluster.")
"""Settings that may change when a sweep goes on: they extend or end it, or say where it runs."""
GROWING = ("search.trials", "search.seeds")
"""Those that may only become more."""
_BEFORE_THE_MARKER = ("driver.lock", "logs")


class SweepFolder:
    """``ROOT/sweeps/NAME``, or ``ROOT/simulated/NAME`` of a simulated sweep.

    Args:
        root: Storage root.
        name: Name of the sweep.
        simulated: Whether it is a simulated sweep.

    Raises:
        ConfigError: The name is not valid for a sweep; it could lead out of the root.
    """

    def __init__(self, root: Path, name: str, simulated: bool = False) -> None:
        if not NAME.fullmatch(name):
            raise ConfigError(Problem("NAME", f"is not a valid name of a sweep; {NAMED}", name))
        self.root = root
        self.path = root / ("simulated" if simulated else "sweeps") / name

    @property
    def config(self) -> Path:
        """FILE as it was given, overrides included."""
        return self.path / "config.yaml"

    @property
    def study(self) -> Path:
        """The Optuna study."""
        return self.path / "search.jsonl"

    @property
    def warm(self) -> Path:
        """The trials of earlier sweeps that the search starts from."""
        return self.path / "warm.json"

    @property
    def events(self) -> Path:
        """The sweep's events, a line each."""
        return self.path / "events.jsonl"

    @property
    def logs(self) -> Path:
        """Folder of log files."""
        return self.path / "logs"

    @property
    def weights(self) -> Path:
        """Folder of the weights that are kept for export."""
        return self.path / "weights"

    @property
    def scores(self) -> Path:
        """Folder of the scores of single items: ``base`` and for each trial a folder."""
        return self.path / "scores"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints of trials under way."""
        return self.path / "checkpoints"

    @property
    def pictures(self) -> Path:
        """Folder of one picture for each trial, of its selection."""
        return self.path / "selection"

    @property
    def spool(self) -> Path:
        """Folder in which events wait that tracking has not taken."""
        return self.path / "spool"

    @property
    def report(self) -> Path:
        """The interactive picture of the front."""
        return self.path / "front" / "front.html"

    def check(self, config: Config, fresh: bool) -> None:
        """Refuse a FILE that cannot continue the sweep in this folder; writes nothing.

        Args:
            config: FILE.
            fresh: Refuse any earlier sweep of this name.

        Raises:
            ConfigError: The name is taken (``fresh``), or the meaning of FILE has changed.
        """
        self.refuse_foreign()
        if not self.config.is_file():
            return
        if fresh:
            problem = (
                f"a sweep of this name lies in {self.path}; take another name or leave --fresh"
            )
            raise ConfigError(Problem("name", problem, config.name))
        self._refuse_changes(config)

    def refuse_foreign(self) -> None:
        """Refuse a folder with files that are not a sweep's, since a sweep deletes files in it.

        Raises:
            ConfigError: The folder is not one of a sweep.
        """
        if os.path.lexists(self.path) and not self.path.is_dir():
            problem = f"{self.path} is not a directory; take another name, or move it away"
            raise ConfigError(Problem("name", problem, self.path.name))
        found = sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []
        # A sweep of a version without the marker has both of these.
        ours = self._is_marked or (self.config.is_file() and self.study.is_file())
        foreign = [] if ours else [name for name in found if name not in _BEFORE_THE_MARKER]
        if foreign:
            problem = (
                f"{self.path} is not the folder of a sweep: it has {', '.join(foreign[:5])}; take "
                "another name, or another storage root"
            )
            raise ConfigError(Problem("name", problem, self.path.name))

    def mark(self) -> None:
        """Make the folder, if it does not exist, and mark it as a sweep's.

        Raises:
            ConfigError: The folder is not one of a sweep.
        """
        self.refuse_foreign()
        self.path.mkdir(parents=True, exist_ok=True)
        if not self._is_marked:
            self._marker.write_text(dumps({"sweep": self.path.name}) + "\n", encoding="utf-8")

    @property
    def _is_marked(self) -> bool:
        """Whether the marker is a sweep's: other commands have one of that name."""
        try:
            content = json.loads(self._marker.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(content, dict) and "sweep" in content

    @property
    def _marker(self) -> Path:
        return self.path / MARKER

    @cached_property
    def _lock(self) -> FileLock:
        return FileLock(self.path / "driver.lock")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the sweep's lock; may be nested.

        Raises:
            ConfigError: Another process holds it.
        """
        self.mark()
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            problem = "the sweep is running already, in another process"
            raise ConfigError(Problem("name", problem, self.path.name)) from None
        try:
            yield
        finally:
            self._lock.release()

    def check_free(self) -> None:
        """Refuse a sweep that another process runs, as :meth:`held` does; nothing is written."""
        if Path(self._lock.lock_file).exists():
            with self.held():
                pass

    def claim(self, config: Config) -> bool:
        """Make the folder, whose lock is held; return whether it has an earlier sweep to continue.

        Raises:
            ConfigError: Another command has claimed it since it was checked.
        """
        self.check(config, fresh=False)
        self.mark()
        continued = self.config.is_file()
        self.logs.mkdir(parents=True, exist_ok=True)
        # A process that is killed here leaves the old file or the new one.
        partial = self.config.with_suffix(".tmp")
        partial.write_text(to_yaml(config), encoding="utf-8")
        partial.replace(self.config)
        return continued

    def _refuse_changes(self, config: Config) -> None:
        earlier = parse(self.config.read_text("utf-8"), str(self.config))
        before, now = settings(earlier), settings(config)
        problems = [
            Problem(key, f"was {before.get(key)!r} when the sweep began; take another name", value)
            for key in sorted(before.keys() | now.keys())
            if (value := now.get(key)) != before.get(key) and not key.startswith((*FREE, SPACE))
        ]
        if earlier.search is not None and config.search is not None:
            problems += _order_problems(earlier.search, config.search)
            problems += widening_problems(config.search.space, earlier.search.space)
            for key in GROWING:
                if now[key] < before[key]:
                    problem = f"was {before[key]} when the sweep began; it can only be extended"
                    problems.append(Problem(key, problem, now[key]))
        if problems:
            raise ConfigError(problems)


def _order_problems(before: Search, now: Search) -> list[Problem]:
    """Refuse another order: arms get their trials, and the sampler its values, by order."""
    lists = (
        ("search.arms", list(before.arms or {}), list(now.arms or {})),
        ("search.objectives", list(before.objectives), list(now.objectives)),
    )
    return [
        Problem(key, f"had the order {', '.join(old)} when the sweep began; keep it", new)
        for key, old, new in lists
        if old != new and sorted(old) == sorted(new)
    ]


def to_yaml(config: Config) -> str:
    """Return what was set in FILE, as YAML."""
    raw: dict[str, Any] = config.model_dump(mode="json", exclude_unset=True)
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)
