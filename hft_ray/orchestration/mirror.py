"""A sweep in the mirror: what another machine needs to go on with it when this one is lost.

``MIRROR/sweeps/NAME/`` has ``state-NUMBER`` (FILE, study, warm start; the newest counts),
``weights/TRIAL/SOURCE``, ``scores/TRIAL`` and ``checkpoints/TRIAL/step-N``, each a copy of its own.
Caches are made again, and MLflow is told again what it does not know.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection
from pathlib import Path

from hft_ray.config import Config, ConfigError, Problem
from hft_ray.mirror import Mirror, MirrorError
from hft_ray.orchestration.folder import SweepFolder

log = logging.getLogger(__name__)
_STATE = "state-"
_STATES_KEPT = 2
_RETRY_SECONDS = 30.0


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
    problem: MirrorError | None = None
    for name in sorted((each for each in names if each.startswith(_STATE)), reverse=True):
        try:
            place.get(name, folder.path)
        except MirrorError as error:
            log.warning("%s", error)
            problem = error
        else:
            return True
    if problem is not None:
        raise problem
    return False


def _fetch_result(place: Mirror, name: str, folder: SweepFolder) -> None:
    try:
        place.get(name, folder.path / name)
    except MirrorError as error:
        # The trial's result stands; only its export, or what its items tell, is lost.
        log.warning("%s", error)


class SweepMirror:
    """Keeps the mirror's copy of a sweep up to date, from a thread of its own.

    Args:
        place: The sweep's place in the mirror.
        folder: The sweep's folder.
        on_problem: Told one sentence when the mirror does not take something; it is tried again.
    """

    def __init__(
        self, place: Mirror, folder: SweepFolder, on_problem: Callable[[str], None]
    ) -> None:
        self._place, self._folder, self._on_problem = place, folder, on_problem
        self._ended: list[str] = []
        self._changed, self._closing = threading.Event(), threading.Event()
        self._behind = False
        self._thread = threading.Thread(target=self._main, name="mirror", daemon=True)
        self._thread.start()

    def update(self, ended: Collection[str]) -> None:
        """Take note that the folder has changed.

        Args:
            ended: The trials that have ended, and write no more.
        """
        self._ended = list(ended)
        self._changed.set()

    def close(self) -> None:
        """Copy what is left and end."""
        self._closing.set()
        self._changed.set()
        self._thread.join()

    def _main(self) -> None:
        while not self._closing.is_set():
            self._changed.wait(_RETRY_SECONDS if self._behind else None)
            self._changed.clear()
            try:
                self._copy()
                self._behind = False
            except (MirrorError, OSError) as error:
                self._behind = True
                self._on_problem(f"the mirror is behind: {error}")

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
