"""From a sweep's events to tracking, and from its trials to the front."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from hft_ray.background import BackgroundErrors
from hft_ray.config import STDERR, Config, ConfigError, Problem
from hft_ray.config.keys import settings, with_settings
from hft_ray.config.load import parse
from hft_ray.config.split import fixed_settings
from hft_ray.evaluation.item_scores import ItemScores, write_all
from hft_ray.orchestration.folder import SweepFolder, to_yaml
from hft_ray.orchestration.itemwise import SCORES, item_scores_in, item_scores_of, with_answers
from hft_ray.orchestration.report import write_front
from hft_ray.pareto import (
    Front,
    Limit,
    Point,
    Preferred,
    arm_of,
    build_front,
    render_selection,
    render_sequence,
    sequence_csv,
)
from hft_ray.search import FULL, Known
from hft_ray.tracking import (
    COST,
    DRIVER,
    FAULT,
    SHOWN,
    State,
    StopRequests,
    SweepRecord,
    Tracker,
    artifact_location,
    points_from_tracking,
    read_sweep,
    run_key,
    tracking_uri,
)


class Recorder:
    """Writes a sweep to MLflow and builds its front.

    Args:
        config: FILE.
        folder: The sweep's folder, for the report and the tracking spool.
        tags: Further tags of the sweep's run.
        errors: Told what goes wrong with tracking.
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
        self._config, self._search, self._folder = config, config.search, folder
        self._tags = dict(tags)
        uri = self._uri = tracking_uri(config.tracking.uri, folder.root)
        # Another at every start, so that a request to stop has the right reader.
        self._driver = uuid4().hex
        self._tags |= {DRIVER: self._driver}
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
        self._open: set[str] = set()
        self._queued: dict[str, float] = {}
        self._params: dict[str, dict[str, Any]] = {}
        self._weights: dict[str, str] = {}

    def open(
        self, base: Mapping[str, float], worst: Mapping[str, float], ended: Iterable[Known]
    ) -> None:
        """Start the sweep's run, or go on with it.

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
        self._tracker.open_sweep(config.name, to_yaml(config), settings(config), self._tags)
        self._tracker.describe_front(self._search.objectives, self._reference, self._base)
        for known in ended:
            resolved = settings(with_settings(config, known.params))
            self._tracker.settle_trial(known.trial, resolved, **_end(known))
            self._tag(known.trial, None, known.configuration, resolved)
            self._tag_fault(known.trial, known.result)
            self._variants(known.trial, known.configuration, known.params, known.result)

    @property
    def reference(self) -> dict[str, float]:
        """Objective -> the worst value that counts for the hypervolume."""
        return self._reference

    def stop_requests(self) -> StopRequests:
        """Return where requests to end this sweep arrive, once it is open."""
        return StopRequests(self._uri, self._tracker.run_id, self._driver)

    def take(self, event: Mapping[str, Any]) -> None:
        """Write what an event of the board tells."""
        trial = event["trial"]
        match event["event"]:
            case "submitted":
                resolved = settings(with_settings(self._config, event["settings"]))
                self._open.add(trial)
                self._params[trial] = event["settings"]
                self._tracker.open_trial(trial, resolved, {})
                self._tag(trial, None, event["configuration"], resolved)
                self._queued[trial] = event["time"]
            case "retried":
                self._queued[trial] = event["time"]
            case "started":
                waited = event["time"] - self._queued.pop(trial, event["time"])
                self._tracker.log(trial, event["attempt"], {"system/queue_seconds": waited})
            case "report":
                self._tracker.log(trial, event["step"], event["metrics"])
            case "finished":
                self._open.discard(trial)
                self._picture(trial, event)
                self._sequence(trial, event)
                self._tracker.finish_trial(trial, event["state"], event.get("reason"))
                self._tag_fault(trial, event)
                params = self._params.pop(trial, {})
                self._variants(trial, event["configuration"], params, event)

    def _picture(self, trial: str, event: Mapping[str, Any]) -> None:
        """Draw what was selected, of a trial that has selected something."""
        if not event.get("selection"):
            return
        self._folder.pictures.mkdir(parents=True, exist_ok=True)
        path = self._folder.pictures / f"{trial}.png"
        title = f"{trial} of {self._config.name}"
        render_selection(event["selection"], event["steps"], title, path)
        self._tracker.log_artifact(path, "selection.png", trial)

    def _sequence(self, trial: str, event: Mapping[str, Any]) -> None:
        """Write what a trial of tasks in turn scored after each: a table and its picture."""
        if not event.get("continual"):
            return
        self._folder.pictures.mkdir(parents=True, exist_ok=True)
        path = self._folder.pictures / f"{trial}-tasks"
        table, picture = path.with_suffix(".csv"), path.with_suffix(".png")
        table.write_text(sequence_csv(event["continual"]), encoding="utf-8")
        render_sequence(event["continual"], f"{trial} of {self._config.name}", picture)
        self._tracker.log_artifact(table, "tasks.csv", trial)
        self._tracker.log_artifact(picture, "tasks.png", trial)

    def _variants(
        self, trial: str, configuration: str, params: Mapping[str, Any], result: Mapping[str, Any]
    ) -> None:
        """Write what was made of a trained model, each as a run below the trial's."""
        resolved = settings(with_settings(self._config, params))
        for each in result.get("variants") or ():
            key = run_key(trial, each["variant"])
            self._tracker.settle_trial(key, resolved, each["step"], each["values"], "complete")
            self._tag(trial, each["variant"], configuration, resolved)

    def _tag(
        self, trial: str, variant: str | None, configuration: str, resolved: Mapping[str, Any]
    ) -> None:
        """Tag the run of a trial, or variant: its arm, and its configuration, if there are such."""
        arm = arm_of(resolved, variant)
        if arm is not None:
            self._tracker.set_arm(run_key(trial, variant), arm)
        if self._search.seeds > 1:
            self._tracker.set_configuration(run_key(trial, variant), configuration)

    def _tag_fault(self, trial: str, result: Mapping[str, Any]) -> None:
        if fault := result.get("fault"):
            self._tracker.set_trial_tags(trial, {FAULT: fault})

    def tell_weights(self, told: Mapping[tuple[str, str | None], str]) -> None:
        """Tag the runs with what became of their weights; what was told before costs nothing."""
        for (trial, variant), what in told.items():
            key = run_key(trial, variant)
            if self._weights.get(key) != what:
                self._weights[key] = what
                self._tracker.set_weights(key, what)

    def front(
        self, trials: Iterable[Known], models: Mapping[str, ItemScores] | None = None
    ) -> Front:
        """Return the front of the trials so far, with the item scores of its points if given."""
        points = [point for known in trials for point in points_of(known, self._config, self._run)]
        points = with_answers(points, models or {})
        return front_in(self._config, points, self._base, self._reference)

    def _run(self, key: str) -> str | None:
        return self._tracker.run_id(key)

    def log_front(self, front: Front, finished: int) -> None:
        """Log the front's size and hypervolume after so many finished trials."""
        size = float(len(front.averaged.members))
        metrics = {"front/hypervolume": front.hypervolume, "front/size": size}
        self._tracker.log_sweep(finished, metrics)

    def write_report(self, trials: Sequence[Known]) -> Front:
        """Write the front's files to the sweep's folder and to tracking; return the front."""
        models = item_scores_in(self._folder, trials)
        front = self.front(trials, models)
        pairs = zip(front.points, front.on_front, strict=True)
        self._tracker.set_pareto({run_key(point.trial, point.variant): on for point, on in pairs})
        # The run ids are part of the report: all are known once the tags of all are written.
        self._tracker.flush(timeout=30, artifacts=False)
        front = self.front(trials, models)
        folder = self._folder.path / "front"
        files = write_front(front, self._config, folder)
        if models:
            files.append(folder / SCORES)
            write_all(folder / SCORES, models)
        for file in files:
            self._tracker.log_artifact(file, f"front/{file.name}")
        return front

    def close(self, state: State) -> None:
        """End the sweep's run, those of trials that are still under way, and the writer."""
        for trial in sorted(self._open):
            reason = "the sweep ended before the trial; started again, it goes on with the trial"
            self._tracker.finish_trial(trial, "stopped", reason)
        if self._base:
            self._tracker.finish_sweep(state)
        # A Ray job has 30 s to stop in; what is not written by then is spooled.
        self._tracker.close(timeout=15 if state == "stopped" else 30)


