"""A sweep in virtual time: the real study and the real rungs, learning curves instead of training.

``slots`` trials run at the same time, as on as many worker groups; times come from the curves. So
samplers, stopping and reports are tried out in seconds, for any number of groups.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hft_ray.search.study import Study
from hft_ray.search.table import Curve, CurvePoint
from hft_ray.search.trial_snapshot import TrialSnapshot


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
    study: Study, curves: Curves, slots: int, interrupted: Callable[[], bool] = lambda: False
) -> Iterator[SimulatedEvent]:
    """Run what is left of a sweep, event by event.

    Args:
        study: The sweep's study.
        curves: What each trial's training would have shown.
        slots: Trials at the same time.
        interrupted: Asked before each event; True ends the sweep, which may go on later.
    """
    order = itertools.count()
    running: list[tuple[float, int, TrialSnapshot, Iterator[CurvePoint], CurvePoint]] = []

    def fill(now: float) -> Iterator[SimulatedEvent]:
        while len(running) < slots and (known := study.next_trial()) is not None:
            scores = iter(curves.curve(known.trial, known.params))
            yield SimulatedEvent(now, "submitted", known.trial, 0, known.params)
            first = next(scores)
            heapq.heappush(running, (now + first.seconds, next(order), known, scores, first))

    yield from fill(0.0)
    while running and not interrupted():
        now, _, known, scores, score = heapq.heappop(running)
        study.set_elapsed(now)
        following = next(scores, None)
        if score.failed is None:
            yield SimulatedEvent(now, "report", known.trial, score.step, score.metrics)
        outcome = _outcome(study, known.trial, score, following)
        if outcome is None:
            assert following is not None
            then = now + following.seconds - score.seconds
            heapq.heappush(running, (then, next(order), known, scores, following))
            continue
        ended = study.tell(known.trial, outcome)
        yield SimulatedEvent(now, "finished", known.trial, score.step, ended)
        yield from fill(now)


def _outcome(
    study: Study, trial: str, score: CurvePoint, following: CurvePoint | None
) -> dict[str, Any] | None:
    """Return how a trial ends at this score, None if it goes on."""
    seen = {"step": score.step, "values": score.metrics, "seconds": score.seconds}
    if score.failed is not None:
        return {**seen, "state": "failed", "reason": score.failed}
    verdict = study.on_report(trial, score.step, score.metrics, last=following is None)
    if following is None:
        return {**seen, "state": "complete"}
    if verdict is not None and verdict.stop:
        return {**seen, "state": "stopped"}
    return None
