"""What the driver does with a sweep's events: view, event log, tracking, front, weights, mirror."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from hft_ray.background import BackgroundErrors
from hft_ray.config import Config
from hft_ray.orchestration.event_log import Journal
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.job import job_tags
from hft_ray.orchestration.kept_weights import KeptWeights, disk_budget
from hft_ray.orchestration.recorder import Recorder
from hft_ray.orchestration.sweep_mirror import SweepMirror, sweep_in
from hft_ray.orchestration.sweep_view import SweepView, Watch
from hft_ray.pareto import Front
from hft_ray.search import Study
from hft_ray.tracking import JOB, State, source_tags


class EventHandler:
    """Keeps everything that shows or records a sweep up to date with its events.

    Args:
        config: FILE.
        folder: The sweep's folder.
        study: The sweep's study.
        watch: Called with every event, and the view after it.
        errors: Takes the errors of background work.
        source: FILE's path, None if the settings are a mapping.
    """

    def __init__(
        self,
        config: Config,
        folder: SweepFolder,
        study: Study,
        watch: Watch,
        errors: BackgroundErrors,
        source: str | None = None,
    ) -> None:
        assert config.search is not None
        self._folder, self._study, self._watch, self._errors = folder, study, watch, errors
        self.view = SweepView(config.name, study.planned(), config.cluster.groups)
        self._earlier = [known for known in study.trials() if known.state != "running"]
        for known in self._earlier:
            self.view.states[known.trial] = known.result.get("state", known.state)
        self.journal = Journal(folder.events)
        errors.show = self._show
        job = job_tags()
        tags = source_tags(source or "hft_ray.tune", JOB in job) | job
        self.recorder = Recorder(config, folder, tags, errors, self._on_outage)
        place = sweep_in(config)
        self._mirror = SweepMirror(place, folder, errors, self._on_lag) if place else None
        self._members: list[str] = []
        budget, intermediate = disk_budget(config, folder.weights), bool(config.evaluation.every)
        self._weights = KeptWeights(folder.weights, budget, intermediate)
        self._keeps_weights = config.search.weights != "none"

    def open(self, base: Mapping[str, Any]) -> None:
        """Open the sweep in tracking, when the base model has been scored.

        Args:
            base: Outcome of scoring it: ``values``, ``worst`` and ``best``, metric -> value.
        """
        self.recorder.open(base["values"], base["worst"], self._earlier)
        self._study.set_base_scores(base["values"], self.recorder.reference, base["best"])
        self.view.front = self.recorder.front()
        # The driver before may have been killed while it did so.
        self._clean_up(self.view.ended)
        self._update_mirror()

    def take(self, event: dict[str, Any]) -> None:
        """Take an event of the board, or ``finished``: the end of a trial."""
        trial, kind = event["trial"], event["event"]
        if kind == "report" and event["last"]:
            self._study.trained(trial, event["step"], event["metrics"])
        self.journal.take(event)
        event = event | {"configuration": self._study.configuration(trial)}
        self.view.take(event)
        self.recorder.take(event)
        if kind == "finished":
            self.view.front = self.recorder.front()
            self.recorder.log_front(self.view.front, self.view.finished)
            self._log_members(self.view.front)
            self._clean_up([trial])
        if kind in ("submitted", "finished"):
            self.view.planned = self._study.planned()
            self._update_mirror()
        self._watch(event, self.view)

    def show_phase(self, phase: str) -> None:
        """Show what the sweep is doing, in a few words."""
        self.view.phase = phase
        self._watch({"event": "phase", "trial": ""}, self.view)

    def write_report(self) -> Front:
        """Write the front's report and return the front."""
        self.view.front = self.recorder.write_report(self._study.trials())
        return self.view.front

    def close(self, state: State) -> None:
        """End the sweep in tracking, and bring the mirror up to date."""
        # Last in, first out; an error of one part does not keep the others from ending.
        with ExitStack() as ending:
            ending.callback(self.journal.write, "sweep_ended", state=state)
            if self._mirror is not None:
                ending.callback(self._mirror.close)
            ending.callback(self.recorder.close, state)

    def _log_members(self, front: Front) -> None:
        members = [point.label for point in front.members]
        if members != self._members:
            self._members = members
            self.journal.write("front_changed", members=members, hypervolume=front.hypervolume)

    def _clean_up(self, ended: Iterable[str]) -> None:
        """Delete the checkpoints of trials that have ended, and weights that left the front."""
        for trial in ended:
            shutil.rmtree(self._folder.checkpoints / trial, ignore_errors=True)
        if self._keeps_weights:
            assert self.view.front is not None
            self.recorder.tag_weights(self._weights.prune(self.view.front, self.view.ended))

    def _update_mirror(self) -> None:
        if self._mirror is not None:
            self._mirror.update(self.view.ended)

    def _on_outage(self, away: bool) -> None:
        self.journal.write("tracking_lost" if away else "tracking_regained")

    def _on_lag(self, reason: str) -> None:
        self.journal.write("mirror_behind", reason=reason)

    def _show(self, text: str) -> None:
        """Show a sentence that comes from a background thread."""
        self._watch({"event": "background", "trial": "", "text": text}, self.view)