def _end(known: Known) -> dict[str, Any]:
    result = known.result
    return {
        "step": int(result.get("step") or 0),
        "metrics": result.get("values") or {},
        "state": result.get("state") or known.state,
        "reason": result.get("reason"),
    }


def points_of(
    known: Known, config: Config, run_id: Callable[[str], str | None] = lambda key: None
) -> list[Point]:
    """Return what a front shows of a trial: the trained model, then its variants by their names.

    Args:
        known: The trial.
        config: FILE.
        run_id: Gives the run of ``run_key(trial, variant)``.
    """
    assert config.search is not None
    resolved = settings(with_settings(config, known.params))
    state = known.result.get("state") or known.state
    found: list[tuple[str | None, str, Mapping[str, Any]]] = [(None, state, known.result)]
    for each in sorted(known.result.get("variants") or (), key=lambda each: each["variant"]):
        found.append((each["variant"], "complete", each))
    return [
        Point(
            trial=known.trial,
            variant=variant,
            run_id=run_id(run_key(known.trial, variant)),
            state=state,
            step=int(result.get("step") or 0),
            params={key: resolved[key] for key in shown_params(config)},
            values=_shown(result.get("values") or {}, config, state),
            errors={
                name.removeprefix(STDERR): x
                for name, x in (result.get("values") or {}).items()
                if name.startswith(STDERR)
            },
            configuration=known.configuration if config.search.seeds > 1 else None,
        )
        for variant, state, result in found
    ]


