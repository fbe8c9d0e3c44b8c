"""A sweep from its FILE to its front.

A trial's reports go from the worker group through the board to Tune, whose scheduler may stop it,
and as events to the driver. Its end goes one way: worker, board, Tune, study, driver.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import ExitStack, suppress
from typing import Any

import ray
from ray.exceptions import RayError

from hft_ray.background import BackgroundErrors
from hft_ray.config import Config, ConfigError, Problem
from hft_ray.item_scores import BASE
from hft_ray.orchestration import dispatcher as dispatchers
from hft_ray.orchestration.event_handler import EventHandler
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.group_state import group_tags
from hft_ray.orchestration.groups import Groups
from hft_ray.orchestration.itemwise import FolderAnswers
from hft_ray.orchestration.stop_requests import StopListener
from hft_ray.orchestration.sweep_errors import InterruptedSweepError, SweepError
from hft_ray.orchestration.sweep_view import Watch
from hft_ray.orchestration.tune_run import TuneRun
from hft_ray.pareto import Front
from hft_ray.search import Study
from hft_ray.search.prior_trials import WarmStart
from hft_ray.tracking import State, StopMode

log = logging.getLogger(__name__)
POLL_SECONDS = 0.5
LOOK_SECONDS = 10.0
"""Longest wait for what the groups do; requests to stop are not heard meanwhile."""


def run_sweep(
    config: Config,
    folder: SweepFolder,
    watch: Watch,
    interrupted: threading.Event,
    errors: BackgroundErrors,
    source: str | None = None,
) -> Front:
    """Run a sweep, or what is left of it, on the joined Ray cluster.

    Args:
        config: FILE with ``search``; checked.
        folder: The sweep's folder, claimed.
        watch: Called with every event, and the view after it.
        interrupted: Set from outside to end early.
        errors: Takes the errors of background work, and what it leaves undone.
        source: FILE's path, None if the settings are a mapping.

    Returns:
        The front of all trials of the sweep, including those of earlier commands.

    Raises:
        ConfigError: The sweep is running already.
        SweepError: The base model cannot be scored, or Ray fails.
        InterruptedSweepError: ``interrupted`` was set, or ``hft-ray stop`` asked for the end.
    """
    with folder.held():
        try:
            return _Sweep(config, folder, watch, interrupted, errors, source).run()
        except RayError as error:
            log.exception("the sweep ended")
            raise SweepError(f"Ray: {str(error).strip().splitlines()[-1]}") from error


class _Sweep:
    """The driver's parts while a sweep runs."""

    def __init__(
        self,
        config: Config,
        folder: SweepFolder,
        watch: Watch,
        interrupted: threading.Event,
        errors: BackgroundErrors,
        source: str | None,
    ) -> None:
        self.config, self.folder = config, folder
        self.interrupted, self.errors = interrupted, errors
        self.study = Study(config, folder.study, WarmStart.read(folder.warm), ahead=True)
        self.study.answers = FolderAnswers(folder)
        self.handler = EventHandler(config, folder, self.study, watch, errors, source)
        requests = self.handler.recorder.stop_requests(self._groups_now)
        self.listener = StopListener(requests, self._on_stop_request, errors)
        self.seen = 0
        self.draining = False
        self.group_tags: dict[str, str] = {}

    def run(self) -> Front:
        """Run what is left and return the front."""
        cluster = self.config.cluster
        try:
            self.dispatcher = dispatchers.start(self.config.name, cluster.groups, cluster.retries)
        except ValueError:
            problem = "a sweep of this name is running on this Ray cluster"
            raise ConfigError(Problem("name", problem, self.config.name)) from None
        ray.get(self.dispatcher.events.remote(0, 0.0))
        groups = Groups(self.config, self.folder.root, self.dispatcher, self.errors)
        self.tune = TuneRun(self.config, self.folder, self.study, self.dispatcher)
        state: State = "failed"
        self.handler.journal.write("sweep_started", driver=os.getpid())
        try:
            groups.start()
            self._score_base()
            self.listener.start()
            self._run_trials()
            front = self._finish()
            if self.draining and self.study.left():
                raise InterruptedSweepError
            state = "complete"
            return front
        except InterruptedSweepError:
            state = "stopped"
            raise
        finally:
            # Last in, first out; an error of one part does not keep the others from ending.
            with ExitStack() as ending:
                ending.callback(self._shut_down, groups, wait=state == "complete")
                ending.callback(self.handler.close, state)
                ending.callback(self.tune.close)
                ending.callback(self.study.close)
                ending.callback(self.listener.close)

    def _shut_down(self, groups: Groups, wait: bool) -> None:
        """End the workers and the dispatcher; a cluster out of reach has ended them itself."""
        with suppress(RayError):
            ray.get(self.dispatcher.close.remote())
            if wait:
                groups.join(seconds=15)
        groups.abandon()
        ray.kill(self.dispatcher)

    def _score_base(self) -> None:
        """Have the untouched model scored, and open the sweep in tracking."""
        self.handler.show_phase("starting the workers and scoring the base model")
        ray.get(self.dispatcher.submit.remote(BASE, "base", {}))
        result = None
        while result is None:
            self._pump()
            result = ray.get(self.dispatcher.next_result.remote(BASE, 0, POLL_SECONDS))
        outcome = result["outcome"]
        if outcome["state"] != "complete":
            raise SweepError(f"the base model could not be scored: {outcome['reason']}")
        self.handler.open(outcome)
        self.handler.show_phase("searching")

    def _run_trials(self) -> None:
        self.tune.start()
        while self.tune.running:
            self._pump()
        self._pump()
        if (error := self.tune.error) is not None:
            raise SweepError(f"Ray Tune ended: {error}") from error

    def _on_stop_request(self, mode: StopMode) -> None:
        """Follow a request that came through tracking."""
        if mode == "now":
            self.interrupted.set()
        else:
            self.draining = True
            self.tune.drain()

    def _groups_now(self) -> dict[str, str]:
        """Return the tags that say what the groups do; the last ones if no answer comes."""
        try:
            now = ray.get(self.dispatcher.now.remote(), timeout=LOOK_SECONDS)
            self.group_tags = group_tags(now)
        except RayError as error:
            log.info("what the groups do is not known now: %r", error)
        return self.group_tags

    def _pump(self) -> None:
        """Take the new events of the board, then the trials that Tune says have ended."""
        if self.interrupted.is_set():
            raise InterruptedSweepError
        self.study.set_elapsed(self.handler.view.elapsed)
        # First the ends: by then the board has every report of these trials.
        ends = self.tune.take_ends()
        wait = 0.0 if ends else POLL_SECONDS
        for event in ray.get(self.dispatcher.events.remote(self.seen, wait)):
            self.seen += 1
            self._take(event)
        for trial, end in ends:
            self._take({**end, "event": "finished", "trial": trial, "time": time.time()})
            ray.get(self.dispatcher.release.remote(trial))

    def _take(self, event: dict[str, Any]) -> None:
        log.info("%s", {key: value for key, value in event.items() if key != "metrics"})
        match event["event"]:
            case "progress":
                self.handler.show_phase(event["text"])
            case "background_error":
                self.errors.caught(event["work"], event["error"])
            case _ if event["trial"] not in (BASE, ""):
                self.handler.take(event)

    def _finish(self) -> Front:
        if self.study.ended_early is not None:
            self.handler.show_phase(f"ended early: {self.study.ended_early}")
        self.handler.show_phase("writing the report")
        return self.handler.write_report()
