"""Long-lived worker groups: each is one Ray Train run whose workers take trial after trial.

A Ray Train run for each trial, the documented recipe, starts processes, imports libraries and makes
a process group each time; a worker group does this once.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig

from hft_ray.background import BackgroundErrors, Worker
from hft_ray.compat.ray_train import Trainer, found_no_room
from hft_ray.config import Config

log = logging.getLogger(__name__)


def _work(setup: dict[str, Any]) -> None:
    # Imported in the workers only: the import takes seconds, and Train's controllers load this
    # module too.
    from hft_ray.orchestration.worker import worker_main

    worker_main(setup)


class Groups:
    """Starts every worker group in its own thread and reports lost groups to the dispatcher.

    A group for which the cluster has no room waits for nodes that join; its placement group
    requests them from Ray's autoscaler.

    Args:
        config: FILE.
        root: Storage root.
        dispatcher: The dispatcher's handle.
        errors: Takes the groups that are lost.
    """

    def __init__(
        self, config: Config, root: Path, dispatcher: Any, errors: BackgroundErrors
    ) -> None:
        self._config, self._root, self._dispatcher = config, root, dispatcher
        self._errors = errors
        self._abandoned = False
        # Train's fit() installs signal handlers when it runs in the main thread.
        self._workers = [
            Worker(f"worker group {number}", partial(self._run, number), errors.caught)
            for number in range(config.cluster.groups)
        ]

    def start(self) -> None:
        """Start all groups."""
        for worker in self._workers:
            worker.wake()

    def join(self, seconds: float) -> None:
        """Wait for the groups to shut down."""
        for worker in self._workers:
            worker.close(seconds, drain=False)

    def abandon(self) -> None:
        """Ignore the groups from now on: they end with the sweep's Ray connection."""
        self._abandoned = True

    def _run(self, number: int) -> float | None:
        """Run a group to its end; return 0 to start again if the cluster has no room."""
        try:
            self._trainer(number).fit()
        except Exception as error:  # noqa: BLE001 - its trials must not wait
            if self._abandoned:
                return None
            if found_no_room(error):
                log.info("worker group %d waits for room on the cluster", number)
                ray.get(self._dispatcher.wait_for_room.remote(number))
                return 0.0
            log.warning("worker group %d is lost: %s", number, error)
            reason = (str(error).strip().splitlines() or [repr(error)])[-1]
            self._errors.tell(f"worker group {number} is lost: {reason}")
            ray.get(self._dispatcher.lose.remote(number, reason))
        return None

    def _trainer(self, number: int) -> Trainer:
        cluster = self._config.cluster
        resources = {"CPU": cluster.cpus_per_worker}
        if cluster.gpus_per_worker:
            resources["GPU"] = cluster.gpus_per_worker
        trials = self._config.search.trials if self._config.search else 1
        # Each attempt of a trial may cost a group its processes once.
        most = (trials + 1) * (cluster.retries + 1)
        return Trainer(
            _work,
            train_loop_config={
                "sweep": self._config.name,
                "group": number,
                "root": str(self._root),
                "config": self._config.model_dump(mode="json", exclude_unset=True),
            },
            scaling_config=ray.train.ScalingConfig(
                num_workers=cluster.workers,
                use_gpu=cluster.gpus_per_worker > 0,
                resources_per_worker=resources,
                placement_strategy=cluster.placement.upper(),
            ),
            torch_config=TorchConfig(backend=None),
            run_config=ray.train.RunConfig(
                name=f"{self._config.name}-group-{number}",
                storage_path=str(self._root / "sweeps" / self._config.name / "groups"),
                failure_config=ray.train.FailureConfig(
                    max_failures=most, controller_failure_limit=2
                ),
            ),
        )