def _shown(values: Mapping[str, float], config: Config, state: str) -> dict[str, float]:
    shown = SHOWN if state != "complete" else (*SHOWN, COST)
    named = shown_metrics(config)
    return {k: x for k, x in values.items() if k in named or k.startswith(shown)}


def shown_metrics(config: Config) -> set[str]:
    """Return the metrics that a point needs: the objectives, and what the constraints bound."""
    assert config.search is not None
    return {*config.search.objectives, *(each.metric for each in config.search.bounds)}


def shown_params(config: Config) -> list[str]:
    """Return the settings that a point carries: what trials may differ in."""
    assert config.search is not None
    fixed = [key for assignments in config.search.first for key in assignments]
    for name, arm in (config.search.arms or {}).items():
        fixed += [*arm.space, *fixed_settings(name, arm)]
    return list(dict.fromkeys([*config.search.space, *fixed, *FULL]))


def front_from_tracking(uri: str, experiment: str, name: str) -> Front:
    """Return the front of a sweep, rebuilt from what tracking knows.

    Raises:
        ConfigError: Tracking knows no such sweep, or no front of it.
    """
    record = read_sweep(uri, experiment, name)
    return front_of(record, config_of(record))


def config_of(record: SweepRecord) -> Config:
    """Return the FILE of a sweep that tracking knows."""
    return parse(record.artifact("config.yaml").decode("utf-8"), f"{record.name}: config.yaml")


def front_of(record: SweepRecord, config: Config) -> Front:
    """Return the front of a sweep that tracking knows; raises as :func:`front_from_tracking`."""
    if not record.objectives:
        problem = "the sweep has no front: it ended before the base model was scored"
        raise ConfigError(Problem("NAME", problem, record.name))
    points = [
        # As the search keeps them: a value that is not finite is no value.
        Point(**vars(each) | {"values": {k: x for k, x in each.values.items() if math.isfinite(x)}})
        for each in points_from_tracking(record, shown_params(config), shown_metrics(config))
    ]
    # By number and name: two trials, or variants, may start in the same moment.
    points.sort(key=lambda point: (len(point.trial), point.trial, point.variant or ""))
    points = with_answers(points, item_scores_of(record))
    return front_in(config, points, record.base, record.reference_point)


def front_in(
    config: Config,
    points: Sequence[Point],
    base: Mapping[str, float],
    reference: Mapping[str, float],
) -> Front:
    """Return the front of a sweep's points under FILE's objectives, constraints and preference."""
    search = config.search
    assert search is not None
    limits = [Limit(each.metric, each.sign, each.limit(base)) for each in search.bounds]
    wanted = search.preference
    preferred = None if wanted is None else Preferred(wanted.weights, wanted.target)
    objectives = search.objectives
    return build_front(config.name, objectives, points, base, reference, limits, preferred)
