"""The study's results: points of all sweeps of a task, several seeds as one.

They come from MLflow alone, or from sweeps that were kept as files (:mod:`kept`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from kept import kept_sweep
from sweeps import AGAIN, DEPTH, DRAWN, PARTS, SPACES, sweep_name

from hft_ray.config import Config, ConfigError
from hft_ray.device_cost import DEVICE_SECONDS
from hft_ray.item_scores import Answers
from hft_ray.orchestration.fronts import config_of, front_of
from hft_ray.pareto import Front, Point, build_front, merged
from hft_ray.tracking import SweepRecord, read_sweep, sweep_names

TASK = "task/answers"
LOST = "forgetting/english"
ALSO_LOST = ("forgetting/knowledge",)
"""Further measures of what is forgotten; LOST is the one that decides."""
EXPERIMENT = "hft-ray"
_UNCOUNTED = (
    *("name", "arm", "search", "cluster", "tracking", "evaluation"),
    *("training.log_every", "data.train", "data.replay.train"),
)


@dataclass(frozen=True)
class Sweep:
    """One sweep of the study.

    Attributes:
        part: Which of the parts it is.
        record: What MLflow has of it.
        config: Its FILE.
        front: Its front.
    """

    part: str
    record: SweepRecord
    config: Config
    front: Front

    @cached_property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Trial -> all settings that decide what it trains, but for seeds and places of data."""
        return {
            trial.trial: {
                key: value
                for key, value in trial.params.items()
                if not key.startswith(_UNCOUNTED) and not key.endswith(".seed")
            }
            for trial in self.record.trials
        }

    def points(self) -> list[Point]:
        """Return the points with arms and configurations that hold across the sweeps of a task.

        Leaves out the full fine-tuning that ``search-hft`` tries first: it cannot propose it. What
        ``again`` trains is an arm of its own: of seeds by which it was not chosen.
        """
        found = []
        for point in self.front.points:
            trained = self._arm(point)
            if trained is None:
                continue
            of_training = self.settings[point.trial]
            # Points of the arm that is made of full's models share the seeds of full.
            owner = "full" if trained == DEPTH else trained
            found.append(
                replace(
                    point,
                    arm=trained,
                    trial=f"{self.part}:{point.trial}",
                    configuration=json.dumps([owner, of_training], sort_keys=True, default=str),
                    params={**of_training, "arm": trained},
                )
            )
        return found

    def _arm(self, point: Point) -> str | None:
        if self.part == "search-hft" and point.params.get("selection.ratio") == 1:
            return None
        if self.part in SPACES:
            return self.part
        if point.arm is not None and point.arm.startswith(AGAIN):
            return point.arm.rpartition("-")[0]
        return point.arm


@dataclass(frozen=True)
class TaskResults:
    """What is known of a task.

    Attributes:
        task: Its name.
        sweeps: Part -> sweep; of those that there are.
    """

    task: str
    sweeps: Mapping[str, Sweep]

    @cached_property
    def points(self) -> list[Point]:
        """The points of all parts but ``draws``, several seeds of a configuration as one."""
        found: list[Point] = []
        for part, sweep in self.sweeps.items():
            if part != "draws":
                found += sweep.points()
        return [p for p in merged(found) if p.measured([TASK, LOST])]

    @property
    def arms(self) -> list[str]:
        """The methods that have points, in the order of their first ones."""
        return list(dict.fromkeys(point.arm for point in self.points if point.arm))

    @cached_property
    def base(self) -> Point:
        """The untouched model, which answers the same items as all others."""
        first = self.sweeps["arms"]
        values = dict(first.front.base)
        values |= dict.fromkeys((LOST, *ALSO_LOST), 0.0)
        known = next(
            (p.answers for p in first.front.points if isinstance(p.answers, Answers)), None
        )
        answers = None if known is None else Answers(known.sample, known.sample.base)
        return Point("base", None, None, "complete", 0, values=values, answers=answers)

    @property
    def front(self) -> Front:
        """The front of all points, as one sweep with arms would have it."""
        whole = self.sweeps["arms"].front
        several = [seed for point in self.points for seed in (point.seeds or (point,))]
        rules = (whole.base, whole.reference_point, whole.constraints, whole.preference)
        return build_front(self.task, whole.objectives, several, *rules)


class OtherItemsError(ValueError):
    """Sweeps of a task were scored on different items, or the base scored differently on them."""


def task_results(
    uri: str, task: str, content: Mapping[str, Any], kept: Path | None = None
) -> TaskResults | None:
    """Return what is known of a task, None if its first sweep is not complete.

    Args:
        uri: Tracking URI.
        task: Its name.
        content: Its FILE, whose name begins those of the sweeps.
        kept: Folder of kept sweeps, which come before those that MLflow has.

    Raises:
        OtherItemsError: The sweeps cannot be compared.
    """
    try:
        known = set(sweep_names(uri, EXPERIMENT))
    except ConfigError:  # nothing has been run yet
        known = set()
    found = {}
    for part in PARTS:
        name = sweep_name(content, part)
        record = None if kept is None else kept_sweep(kept, name)
        if record is None and name in known:
            record = read_sweep(uri, EXPERIMENT, name)
        if record is not None and record.state == "complete":
            config = config_of(record)
            found[part] = Sweep(part, record, config, front_of(record, config))
    if "arms" not in found:
        return None
    bases = {(part, _base_key(sweep)) for part, sweep in found.items()}
    if len({key for _, key in bases}) > 1:
        raise OtherItemsError(f"{task}: the base scored differently in {sorted(found)}")
    return TaskResults(task, found)


def _base_key(sweep: Sweep) -> tuple[Any, ...]:
    """Return what is the same in sweeps that scored the same items of the same base."""
    points = sweep.front.points
    items = next((p.answers.items for p in points if p.answers is not None), ())
    return items, *(round(sweep.front.base[name], 4) for name in sorted(sweep.front.base))


def runs_of(results: Sequence[TaskResults]) -> list[dict[str, Any]]:
    """Return one row per sweep: how its trials ended, all of them counted, and what it took."""
    rows: list[dict[str, Any]] = []
    for each in results:
        for part in PARTS:
            sweep = each.sweeps.get(part)
            if sweep is None:
                if part != "draws" or each.task in DRAWN:
                    rows.append({"task": each.task, "sweep": part, "planned": "not complete"})
                continue
            states = [trial.state for trial in sweep.record.trials]
            seconds = sum(t.metrics.get(DEVICE_SECONDS, 0.0) for t in sweep.record.trials)
            search = sweep.config.search
            assert search is not None
            rows.append(
                {
                    "task": each.task,
                    "sweep": part,
                    "planned": search.trials,
                    "complete": states.count("complete"),
                    "failed": states.count("failed"),
                    "other": len(states) - states.count("complete") - states.count("failed"),
                    "variants": len(sweep.record.variants),
                    "device hours": round(seconds / 3600, 2),
                }
            )
    return rows
