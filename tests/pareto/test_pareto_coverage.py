"""Simulated sweeps from single answers: intervals hold the truth, of items, groups and seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import pytest

from hft_ray.evaluation import Score
from hft_ray.item_scores import Answers, ItemScores, Sample
from hft_ray.pareto import Point, merged
from hft_ray.pareto.certainty import contenders, measured
from hft_ray.pareto.dominance import minimised
from hft_ray.pareto.hypervolume import hypervolume
from hft_ray.pareto.uncertainty import hypervolume_estimate

OBJECTIVES = {"task/one": "max", "task/two": "max"}
GRADIENT = np.eye(2, 4, dtype=np.float32)
CORNER = np.zeros(2)
Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Case:
    """A kind of sweep; a model answers an item rightly when what follows is above 0.

        ability + seed * u_seed + group * d_group + item * d_item + e,    all standard normal

    Attributes:
        items: In each of two evaluations.
        size: Items of one group.
        low: Least ability; ``high`` the largest.
        seeds: Of every second configuration; the others have one.
    """

    items: int = 120
    size: int = 1
    low: float = -0.3
    high: float = 1.0
    seed: float = 0.0
    group: float = 0.0
    item: float = 1.5
    seeds: int = 1
    configurations: int = 10

    @property
    def scale(self) -> float:
        return math.sqrt(1 + self.seed**2 + self.group**2 + self.item**2)


CASES = {
    "items": Case(),
    "seeds": Case(seed=0.4, seeds=3),
    "seeds that matter little": Case(seed=0.1, seeds=3),
    "nearly all right": Case(items=60, low=2.5, high=5.0),
    "groups": Case(items=200, size=5, group=1.5),
    "groups and seeds": Case(items=200, size=5, group=1.5, seed=0.4, seeds=3),
}


def answered(rng, case, abilities):
    """Return one point for each seed of configurations with ``abilities`` (c, 2)."""
    names, groups = ("one", "two"), np.arange(case.items) // case.size
    hard = case.item * rng.standard_normal((2, case.items))
    hard += case.group * rng.standard_normal((2, case.items))[:, groups]
    told = dict.fromkeys(names, groups) if case.size > 1 else {}
    blank = {name: np.zeros(case.items, dtype=np.uint8) for name in names}
    base = ItemScores(blank, ("task/one", "task/two"), GRADIENT)
    sample = Sample(replace(base, groups=told, identities={name: name for name in names}))
    points = []
    for c, ability in enumerate(abilities):
        for k in range(case.seeds if c % 2 == 0 else 1):
            moved = ability + case.seed * rng.standard_normal(2)
            right = moved[:, None] + hard + rng.standard_normal(hard.shape) > 0
            scores = [Score.of("accuracy", x.astype(float).tolist(), worst=0.0) for x in right]
            if told:
                scores = [score.grouped(groups.tolist()) for score in scores]
            model = replace(base, items=dict(zip(names, right.astype(np.uint8), strict=True)))
            point = Point(
                *(f"t{c}.{k}", None, None, "complete", 1),
                values={name: s.value for name, s in zip(OBJECTIVES, scores, strict=True)},
                errors={name: s.stderr for name, s in zip(OBJECTIVES, scores, strict=True)},
                configuration=f"c{c}",
                answers=Answers(sample, model),
            )
            points.append(point)
    return merged(points)


def coverage(case, sweeps, *, volumes=True):
    """Return the share of intervals that hold the truth: of differences, of hypervolumes."""
    rng, differences, held = np.random.default_rng(5), [], []
    turn = np.linspace(0, np.pi / 2, case.configurations)
    shares = np.column_stack([np.cos(turn), np.sin(turn)])
    for seed in range(sweeps):
        abilities = case.low + (case.high - case.low) * shares * rng.uniform(0.7, 1, (len(turn), 1))
        truth = [[NormalDist().cdf(a / case.scale) for a in row] for row in abilities]
        points = answered(rng, case, abilities)
        costs, noise = measured(points, OBJECTIVES, points)
        off = costs[0] - costs[1] + np.subtract(truth[0], truth[1])
        differences += (np.abs(off) <= Z * noise.difference(0, 1)).tolist()
        if volumes:
            true = [dict(zip(OBJECTIVES, row, strict=True)) for row in truth]
            left = contenders(points, OBJECTIVES)
            found = hypervolume_estimate(*measured(left, OBJECTIVES, points), CORNER, seed)
            low, high = found.interval()
            held.append(low <= hypervolume(minimised(true, OBJECTIVES), CORNER) <= high)
    return np.mean(differences), np.mean(held) if held else None


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_interval_of_a_difference_holds_the_truth(case):
    few = replace(case, configurations=8)
    # Where nearly all answers are right the prior of a share makes intervals wide.
    assert 0.88 <= coverage(few, 60, volumes=False)[0] <= (1 if case.low > 1 else 0.995)


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_interval_of_the_hypervolume_holds_the_truth(case):
    differences, volumes = coverage(case, 150)
    print(f"{case}: differences {differences}, hypervolumes {volumes}")
    most = 1 if case.low > 1 else 0.99
    assert 0.90 <= differences <= most
    assert 0.88 <= volumes <= most
