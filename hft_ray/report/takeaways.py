"""What a user takes away from a front: at most three sentences."""

from __future__ import annotations

from dataclasses import dataclass

from hft_ray.pareto import Direction, Front, Point, noise_of, seed_covariance
from hft_ray.pareto.uncertainty import IntervalEstimate
from hft_ray.report.formatting import estimate_text, format_value, interval_text

MARGIN = 0.1
"""Share of what full fine-tuning has learned that a point may lack and still be as good."""


@dataclass(frozen=True)
class Takeaway:
    """Sentences, and the command that the last of them is about.

    Attributes:
        sentences: What is found.
        command: Writes the weights of the point that they recommend.
    """

    sentences: tuple[str, ...]
    command: str


def takeaway(front: Front) -> Takeaway | None:
    """Return what is to be said of a front (of means over seeds), None if it is empty.

    The first sentence reads the second objective at the first objective's value of full
    fine-tuning: of the best point that is at least as good there. The next one is about the best
    point that cannot be told from full fine-tuning there and is at most ``MARGIN`` worse, if it is
    clearly better in the second objective.
    """
    if front.knee_index is None:
        return None
    knee = front.points[front.knee_index]
    chosen, sentences = _beside_full(front)
    values = ", ".join(f"{name} {interval_text(knee, name)}" for name in front.objectives)
    sentences.append(f"The knee, the best compromise, is {knee.label}: {values}.")
    return Takeaway(tuple(sentences), _export(front.sweep, chosen or knee))


def _export(sweep: str, point: Point) -> str:
    key = point.trial if point.variant is None else f"{point.trial}+{point.variant}"
    return f"hft-ray export {sweep} --select trial:{key} --out DIR"


def _beside_full(front: Front) -> tuple[Point | None, list[str]]:
    """Return the point to take in place of full fine-tuning, and what it is better in."""
    at, *others = front.objectives
    full = best_full(front)
    if full is None or not others:
        return None, []
    name = others[0]
    sign = _sign(front, name)
    # Averages of full fine-tuning are what a user may take in place of it.
    rest = [p for p in front.members if not (p.full_fine_tuning and p.variant is None)]
    better = [p for p in rest if sign * (p.values[name] - full.values[name]) < 0]
    better.sort(key=lambda point: sign * point.values[name])
    reach = [p for p in better if _sign(front, at) * (p.values[at] - full.values[at]) <= 0]
    alike = [p for p in better if p not in reach and _as_good(front, p, full, at)]
    sentences = []
    if reach:
        level = f"At the {at} of full fine-tuning ({format_value(full.values[at])})"
        sentences.append(f"{level}, {_gain(front, reach[0], full, name)}.")
    if alike and (not reach or _clearly_less(front, alike[0], reach[0], name)):
        apart = _difference(front, alike[0], full, at)
        assert apart is not None
        alone = "it" if reach else "that of full fine-tuning"
        level = f"At a {at} that cannot be told from {alone} (difference {estimate_text(apart)})"
        sentences.append(f"{level}, {_gain(front, alike[0], full, name)}.")
        return alike[0], sentences
    if reach:
        return reach[0], sentences
    return None, [f"No point of the front reaches the {at} of full fine-tuning with less {name}."]


def _gain(front: Front, better: Point, full: Point, name: str) -> str:
    here, there = better.values[name], full.values[name]
    verb = "forgets" if name.startswith("forgetting/") else f"has a {name} of"
    text = f"{better.label} {verb} {format_value(here)} instead of {format_value(there)}"
    if _sign(front, name) > 0 and there > 0 and here >= 0:
        text += f": {1 - here / there:.0%} less"
    apart = _difference(front, better, full, name)
    return text if apart is None else f"{text}; difference {estimate_text(apart)}, 95 % interval"


def _clearly_less(front: Front, a: Point, b: Point, name: str) -> bool:
    """Return whether ``a`` is better than ``b`` by more than the 95 % interval."""
    apart = _difference(front, a, b, name)
    return apart is not None and max(_sign(front, name) * x for x in apart.interval()) < 0


def best_full(front: Front) -> Point | None:
    """Return the trained full fine-tuning that is best in the first objective.

    Among those as good there it is the best in the second one: a fair rival.
    """
    name, *others = front.objectives
    full = [
        point
        for point in front.points
        if point.full_fine_tuning and point.variant is None and point.eligible(front.objectives)
    ]
    best = min(full, key=lambda point: _sign(front, name) * point.values[name], default=None)
    if best is None or not others:
        return best
    alike = [best, *(point for point in full if _as_good(front, point, best, name))]
    return min(alike, key=lambda point: _sign(front, others[0]) * point.values[others[0]])


def _as_good(front: Front, a: Point, full: Point, name: str) -> bool:
    """Return whether the 95 % interval of the difference holds 0 and is nowhere beyond the margin.

    Without the margin the fewer the items, the worse a point could pass for as good.
    """
    apart = _difference(front, a, full, name)
    if apart is None:
        return False
    learned = abs(full.values[name] - (front.base_value(name) or 0.0))
    best, worst = sorted(_sign(front, name) * x for x in apart.interval())
    return best <= 0 <= worst <= MARGIN * learned


def _difference(front: Front, a: Point, b: Point, name: str) -> IntervalEstimate | None:
    """Return the paired difference of a metric, None where no error is known."""
    read: dict[str, Direction] = {name: "min"}
    known = [point for point in front.points if point.measured([name])]
    noise = noise_of([a, b], read, seed_covariance(known, read))
    if not noise.errors.any():
        return None
    return IntervalEstimate(a.values[name] - b.values[name], float(noise.difference(0, 1)[0]))


def _sign(front: Front, name: str) -> int:
    return -1 if front.objectives[name] == "max" else 1
