"""A sweep in virtual time: the real study and the real rungs, learning curves instead of training.

``slots`` trials run at the same time, as on as many worker groups; times come from the curves. So
samplers, stopping and reports are tried out in seconds, for any number of groups.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hft_ray.config import Search
from hft_ray.pareto.spread import alpha_of, averages
from hft_ray.pareto.tilts import Tilt, tilt_of, tilts
from hft_ray.search.study import Study
from hft_ray.search.table import Curve


class Curves(Protocol):
    """Where learning curves come from."""

    def curve(self, trial: str, params: Mapping[str, Any]) -> Curve:
        """Return the scores of a trial by ascending step."""


@dataclass(frozen=True)
class SimulatedEvent:
    """An event of a simulated sweep.

    Attributes:
        time: Virtual seconds since the sweep began.
        kind: submitted, report or finished.
        trial: Its id.
        step: Its step.
        details: Settings when it was submitted, metrics when it reported, the outcome at its end.
    """

    time: float
    kind: str
    trial: str
    step: int
    details: dict[str, Any] = field(default_factory=dict)


def simulate(
    study: Study,
    curves: Curves,
    slots: int,
    interrupted: Callable[[], bool] = lambda: False,
    base: Mapping[str, float] | None = None,
) -> Iterator[SimulatedEvent]:
    """Run what is left of a sweep, event by event.

    Args:
        study: The sweep's study.
        curves: What each trial's training would have shown.
        slots: Trials at the same time.
        interrupted: Asked before each event; True ends the sweep, which may go on later.
        base: Scores of the untouched model, from which averages lead to the trained one.
    """
    order = itertools.count()
    running: list[tuple[float, int, _Running]] = []

    def go_on(now: float, one: _Running) -> None:
        heapq.heappush(running, (now, next(order), one))

    def fill(now: float) -> Iterator[SimulatedEvent]:
        while len(running) < slots and (known := study.next_trial()) is not None:
            curve = curves.curve(known.trial, known.params)
            yield SimulatedEvent(now, "submitted", known.trial, 0, known.params)
            go_on(now + curve[0].seconds, _Running(known.trial, curve))

    yield from fill(0.0)
    while running and not interrupted():
        now, _, one = heapq.heappop(running)
        study.set_elapsed(now)
        score = one.curve[one.place]
        if one.outcome is None:
            if score.failed is None:
                yield SimulatedEvent(now, "report", one.trial, score.step, score.metrics)
            one.outcome = _outcome(study, one)
            if one.outcome is None:
                one.place += 1
                go_on(now + one.curve[one.place].seconds - score.seconds, one)
                continue
            if one.outcome["state"] == "complete" and score.variants:
                variants, seconds = scored_variants(study.search, one.curve, base or {})
                one.outcome |= {"variants": variants, "seconds": score.seconds + seconds}
                study.trained(one.trial, score.step, score.metrics)
                go_on(now + seconds, one)
                continue
        ended = study.tell(one.trial, one.outcome)
        yield SimulatedEvent(now, "finished", one.trial, score.step, ended)
        yield from fill(now)


@dataclass
class _Running:
    """A trial under way: where on its curve it is, and how it ends once that is known."""

    trial: str
    curve: Curve
    place: int = 0
    outcome: dict[str, Any] | None = None


def _outcome(study: Study, one: _Running) -> dict[str, Any] | None:
    """Return how a trial ends at this score, None if it goes on."""
    score, last = one.curve[one.place], one.place == len(one.curve) - 1
    seen = {"step": score.step, "values": score.metrics, "seconds": score.seconds}
    if score.failed is not None:
        return {**seen, "state": "failed", "reason": score.failed}
    verdict = study.on_report(one.trial, score.step, score.metrics, last=last)
    if last:
        return {**seen, "state": "complete"}
    if verdict is not None and verdict.stop:
        return {**seen, "state": "stopped"}
    return None


def scored_variants(
    search: Search, curve: Curve, base: Mapping[str, float]
) -> tuple[list[dict[str, Any]], float]:
    """Return the recorded variants that a sweep with these settings scores, and the time they take.

    Of an average that is not recorded the nearest one in alpha stands for it, of one by depth the
    one whose shares are nearest.
    """
    wanted, end = search.variants, curve[-1]
    recorded = {alpha: name for name in end.variants if (alpha := alpha_of(name)) is not None}
    by_depth = {tilt: name for name in end.variants if (tilt := tilt_of(name)) is not None}
    names: list[str] = []

    def score(alpha: float) -> dict[str, float]:
        name = recorded[min(recorded, key=lambda other: abs(other - alpha))]
        names.append(name)
        return end.variants[name].metrics

    def score_tilt(tilt: Tilt) -> dict[str, float]:
        name = by_depth[min(by_depth, key=lambda other: math.dist(_ends(other), _ends(tilt)))]
        names.append(name)
        return end.variants[name].metrics

    uniform: dict[float, dict[str, float]] = {}
    if recorded:
        ends = dict(base), end.metrics
        uniform |= averages(wanted.averages, ends, search.objectives, score)
    if by_depth:
        known = {0.0: dict(base), **uniform, 1.0: end.metrics}
        list(tilts(wanted.depth, known, search.objectives, score_tilt))
    if wanted.half_reset:
        names += [name for name in end.variants if name.startswith("reset-")]
    made = {name: end.variants[name] for name in names}
    found = [{"variant": n, "step": end.step, "values": x.metrics} for n, x in made.items()]
    return found, sum(each.seconds for each in made.values())


def _ends(tilt: Tilt) -> Tilt:
    """Return the shares at the first and the last layer."""
    a, b = tilt
    return a, a + b
