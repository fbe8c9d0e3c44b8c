"""The race for further seeds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hft_ray.search.race import contenders

ROW = st.lists(st.floats(-5, 5), min_size=2, max_size=2)
SEEDS = st.lists(st.lists(ROW, min_size=1, max_size=4), min_size=1, max_size=12)


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_whoever_is_nondominated_races_and_noise_lets_more_race(seeds):
    rows = [np.array(each) for each in seeds]
    means = np.array([each.mean(axis=0) for each in rows])
    racing = contenders(rows)
    for place, mean in enumerate(means):
        dominated = ((means <= mean).all(axis=1) & (means < mean).any(axis=1)).any()
        assert racing[place] or dominated
    # Without noise it is the front alone.
    alone = contenders([mean[None] for mean in means])
    dominated = [((means <= m).all(1) & (means < m).any(1)).any() for m in means]
    assert [not each for each in dominated] == alone.tolist()
    assert (racing | ~alone).all()


def test_noise_decides_how_far_behind_is_out():
    def seeds(at, spread):
        return np.array([[at - spread, at - spread], [at + spread, at + spread]])

    close = [seeds(0.0, 0.1), seeds(0.1, 0.1), seeds(1.0, 0.1)]
    assert contenders(close).tolist() == [True, True, False]
    assert contenders([seeds(0.0, 0.01), seeds(0.1, 0.01)]).tolist() == [True, False]
    # A configuration with one seed is as noisy as the others are.
    assert contenders([*close[:1], np.array([[0.2, 0.2]]), close[2]]).tolist() == [
        True,
        True,
        False,
    ]
    assert contenders([]).tolist() == []
