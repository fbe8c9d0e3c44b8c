"""The race for further seeds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hft_ray.pareto import Point, merged
from hft_ray.search.race import contenders

ROW = st.lists(st.floats(-5, 5), min_size=2, max_size=2)
SEEDS = st.lists(st.lists(ROW, min_size=1, max_size=4), min_size=1, max_size=12)

OBJECTIVES = {"forgetting/mean": "min", "task/score": "max"}


class ItemAnswers:
    """What a point scored on items, the same in both objectives."""

    def __init__(self, influence):
        self.items = tuple(range(len(influence)))
        self._influence = np.array(influence)

    def influence(self, metric):
        return self._influence


def points_of(seeds, answers=None):
    """Return configurations, each the mean of its seeds: rows (k, 2) of minimised values."""
    points = [
        Point(
            trial=f"t{number}.{k}",
            variant=None,
            run_id=None,
            state="complete",
            step=0,
            values={"forgetting/mean": float(row[0]), "task/score": -float(row[1])},
            errors={} if answers is None else dict.fromkeys(OBJECTIVES, 0.3),
            configuration=f"c{number}",
            answers=None if answers is None else ItemAnswers(answers[number]),
        )
        for number, rows in enumerate(seeds)
        for k, row in enumerate(rows)
    ]
    return merged(points)


def race(seeds, answers=None):
    return contenders(points_of(seeds, answers), OBJECTIVES)


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_whoever_is_nondominated_races_and_noise_lets_more_race(seeds):
    rows = [np.array(each) for each in seeds]
    means = np.array([each.mean(axis=0) for each in rows])
    racing = race(rows)
    for place, mean in enumerate(means):
        dominated = ((means <= mean).all(axis=1) & (means < mean).any(axis=1)).any()
        assert racing[place] or dominated
    # Without noise it is the front alone.
    alone = race([mean[None] for mean in means])
    dominated = [((means <= m).all(1) & (means < m).any(1)).any() for m in means]
    assert [not each for each in dominated] == alone.tolist()
    assert (racing | ~alone).all()


def test_noise_decides_how_far_behind_is_out():
    def seeds(at, spread):
        return np.array([[at - spread, at - spread], [at + spread, at + spread]])

    close = [seeds(0.0, 0.1), seeds(0.1, 0.1), seeds(1.0, 0.1)]
    assert race(close).tolist() == [True, True, False]
    assert race([seeds(0.0, 0.01), seeds(0.1, 0.01)]).tolist() == [True, False]
    # A configuration with one seed is as noisy as the others are.
    assert race([*close[:1], np.array([[0.2, 0.2]]), close[2]]).tolist() == [
        True,
        True,
        False,
    ]
    assert race([]).tolist() == []


def test_items_that_all_answer_alike_decide_sooner():
    """Both move by 0.3 with the items: together, and the difference is sure; or each for itself."""
    seeds = [np.array([[0.0, 0.0]]), np.array([[0.1, 0.1]])]
    together = [[0.3, 0.0], [0.3, 0.0]]
    apart = [[0.3, 0.0], [0.0, 0.3]]
    assert race(seeds, together).tolist() == [True, False]
    assert race(seeds, apart).tolist() == [True, True]
