"""A sweep in the mirror: what another machine needs to go on with it when this one is lost.

``MIRROR/sweeps/NAME/`` has ``state-NUMBER`` (FILE, study, warm start; the newest counts),
``weights/TRIAL/SOURCE``, ``scores/TRIAL`` and ``checkpoints/TRIAL/step-N``, each a copy of its own.
Caches are made again, and what MLflow lacks is logged again.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from hft_ray.artifacts import Mirror, MirrorError, newest_whole
from hft_ray.background import BackgroundErrors, Worker
from hft_ray.config import Config, ConfigError, Problem
from hft_ray.orchestration.folder import SweepFolder

log = logging.getLogger(__name__)
_STATE = "state-"
_STATES_KEPT = 2
WORK = "mirror"
_RETRY = (2.0, 30.0)
_CLOSING_SECONDS = 600.0
"""How long the last copy may take: weights are large."""


def sweep_in(config: Config) -> Mirror | None:
    """Return a sweep's place in the mirror, None if there is no mirror."""
    uri = config.cluster.mirror
    return None if uri is None else Mirror(uri) / f"sweeps/{config.name}"


def checkpoints_in(config: Config, trial: str) -> Mirror | None:
    """Return the place of a trial's checkpoints in the mirror, None if there is no mirror."""
    place = sweep_in(config)
    return None if place is None else place / f"checkpoints/{trial}"


def restore(config: Config, folder: SweepFolder) -> bool:
    """Fetch a sweep that the storage root lacks from the mirror; return whether it was there.

    Raises:
        ConfigError: The mirror does not answer, or has the sweep but no state of it that is whole.
    """
    place = sweep_in(config)
    if place is None:
        return False
    folder.refuse_foreign()
    try:
        names = place.names()
        if folder.config.is_file():
            return False
        found = _fetch_state(place, names, folder)
        for name in names if found else []:
            if name.startswith(("weights/", "scores/")):
                _fetch_result(place, name, folder)
        return found
    except MirrorError as error:
        raise ConfigError(Problem("cluster.mirror", str(error))) from error


def _fetch_state(place: Mirror, names: Collection[str], folder: SweepFolder) -> bool:
    """Fetch the newest state that is whole; return whether there is any state at all.

    Raises:
        MirrorError: There are states, and all of them are damaged.
    """

    def fetch(name: str) -> str:
        place.get(name, folder.path)
        return name

    states = sorted((each for each in names if each.startswith(_STATE)), reverse=True)
    found, problems = newest_whole(states, fetch)
    if states and found is None:
        raise MirrorError("; ".join(problems))
    for problem in problems:
        log.warning("%s", problem)
    return found is not None


def _fetch_result(place: Mirror, name: str, folder: SweepFolder) -> None:
    try:
        place.get(name, folder.path / name)
    except MirrorError as error:
        # The trial's result stands; only its export, or its item scores, are lost.
        log.warning("%s", error)


class SweepMirror:
    """Keeps the mirror's copy of a sweep up to date, from a thread of its own.

    Args:
        place: The sweep's place in the mirror.
        folder: The sweep's folder.
        errors: Told when the mirror does not take something; it is tried again.
        on_behind: Called with the reason each time.
        retry: First and longest pause between two attempts, in seconds.
    """

    def __init__(
        self,
        place: Mirror,
        folder: SweepFolder,
        errors: BackgroundErrors,
        on_behind: Callable[[str], None] = lambda reason: None,
        retry: tuple[float, float] = _RETRY,
    ) -> None:
        self._place, self._folder = place, folder
        self._errors, self._on_behind = errors, on_behind
        self._ended: list[str] = []
        self._worker = Worker(WORK, self._copy, self._caught, retry)

    def update(self, ended: Collection[str]) -> None:
        """Take note that the folder has changed.

        Args:
            ended: The trials that have ended, and write no more.
        """
        self._ended = list(ended)
        self._worker.wake()

    def close(self) -> None:
        """Copy what is left and end."""
        if not self._worker.close(_CLOSING_SECONDS):
            self._errors.leave(
                WORK,
                f"the mirror {self._place.uri} is behind the sweep's folder {self._folder.path}; "
                "the same command brings it up to date.",
            )

    def _caught(self, work: str, error: Exception) -> None:
        self._errors.caught(work, error)
        self._on_behind(str(error))

    def _copy(self) -> None:
        names, ended = set(self._place.names()), set(self._ended)
        kept = {
            f"weights/{path.parent.name}/{path.name}": path
            for path in self._folder.weights.glob("[!.]*/[!.]*")
            if path.parent.name in ended
        }
        scores = {
            f"scores/{path.name}": path
            for path in self._folder.scores.glob("*/")
            if path.name in ended
        }
        copied = kept | scores
        for name in sorted(copied.keys() - names):
            self._place.put(copied[name], name)
        states = sorted(name for name in names if name.startswith(_STATE))
        self._put_state(1 + int(states[-1].removeprefix(_STATE)) if states else 0)
        gone = [name for name in names if name.startswith("weights/") and name not in kept]
        gone += states[: 1 - _STATES_KEPT or None]
        gone += [name for name in names if name.startswith("checkpoints/")]
        for name in gone:
            if not name.startswith("checkpoints/") or name.split("/")[1] in ended:
                self._place.delete(name)

    def _put_state(self, number: int) -> None:
        folder = self._folder
        with tempfile.TemporaryDirectory() as staged:
            for path in (folder.config, folder.warm):
                if path.is_file():
                    shutil.copy(path, staged)
            # The study is being written: the last line may be half of one.
            lines = folder.study.read_bytes() if folder.study.is_file() else b""
            (Path(staged) / folder.study.name).write_bytes(lines[: lines.rfind(b"\n") + 1])
            self._place.put(Path(staged), f"{_STATE}{number:08d}")
