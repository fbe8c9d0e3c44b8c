"""A front that grows trial by trial: the same as that of all at once, and quick."""

from __future__ import annotations

import random
import time

import pytest

from hft_ray.config.sections.constraints import Constraint
from hft_ray.pareto import Point, build_front
from hft_ray.pareto.front import FrontBuilder

TWO = {"task/score": "max", "forgetting/mean": "min"}
REFERENCE = {"task/score": 0.0, "forgetting/mean": 1.0}
MILLISECONDS = 100.0
"""A generous bound: it takes about 12 on an idle core."""


def points(trial, rng, configuration=None, state="complete"):
    return [
        Point(
            trial,
            variant,
            None,
            state,
            1,
            {},
            {"task/score": rng.random(), "forgetting/mean": rng.random()},
            configuration=configuration,
        )
        for variant in (None, "alpha-0.5")
    ]


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_front_that_grows_is_the_front_of_all_its_points(seeds):
    rng = random.Random(seeds)
    limit = Constraint("forgetting/mean", "<=", 0.8, False)
    rules = ({}, REFERENCE, [limit])
    builder = FrontBuilder("s", TWO, *rules)
    every = {}
    for number in range(30):
        trial = f"t{number:02d}"
        name = f"t{number - number % seeds:02d}" if seeds > 1 else None
        builder.put(trial, points(trial, rng, name, "running"))
        every[trial] = points(trial, rng, name)
        builder.put(trial, every[trial])
        flat = [point for each in every.values() for point in each]
        grown, whole = builder.front(), build_front("s", TWO, flat, *rules)
        assert grown == whole
        assert grown.size == len(grown.averaged.members)


def test_one_more_of_two_thousand_trials_is_quick():
    rng = random.Random(0)
    builder = FrontBuilder("s", TWO, {}, REFERENCE)
    for number in range(2000):
        builder.put(f"t{number}", points(f"t{number}", rng))
    builder.front()
    builder.put("more", points("more", rng))
    begin = time.thread_time()
    builder.front()
    assert 1000 * (time.thread_time() - begin) < MILLISECONDS
