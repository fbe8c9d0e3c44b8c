"""Writes a sweep's events to tracking and keeps its front."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from hft_ray.background import BackgroundErrors
from hft_ray.config import STDERR, Config
from hft_ray.config.keys import settings
from hft_ray.config.sections.arms import arm_of
from hft_ray.device_cost import DeviceCost, cost_of_workers, worker_seconds
from hft_ray.item_scores import ItemScores, write_all
from hft_ray.orchestration.folder import SweepFolder, to_yaml
from hft_ray.orchestration.front_models import FrontModels
from hft_ray.orchestration.fronts import TrialPoints, front_builder, searched
from hft_ray.orchestration.itemwise import SCORES, item_scores_in, with_answers
from hft_ray.orchestration.seed_means import SeedMeans
from hft_ray.orchestration.sweep_cost import DEVICE_HOURS, cost_facts
from hft_ray.orchestration.sweep_data import data_sets
from hft_ray.orchestration.trial_pictures import TrialPictures
from hft_ray.pareto import Front
from hft_ray.pareto.front import FrontBuilder
from hft_ray.report.files import write_front
from hft_ray.search import TrialSnapshot
from hft_ray.tracking import (
    State,
    StopRequests,
    Tracker,
    artifact_location,
    names,
    run_key,
    sweep_note,
    tracking_uri,
)


class Recorder:
    """Writes a sweep to MLflow and keeps its front up to date.

    Args:
        config: FILE.
        folder: The sweep's folder, for the report and the tracking spool.
        tags: Further tags of the sweep's run.
        errors: Takes the errors of background work.
        on_outage: Called with True when tracking is away, with False when it is back.
    """

    def __init__(
        self,
        config: Config,
        folder: SweepFolder,
        tags: Mapping[str, str],
        errors: BackgroundErrors | None = None,
        on_outage: Callable[[bool], None] = lambda away: None,
    ) -> None:
        assert config.search is not None
        errors = errors or BackgroundErrors()
        self._config, self._search, self._folder = config, config.search, folder
        uri = self._uri = tracking_uri(config.tracking.uri, folder.root)
        # A new id at every start, so that a request to stop reaches the driver it was meant for.
        self._driver = uuid4().hex
        note = sweep_note(config.name, self._search.objectives, self._search.seeds)
        self._sweep_tags = {names.NOTE: note, **tags, names.DRIVER: self._driver}
        # Files are hashed while the base model is scored.
        hashing = ThreadPoolExecutor(1)
        self._data = hashing.submit(data_sets, config)
        hashing.shutdown(wait=False)
        self._tracker = Tracker(
            uri,
            config.tracking.experiment,
            spool=folder.spool,
            artifacts=artifact_location(uri, folder.root),
            errors=errors,
            on_outage=on_outage,
        )
        self._base: dict[str, float] = {}
        self._reference: dict[str, float] = {}
        self._queued: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._running: dict[str, dict[str, Any]] = {}
        self._points = TrialPoints(config, self._tracker.run_id)
        self._pictures = TrialPictures(
            folder.pictures, config.name, self._tracker.log_artifact, errors
        )
        self._front: FrontBuilder | None = None
        limited = (each.metric for each in self._search.bounds)
        self._seeds = SeedMeans(
            self._tracker.log, [*self._search.objectives, *limited], self._search.seeds
        )
        self._models = FrontModels(self._tracker, self._seeds)
        self._weights: dict[tuple[str, str | None], str] = {}

    def open(
        self, base: Mapping[str, float], worst: Mapping[str, float], ended: Iterable[TrialSnapshot]
    ) -> None:
        """Start the sweep's run, or continue it.

        Args:
            base: Metric -> value of the untouched model.
            worst: Metric -> worst value, from which the reference point is taken.
            ended: The trials that earlier commands ended.
        """
        config = self._config
        self._base = {name: value for name, value in base.items() if not name.startswith(STDERR)}
        given = self._search.reference_point or {}
        self._reference = {
            name: given.get(name, worst.get(name, math.nan)) for name in self._search.objectives
        }
        self._tracker.open_sweep(config.name, to_yaml(config), settings(config), self._sweep_tags)
        data = self._data.result()
        self._tracker.log_data(data)
        self._tracker.describe_front(self._search.objectives, self._reference, self._base)
        self._models.open([f"{names.BASE_PREFIX}{name}" for name in self._base], data)
        self._front = self._builder()
        for known in ended:
            resolved = self._points.resolved(known.trial, known.params)
            result = {"state": known.state, **known.result}
            self._record_end(known.trial, known.configuration, resolved, result)
            self._put(known)
        self._models.update(self._front.front())
        self._pictures.start()

    @property
    def reference(self) -> dict[str, float]:
        """Objective -> the worst value that counts for the hypervolume."""
        return self._reference

    def stop_requests(self, state: Callable[[], Mapping[str, str]] = dict) -> StopRequests:
        """Return the requests to end this sweep, which arrive once it is open.

        ``state`` returns the tags that say what the sweep does now.
        """
        return StopRequests(self._uri, self._tracker.run_id, self._driver, state)

    def take(self, event: Mapping[str, Any]) -> None:
        """Write an event of a trial."""
        trial = event["trial"]
        match event["event"]:
            case "submitted":
                resolved = self._points.resolved(trial, event["settings"])
                self._running[trial] = resolved
                tags = self._tags(None, event["configuration"], resolved)
                self._tracker.open_trial(trial, resolved, tags)
                self._queued[trial] = event["time"]
            case "retried":
                self._queued[trial] = event["time"]
            case "started":
                waited = event["time"] - self._queued.pop(trial, event["time"])
                self._tracker.log(trial, event["attempt"], {"system/queue_seconds": waited})
            case "report":
                self._tracker.log(trial, event["step"], event["metrics"])
            case "finished":
                self._pictures.draw(trial, event)
                resolved = self._running.pop(trial, {})
                self._record_end(trial, event["configuration"], resolved, event)
                known = TrialSnapshot(trial, "running", {}, dict(event), event["configuration"])
                self._put(known)

    def _put(self, known: TrialSnapshot) -> None:
        """Put the points of a trial that has ended to the others."""
        if self._front is not None:
            points = self._points.of(known)
            self._front.put(known.trial, points)
            self._seeds.put(points)

    def _record_end(
        self,
        trial: str,
        configuration: str,
        resolved: Mapping[str, Any],
        result: Mapping[str, Any],
    ) -> None:
        """Write how a trial ended, and its variants, each as a run below the trial's."""
        self._seconds[trial] = worker_seconds(self._config.cluster, result)
        variants = [{**each, "state": "complete"} for each in result.get("variants") or ()]
        for end in (result, *variants):
            variant = end.get("variant")
            tags = self._tags(variant, configuration, resolved)
            if fault := end.get("fault"):
                tags[names.FAULT] = fault
            self._tracker.ensure_finished(
                run_key(trial, variant),
                resolved,
                tags,
                int(end.get("step") or 0),
                end.get("values") or {},
                end["state"],
                end.get("reason"),
            )

    def _tags(
        self, variant: str | None, configuration: str, resolved: Mapping[str, Any]
    ) -> dict[str, str]:
        """Return the tags of a trial or variant: its arm and its configuration, if it has them."""
        tags = {}
        if (arm := arm_of(resolved.get("arm"), variant, self._search.arms or {})) is not None:
            tags[names.ARM] = arm
        if self._search.seeds > 1:
            tags[names.CONFIGURATION] = configuration
        return tags

    def tag_weights(self, states: Mapping[tuple[str, str | None], str]) -> None:
        """Tag the run of each trial, or variant, with the state of its weights, where it is new."""
        for key, state in states.items():
            if self._weights.get(key) != state:
                self._weights[key] = state
                self._tracker.set_trial_tags(run_key(*key), {names.WEIGHTS: state})

    def front(self) -> Front:
        """Return the front of the trials that have ended so far."""
        assert self._front is not None
        return self._front.front()

    def _builder(self) -> FrontBuilder:
        return front_builder(self._config, self._base, self._reference)

    def log_front(self, front: Front, finished: int) -> None:
        """Log size, hypervolume and models of the front, and the cost, by finished trials."""
        metrics = {"front/hypervolume": front.hypervolume, "front/size": float(front.size)}
        metrics[DEVICE_HOURS] = self.cost.device_hours
        self._tracker.log_sweep(finished, metrics)
        self._models.update(front)

    @property
    def cost(self) -> DeviceCost:
        """What the trials that have ended so far have cost."""
        return cost_of_workers(self._config.cluster, sum(self._seconds.values()))

    def write_report(self, trials: Sequence[TrialSnapshot]) -> Front:
        """Write the front's files to the sweep's folder and to tracking; return the front."""
        models = item_scores_in(self._folder, trials)
        front = self._whole(trials, models)
        self._models.update(front)
        for point, on_front in zip(front.points, front.on_front, strict=True):
            tags = {names.PARETO: "true" if on_front else "false"}
            self._tracker.set_trial_tags(run_key(point.trial, point.variant), tags)
        # The run ids are part of the report; they are known when the tags are written.
        self._tracker.flush(timeout=30, artifacts=False)
        front = self._whole(trials, models)
        folder = self._folder.path / "front"
        files = write_front(front, searched(self._config), folder, cost_facts(self.cost))
        if models:
            files.append(folder / SCORES)
            write_all(folder / SCORES, models)
        for file in files:
            self._tracker.log_artifact(file, f"front/{file.name}")
        return front

    def _whole(self, trials: Iterable[TrialSnapshot], models: Mapping[str, ItemScores]) -> Front:
        """Return the front of all trials with their item scores and run ids."""
        builder = self._builder()
        for known in trials:
            builder.put(known.trial, with_answers(self._points.of(known), models))
        return builder.front()

    def close(self, state: State) -> None:
        """End the sweep's run, those of trials that are still under way, and the writer."""
        for trial in sorted(self._running):
            reason = "the sweep ended before the trial; started again, it continues the trial"
            self._tracker.finish_trial(trial, "stopped", reason)
        # A Ray job has 30 s to stop in; what is not done by then waits on disk.
        self._pictures.close(timeout=5 if state == "stopped" else 300)
        if self._base:
            self._tracker.finish_sweep(state)
        self._tracker.close(timeout=15 if state == "stopped" else 30)
