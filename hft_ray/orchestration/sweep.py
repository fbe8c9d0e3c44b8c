"""A sweep from its FILE to its front: starts the parts, follows their events, ends them."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from contextlib import ExitStack, suppress
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.execution.placement_groups import PlacementGroupFactory

from hft_ray.background import BackgroundErrors
from hft_ray.config import Config, ConfigError, Problem
from hft_ray.orchestration import dispatcher as dispatchers
from hft_ray.orchestration.event_log import Journal
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.groups import Groups
from hft_ray.orchestration.itemwise import FolderAnswers
from hft_ray.orchestration.job import job_tags
from hft_ray.orchestration.kept_weights import KeptWeights
from hft_ray.orchestration.mirror import SweepMirror, sweep_in
from hft_ray.orchestration.recorder import Recorder
from hft_ray.orchestration.stopping import StopListener
from hft_ray.orchestration.sweep_view import SweepView, Watch
from hft_ray.orchestration.trial import ThinTrial
from hft_ray.pareto import Front
from hft_ray.search import Study
from hft_ray.search.prior_trials import WarmStart
from hft_ray.search.scheduler import StudyScheduler
from hft_ray.search.searcher import StudySearcher
from hft_ray.tracking import State, StopMode

log = logging.getLogger(__name__)
BASE = "base"
POLL_SECONDS = 0.5


class SweepError(RuntimeError):
    """The sweep cannot go on; what is finished is saved. The message says why."""


class InterruptedSweepError(RuntimeError):
    """The sweep was asked to end early; the same command goes on with it."""


def run_sweep(
    config: Config,
    folder: SweepFolder,
    watch: Watch,
    interrupted: threading.Event,
    errors: BackgroundErrors,
) -> Front:
    """Run a sweep, or what is left of it, on the joined Ray cluster.

    Args:
        config: FILE with ``search``; checked.
        folder: The sweep's folder, claimed.
        watch: Told every event, with the view as it is after it.
        interrupted: Set from outside to end early.
        errors: Told what goes wrong in the background, and what is left undone there.

    Returns:
        The front of all trials of the sweep, those of earlier commands included.

    Raises:
        ConfigError: The sweep is running already.
        SweepError: Nothing can train any more.
        InterruptedSweepError: ``interrupted`` was set, or ``hft-ray stop`` asked for the end.
    """
    with folder.held():
        try:
            return _Sweep(config, folder, watch, interrupted, errors).run()
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
    ) -> None:
        assert config.search is not None
        self.config, self.folder, self.search = config, folder, config.search
        self.watch, self.interrupted, self.errors = watch, interrupted, errors
        self.study = Study(config, folder.study, WarmStart.read(folder.warm))
        self.study.answers = FolderAnswers(folder)
        self.view = SweepView(config.name, self.study.planned(), config.cluster.groups)
        self.ended = [known for known in self.study.trials() if known.state != "running"]
        for known in self.ended:
            self.view.states[known.trial] = known.result.get("state", known.state)
        self.searcher = StudySearcher(self.study)
        self.journal = Journal(folder.events)
        errors.show = self._show
        self.recorder = Recorder(config, folder, job_tags(), errors, self._tracking_is_away)
        place = sweep_in(config)
        self.mirror = SweepMirror(place, folder, errors, self._mirror_is_behind) if place else None
        self.members: list[str] = []
        # Every trial under way writes its last weights, and those of steps before.
        spare = config.cluster.groups + (config.evaluation.every is not None)
        self.weights = KeptWeights(folder.weights, config.search.disk_bytes, spare)
        self.tune_error: BaseException | None = None
        self.seen = 0
        self.listener = StopListener(self.recorder.stop_requests(), self._stop, errors)
        self.draining = False

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
        state: State = "failed"
        self.journal.write("sweep_started", driver=os.getpid())
        try:
            groups.start()
            self._base()
            self.listener.start()
            self._trials()
            front = self._finish()
            if self.draining and self.study.left():
                raise InterruptedSweepError
            state = "complete"
            return front
        except InterruptedSweepError:
            state = "stopped"
            raise
        finally:
            # Last in, first out; what one part raises keeps no other from its end.
            with ExitStack() as ending:
                ending.callback(self._send_home, groups, wait=state == "complete")
                ending.callback(self.journal.write, "sweep_ended", state=state)
                if self.mirror is not None:
                    ending.callback(self.mirror.close)
                ending.callback(self.recorder.close, state)
                ending.callback(self.searcher.close)
                ending.callback(self.listener.close)

    def _send_home(self, groups: Groups, wait: bool) -> None:
        """End the workers and the dispatcher; a cluster out of reach has ended them itself."""
        with suppress(RayError):
            ray.get(self.dispatcher.close.remote())
            if wait:
                groups.join(seconds=15)
        groups.abandon()
        ray.kill(self.dispatcher)

    def _base(self) -> None:
        """Have the untouched model scored, and open the sweep in tracking."""
        self._phase("starting the workers and scoring the base model")
        ray.get(self.dispatcher.submit.remote(BASE, "base", {}))
        result = None
        while result is None:
            self._pump()
            result = ray.get(self.dispatcher.next_result.remote(BASE, 0, POLL_SECONDS))
        outcome = result["outcome"]
        if outcome["state"] != "complete":
            raise SweepError(f"the base model could not be scored: {outcome['reason']}")
        self.recorder.open(outcome["values"], outcome["worst"], self.ended)
        self.study.set_base_scores(outcome["values"], self.recorder.reference)
        self.view.front = self.recorder.front()
        # The driver before may have been killed while it did so.
        self._tidy(self.view.ended)
        if self.mirror is not None:
            self.mirror.update(self.view.ended)
        self._phase("searching")

    def _trials(self) -> None:
        """Run Tune in a thread (in the main one it would take over the signals); follow along."""
        thread = threading.Thread(target=self._tune, daemon=True, name="tune")
        thread.start()
        while thread.is_alive():
            self._pump()
        self._pump()
        if self.tune_error is not None:
            raise SweepError(f"Ray Tune ended: {self.tune_error}") from self.tune_error

    def _tune(self) -> None:
        try:
            if self.study.left():
                self._tuner(self.study.left()).fit()
        except BaseException as error:
            # Nobody else would hear of it in this thread.
            log.exception("Ray Tune ended")
            self.tune_error = error

    def _tuner(self, samples: int) -> tune.Tuner:
        # Its own resource, and no CPU: a thin trial must never wait for what its workers hold.
        # On the driver's node, since it would take its trial along when another is lost.
        here = [dispatchers.this_node()]
        resources = PlacementGroupFactory([{"memory": 1 << 20}], bundle_label_selector=here)
        return tune.Tuner(
            tune.with_resources(ThinTrial, resources),
            tune_config=tune.TuneConfig(
                trial_name_creator=_trial_id,
                trial_dirname_creator=_trial_id,
                search_alg=self.searcher,
                scheduler=StudyScheduler(self.study, self._ask_to_stop),
                num_samples=samples,
                max_concurrent_trials=self.config.cluster.groups,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=f"{self.config.name}-{os.getpid()}",
                storage_path=str(self.folder.path / "tune"),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                # A thin trial has nothing to save.
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
            ),
        )

    def _stop(self, mode: StopMode) -> None:
        """Follow a request that came through tracking."""
        if mode == "now":
            self.interrupted.set()
        else:
            self.draining = True
            self.searcher.drain()

    def _ask_to_stop(self, trial: str) -> None:
        ray.get(self.dispatcher.stop.remote(trial))

    def _pump(self) -> None:
        """Take the board's new events to tracking and to whoever watches."""
        if self.interrupted.is_set():
            raise InterruptedSweepError
        self.study.set_elapsed(self.view.elapsed)
        events = ray.get(self.dispatcher.events.remote(self.seen, POLL_SECONDS))
        self.seen += len(events)
        for event in events:
            self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        log.info("%s", {key: value for key, value in event.items() if key != "metrics"})
        if event["event"] == "told":
            self._phase(event["text"])
        if event["event"] == "troubled":
            self.errors.caught(event["work"], event["error"])
        if event["trial"] == BASE or not event["trial"]:
            return
        if event["event"] == "report" and event["last"]:
            self.study.trained(event["trial"], event["step"], event["metrics"])
        if event["event"] == "finished":
            # Tune tells the study too: whoever comes first counts, and both say the same. The study
            # alone decides what a trial without a finite value for every objective is.
            event |= self.study.tell(event["trial"], event)
        self.journal.take(event)
        event = event | {"configuration": self.study.configuration(event["trial"])}
        self.view.take(event)
        if event["event"] in ("submitted", "finished"):
            self.view.planned = self.study.planned()
        self.recorder.take(event)
        if event["event"] == "finished":
            self.view.front = self.recorder.front()
            self.recorder.log_front(self.view.front, self.view.finished)
            self._tell_front(self.view.front)
            self._tidy([event["trial"]])
        if event["event"] in ("submitted", "finished") and self.mirror is not None:
            self.mirror.update(self.view.ended)
        self.watch(event, self.view)

    def _tell_front(self, front: Front) -> None:
        members = [point.label for point in front.members]
        if members != self.members:
            self.members = members
            self.journal.write("front_changed", members=members, hypervolume=front.hypervolume)

    def _tracking_is_away(self, away: bool) -> None:
        self.journal.write("tracking_lost" if away else "tracking_regained")

    def _mirror_is_behind(self, reason: str) -> None:
        self.journal.write("mirror_behind", reason=reason)

    def _show(self, text: str) -> None:
        """Show a sentence that comes from a thread in the background."""
        self.watch({"event": "background", "trial": "", "text": text}, self.view)

    def _tidy(self, ended: list[str]) -> None:
        """Delete what trials that have ended need no more, and weights that left the front."""
        for trial in ended:
            shutil.rmtree(self.folder.checkpoints / trial, ignore_errors=True)
        if self.search.weights == "none":
            return
        assert self.view.front is not None
        self.weights.prune(self.view.front, self.view.ended)
        self.recorder.tell_weights(self.weights.told(self.view.front, self.view.ended))

    def _finish(self) -> Front:
        if self.study.ended_early is not None:
            self._phase(f"ended early: {self.study.ended_early}")
        self._phase("writing the report")
        self.view.front = self.recorder.write_report(self.study.trials())
        return self.view.front

    def _phase(self, phase: str) -> None:
        self.view.phase = phase
        self.watch({"event": "phase", "trial": ""}, self.view)


def _trial_id(trial: Any) -> str:
    """Return our own id of a Tune trial, which the Ray dashboard then shows."""
    name: str = trial.config["trial"]
    return name
