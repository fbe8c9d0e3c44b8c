"""Ray Tune over a sweep's study: the searcher, the scheduler and the trials' ends."""

from __future__ import annotations

import logging
import os
import threading
from queue import SimpleQueue
from typing import Any

import ray
from ray import tune
from ray.tune.execution.placement_groups import PlacementGroupFactory

from hft_ray.config import Config
from hft_ray.orchestration.dispatcher import this_node
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.trial import ThinTrial
from hft_ray.search import Study
from hft_ray.search.scheduler import StudyScheduler
from hft_ray.search.searcher import StudySearcher

log = logging.getLogger(__name__)


class TuneRun:
    """Runs Ray Tune in a thread, since in the main thread it would take over the signals.

    Args:
        config: FILE.
        folder: The sweep's folder.
        study: Gives the trials, and receives their ends.
        dispatcher: Handle of the dispatcher, which asks the workers to stop a trial.

    Attributes:
        error: What ended Tune, None if nothing did.
    """

    def __init__(self, config: Config, folder: SweepFolder, study: Study, dispatcher: Any) -> None:
        self._config, self._folder, self._study = config, folder, study
        self._dispatcher = dispatcher
        self._ends: SimpleQueue[tuple[str, dict[str, Any]]] = SimpleQueue()
        self._searcher = StudySearcher(study, lambda trial, end: self._ends.put((trial, end)))
        self._thread = threading.Thread(target=self._run, daemon=True, name="tune")
        self.error: BaseException | None = None

    def start(self) -> None:
        """Start the trials that are left."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether trials may still end."""
        return self._thread.is_alive()

    def take_ends(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the trials that ended since the last call, each with how it ended."""
        return [self._ends.get() for _ in range(self._ends.qsize())]

    def drain(self) -> None:
        """Start no more trials; those under way continue."""
        self._searcher.drain()

    def close(self) -> None:
        """Leave the trials under way to a later start of the sweep."""
        self._searcher.close()

    def _run(self) -> None:
        try:
            if left := self._study.left():
                self._tuner(left).fit()
        except BaseException as error:
            # The driver raises it in the main thread.
            log.exception("Ray Tune ended")
            self.error = error

    def _tuner(self, samples: int) -> tune.Tuner:
        # A resource of its own instead of a CPU: a thin trial must not wait for its workers' CPUs.
        # It runs on the driver's node, since it would take its trial along if another node is lost.
        resources = PlacementGroupFactory(
            [{"memory": 1 << 20}], bundle_label_selector=[this_node()]
        )
        return tune.Tuner(
            tune.with_resources(ThinTrial, resources),
            tune_config=tune.TuneConfig(
                trial_name_creator=_trial_id,
                trial_dirname_creator=_trial_id,
                search_alg=self._searcher,
                scheduler=StudyScheduler(self._study, self._stop),
                num_samples=samples,
                max_concurrent_trials=self._config.cluster.groups,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=f"{self._config.name}-{os.getpid()}",
                storage_path=str(self._folder.path / "tune"),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                # A thin trial has no state to save.
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
            ),
        )

    def _stop(self, trial: str) -> None:
        ray.get(self._dispatcher.stop.remote(trial))


def _trial_id(trial: Any) -> str:
    """Return our own id of a Tune trial, which the Ray dashboard then shows."""
    name: str = trial.config["trial"]
    return name
