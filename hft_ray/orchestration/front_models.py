"""Keeps the models in tracking up to date with the front: one for each of its points."""

from __future__ import annotations

from collections.abc import Sequence

from hft_ray.config import STDERR
from hft_ray.orchestration.seed_means import DEVIATION, MEAN, SeedMeans
from hft_ray.orchestration.sweep_data import data_of
from hft_ray.pareto import Front, Point
from hft_ray.tracking import DataSet, Tracker, names, run_key


class FrontModels:
    """Logs the models of points that enter the front, and marks those that leave it.

    Args:
        tracker: The sweep's tracker.
        seeds: Knows which configurations have all their seeds.
    """

    def __init__(self, tracker: Tracker, seeds: SeedMeans) -> None:
        self._tracker, self._seeds = tracker, seeds
        self._data: Sequence[DataSet] = ()
        self._logged: dict[str, bool] | None = None

    def open(self, base: Sequence[str], data: Sequence[DataSet]) -> None:
        """Log the base model, and the data sets that metrics are measured on.

        Args:
            base: The metrics of the sweep's run that are the base model's.
            data: The sweep's data sets.
        """
        self._data = data
        metrics = {name: data_of(name, data) for name in base}
        self._tracker.log_model(None, {}, {}, 0, metrics)

    def update(self, front: Front) -> None:
        """Log how the front has changed; the first call also what an earlier driver had not."""
        members = {run_key(each.trial, each.variant): each for each in front.members}
        before = self._logged or {}
        now = {key: self._seeds.all_ended(point) for key, point in members.items()}
        for key, point in members.items():
            if before.get(key) != now[key]:
                self._log(key, point, front.sweep)
        left = before.keys() - now.keys()
        for key in left:
            self._tracker.set_trial_tags(key, {names.PARETO: "false"})
        if left or (self._logged is None and front.points):
            self._tracker.log_members(members)
        self._logged = now

    def _log(self, key: str, point: Point, sweep: str) -> None:
        self._tracker.set_trial_tags(key, {names.PARETO: "true"})
        tags = {names.PARETO: "true", names.EXPORT: f"hft-ray export {sweep} --select trial:{key}"}
        if point.arm is not None:
            tags[names.ARM] = point.arm
        if point.configuration is not None:
            tags[names.CONFIGURATION] = point.configuration
        shown = [*point.values, *(STDERR + name for name in point.errors)]
        metrics = {name: data_of(name, self._data) for name in shown}
        if self._seeds.all_ended(point):
            # Not before: of several values MLflow's page of models shows the first.
            for name in point.values:
                metrics[MEAN + name] = metrics[DEVIATION + name] = metrics[name]
        self._tracker.log_model(key, point.params, tags, point.step, metrics)
