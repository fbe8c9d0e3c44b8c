"""Who goes on from a rung: the promises of the scheduler, on random values of any kind."""

from __future__ import annotations

import json
import math
import time

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hft_ray.config.rules.scheduling import compared_objectives
from hft_ray.search.rank_stability import LEAST, STABLE, RankStability
from hft_ray.search.rungs import Halving, Rungs

RULES = Halving(min_steps=10, eta=3, every=10, epsilon=0.05, seed=1)
# Few different values: ties and duplicates are the rule.
VALUES = st.integers(-4, 4).map(float) | st.floats(-1e6, 1e6)
QUICK = settings(max_examples=40, deadline=None)
DIRECTIONS = st.lists(st.sampled_from(["max", "min"]), min_size=1, max_size=4)


@st.composite
def sweeps(draw):
    """Directions, and the values of up to 40 trials."""
    directions = draw(DIRECTIONS)
    row = st.lists(VALUES, min_size=len(directions), max_size=len(directions))
    return directions, draw(st.lists(row, min_size=1, max_size=40))


def named(directions):
    return {f"task/{number}": each for number, each in enumerate(directions)}


def values_of(row):
    return {f"task/{number}": value for number, value in enumerate(row)}


def run(directions, rows, rules=RULES, names=None):
    """Bring every trial to the first rung; return the rungs and the decisions."""
    rungs = Rungs(rules, named(directions) if names is None else names)
    return rungs, [rungs.report(f"t{i:04d}", 10, values_of(row)) for i, row in enumerate(rows)]


@QUICK
@given(sweeps(), st.integers(0, 3))
def test_whoever_dominates_all_goes_on(sweep, slack):
    directions, rows = sweep
    rungs, _ = run(directions, rows)
    table = np.array(rows)
    # Better than all in the first objective, and in some others just as good as the best.
    best = [
        table[:, i].max() + (i == 0 or i > slack)
        if each == "max"
        else table[:, i].min() - (i == 0 or i > slack)
        for i, each in enumerate(directions)
    ]
    verdict = rungs.report("newcomer", 10, values_of(best))
    assert not verdict.stop
    assert (verdict.rank, verdict.front, verdict.front_size) == (1, 0, 1)
    assert verdict.size == len(rows) + 1


@QUICK
@given(sweeps())
def test_whoever_comes_first_goes_on(sweep):
    directions, rows = sweep
    assert not run(directions, rows)[1][0].stop


@QUICK
@given(sweeps())
def test_fronts_are_those_of_moocore(sweep):
    directions, rows = sweep
    _, verdicts = run(directions, rows)
    signs = [-1.0 if each == "max" else 1.0 for each in directions]
    costs = np.array(rows) * signs
    for count, verdict in enumerate(verdicts, start=1):
        ranks = moocore.pareto_rank(costs[:count])
        assert verdict.front == ranks[-1]
        assert verdict.front_size == (ranks == ranks[-1]).sum()
        before = (ranks < ranks[-1]).sum()
        assert before < verdict.rank <= before + verdict.front_size


def fate(verdicts):
    return [(v.stop, v.rank, v.size, v.front, v.front_size, v.why) for v in verdicts]


@QUICK
@given(sweeps(), st.randoms(use_true_random=False))
def test_the_order_of_the_objectives_does_not_matter(sweep, random):
    directions, rows = sweep
    order = list(range(len(directions)))
    random.shuffle(order)
    names = {f"task/{i}": directions[i] for i in order}
    assert fate(run(directions, rows)[1]) == fate(run(directions, rows, names=names)[1])


RESCALINGS = [
    lambda x: 3 * x + 7,
    lambda x: x**3,
    lambda x: math.copysign(math.log1p(abs(x)), x),
    lambda x: math.atan(x / 100),
]


@QUICK
@given(
    DIRECTIONS.flatmap(
        lambda directions: st.tuples(
            st.just(directions),
            st.lists(
                # Whole numbers stay apart under every rescaling below.
                st.lists(st.integers(-9, 9), min_size=len(directions), max_size=len(directions)),
                min_size=1,
                max_size=40,
            ),
        )
    ),
    st.sampled_from(RESCALINGS),
    st.integers(0, 3),
)
def test_an_objective_may_be_rescaled_and_turned_around(sweep, rescale, which):
    directions, rows = sweep
    which %= len(directions)
    plain = fate(run(directions, rows)[1])
    scaled = [[rescale(x) if i == which else x for i, x in enumerate(row)] for row in rows]
    assert fate(run(directions, scaled)[1]) == plain
    turned = [[-x if i == which else x for i, x in enumerate(row)] for row in rows]
    other = {"max": "min", "min": "max"}
    back = [other[each] if i == which else each for i, each in enumerate(directions)]
    assert fate(run(back, turned)[1]) == plain


@QUICK
@given(sweeps(), st.data())
def test_what_is_no_number_tells_nothing_about_anyone(sweep, data):
    directions, rows = sweep
    broken = st.sampled_from([math.nan, math.inf, -math.inf, None])
    rungs = Rungs(RULES, named(directions))
    verdicts = []
    for i, row in enumerate(rows):
        if data.draw(st.booleans()):
            at = data.draw(st.integers(0, len(directions) - 1))
            bad = {**values_of(row), f"task/{at}": data.draw(broken)}
            bad = {name: value for name, value in bad.items() if value is not None}
            assert rungs.report(f"broken{i}", 10, bad) is None
        verdicts.append(rungs.report(f"t{i:04d}", 10, values_of(row)))
    assert fate(verdicts) == fate(run(directions, rows)[1])


@QUICK
@given(sweeps(), st.integers(0, 39), st.randoms(use_true_random=False))
def test_restored_rungs_decide_as_uninterrupted_ones(sweep, cut, random):
    directions, rows = sweep
    cut = min(cut, len(rows))
    steps = [random.choice([10, 20, 30, 90]) for _ in rows]
    plain = Rungs(RULES, named(directions))
    first, later = Rungs(RULES, named(directions)), Rungs(RULES, named(directions))
    told = [
        plain.report(f"t{i:04d}", step, values_of(row))
        for i, (row, step) in enumerate(zip(rows, steps, strict=True))
    ]
    for i in range(cut):
        first.report(f"t{i:04d}", steps[i], values_of(rows[i]))
    state = json.loads(json.dumps(first.to_json()))
    random.shuffle(state)
    later.restore(state)
    # Trials that were under way come by once more, with whatever values: what was said holds.
    for i in range(cut):
        assert later.report(f"t{i:04d}", steps[i], values_of(rows[-1])) == told[i]
    again = [later.report(f"t{i:04d}", steps[i], values_of(rows[i])) for i in range(cut, len(rows))]
    assert again == told[cut:]


@QUICK
@given(sweeps())
def test_a_constant_objective_changes_nothing(sweep):
    directions, rows = sweep
    padded = [[*row, 5.0] for row in rows]
    assert fate(run([*directions, "min"], padded)[1]) == fate(run(directions, rows)[1])


@QUICK
@given(sweeps())
def test_the_front_goes_on_without_epsilon(sweep):
    directions, rows = sweep
    rules = Halving(min_steps=10, eta=10, every=10, epsilon=0.0, seed=1)
    seen = []
    for row, verdict in zip(rows, run(directions, rows, rules)[1], strict=True):
        # With epsilon 0 only an equal one covers.
        if verdict.front == 0 and row not in seen:
            assert not verdict.stop
        seen.append(row)


@pytest.mark.parametrize(("eta", "objectives"), [(2, 1), (3, 2), (5, 3)])
def test_about_one_in_eta_goes_on_when_there_is_no_conflict(eta, objectives):
    rules = Halving(min_steps=10, eta=eta, every=10, epsilon=0.05)
    quality = np.random.default_rng(eta).permutation(300).astype(float)
    _, verdicts = run(["max"] * objectives, [[x] * objectives for x in quality], rules)
    assert sum(not verdict.stop for verdict in verdicts) == pytest.approx(300 / eta, rel=0.2)
    assert not any(verdict.stop for verdict in verdicts[:LEAST])
    for verdict in verdicts[LEAST:]:
        assert verdict.stop == (verdict.rank > math.ceil(verdict.size / eta))


def test_only_whoever_is_clearly_behind_is_stopped_where_ranks_still_move():
    """Two sweeps with the same first rung; in one of them the second rung is another order."""
    rng = np.random.default_rng(3)
    # Some conflict, so that being behind in both objectives by much is not the rule.
    table = rng.random((120, 1)) + rng.random((120, 2)) * 0.4

    def stopped(shuffled):
        rungs = Rungs(RULES, {"task/a": "min", "task/b": "min"})
        count = 0
        for i, row in enumerate(table):
            verdict = rungs.report(f"t{i}", 10, {"task/a": row[0], "task/b": row[1]})
            count += verdict.stop
            if not verdict.stop:
                after = rng.random(2) if shuffled else row
                rungs.report(f"t{i}", 30, {"task/a": after[0], "task/b": after[1]})
        reasons = {v.why for v in rungs.verdicts if v.rung == 10 and not v.stop}
        return count, "not clearly behind" in reasons

    (steady, _), (moving, spared) = stopped(False), stopped(True)
    assert spared
    assert 0 < moving < steady


def moved(*objectives):
    """The margins, each objective given as pairs of costs, before and after."""
    movement = RankStability(seed=0)
    for i, pairs in enumerate(zip(*objectives, strict=True)):
        before, after = np.array(pairs, dtype=float).T
        movement.add(f"t{i}", before, after)
    return movement.margins([np.sort([pair[0] for pair in pairs]) for pairs in objectives])


def test_the_margin_is_the_gap_beyond_which_the_order_holds():
    places = range(40)
    kept = [(i, math.exp(i)) for i in places]
    turned = [(i**3, -i) for i in places]
    # Each block of ten turns around, the blocks keep their order: only gaps up to 9 change.
    blocks = [(i, i // 10 * 10 - i % 10) for i in places]
    # Nothing differs at first, everything later; and the other way around.
    late, constant = [(0, i) for i in places], [(i % 2, 0) for i in places]
    margins = moved(kept, turned, blocks, late, constant)
    assert margins[:2] == [0.0, math.inf]
    gaps = [(b - a, a // 10 != b // 10) for a in places for b in places if a < b]
    share = {gap: np.mean([fine for far, fine in gaps if far >= gap]) for gap in range(1, 11)}
    assert margins[2] == min(gap for gap in share if share[gap] >= STABLE)
    assert margins[3:] == [math.inf, 0.0]


def test_few_trials_say_nothing_of_the_margin():
    assert moved([(i, -i) for i in range(LEAST - 1)]) == [0.0]
    assert moved([(i, -i) for i in range(LEAST)]) == [math.inf]


def test_who_learned_the_task_goes_on_where_the_task_is_not_learned_yet():
    """On the first rung nobody has learned anything, and only forgetting differs."""
    rungs = Rungs(RULES, {"task/score": "max", "forgetting/mean": "min"})
    rng = np.random.default_rng(0)
    stopped = []
    for i, speed in enumerate(rng.random(60)):
        first = {"task/score": rng.integers(3) / 100, "forgetting/mean": speed}
        stopped.append(rungs.report(f"t{i}", 10, first).stop)
        if not stopped[-1]:
            rungs.report(f"t{i}", 30, {"task/score": speed, "forgetting/mean": speed})
    assert not any(stopped[:LEAST])
    assert sum(stopped) < 6


def test_epsilon_thins_a_crowded_front():
    # A front of 200 in conflict: each is the best compromise at something.
    rows = [[float(x), float(-x)] for x in np.random.default_rng(0).permutation(200)]
    strict = Halving(min_steps=10, eta=4, every=10, epsilon=0.05)
    _, kept = run(["max", "max"], rows, Halving(min_steps=10, eta=4, every=10))
    _, thinned = run(["max", "max"], rows, strict)
    assert not any(verdict.stop for verdict in kept)
    assert sum(verdict.stop for verdict in thinned) > 80


def test_the_isolated_come_first_inside_a_front():
    rungs = Rungs(Halving(10, 2, 10, epsilon=1.0), {"task/a": "min", "task/b": "min"})
    for i, x in enumerate([0.0, 10.0, 4.9, 5.1, 5.0]):
        rungs.report(f"t{i}", 10, {"task/a": x, "task/b": -x})
    # Between 0 and 4.9 there is room, between 4.9 and 5.1 there is none: ranks, not distances.
    lonely = rungs.report("lonely", 10, {"task/a": 2.0, "task/b": -2.0})
    assert lonely.front_size == 6
    ends = rungs.report("end", 10, {"task/a": 11.0, "task/b": -11.0})
    assert ends.rank <= 2


def test_nothing_is_stopped_on_its_last_report_or_when_it_runs_in_any_case():
    rungs = Rungs(RULES, {"task/a": "max"})
    for i in range(9):
        rungs.report(f"t{i}", 10, {"task/a": float(i)})
    worst = {"task/a": -1.0}
    assert not rungs.report("last", 10, worst, last=True).stop
    assert not rungs.report("baseline", 10, worst, exempt=True).stop
    verdict = rungs.report("other", 10, worst)
    assert verdict.stop
    # They count as well as anyone.
    assert (verdict.size, verdict.rank > 9) == (12, True)
    assert "stops at rung 10" in str(verdict)
    assert f"rank {verdict.rank} of 12, front 9 of 3" in str(verdict)


def test_rungs_lie_where_reports_are():
    rules = Halving(min_steps=15, eta=3, every=10)
    places = {rules.rung_at(step) for step in range(0, 500)}
    assert places == {None, 20, 50, 140, 410}
    assert rules.rung_at(19) is None
    # A grid that is coarser than the rungs merges them.
    assert {Halving(1, 2, 8).rung_at(step) for step in range(0, 40, 8)} == {None, 8, 16, 32}


def test_a_trial_is_compared_once_on_each_rung():
    rungs = Rungs(RULES, {"task/a": "max"})
    for i in range(6):
        rungs.report(f"t{i}", 10, {"task/a": 1.0 + i})
    first = rungs.report("t9", 10, {"task/a": 100.0})
    assert rungs.report("t9", 20, {"task/a": -100.0}) == first
    assert rungs.report("t9", 30, {"task/a": -100.0}).rung == 30
    assert [verdict.rung for verdict in rungs.of("t9")] == [10, 30]
    assert rungs.report("t9", 5, {"task/a": -100.0}) is None


def test_objectives_that_cost_no_training_are_not_compared():
    objectives = {"task/a": "max", "cost/peak_memory_bytes": "min", "selection/x": "min"}
    assert compared_objectives(objectives) == ["task/a"]
    rungs = Rungs(RULES, objectives)
    for i in range(9):
        rungs.report(f"t{i}", 10, {"task/a": float(i)})
    assert rungs.report("cheap", 10, {"task/a": 0.0, "cost/peak_memory_bytes": 1.0}).stop
    with pytest.raises(ValueError, match="no objective depends on training"):
        Rungs(RULES, {"cost/peak_memory_bytes": "min"})


def test_the_seed_decides_between_equals_and_nothing_else():
    def going(seed):
        rules = Halving(min_steps=10, eta=3, every=10, epsilon=0.05, seed=seed)
        _, verdicts = run(["max", "min"], [[1.0, 1.0]] * 60, rules)
        return [not verdict.stop for verdict in verdicts]

    assert going(1) == going(1)
    assert going(1) != going(2)
    assert 10 < sum(going(1)) < 50


def test_a_decision_is_quick_among_many():
    rungs = Rungs(RULES, {"task/a": "max", "task/b": "min"})
    table = np.random.default_rng(0).random((5200, 2))
    verdicts = [
        {
            **vars(rungs.report("t", 10, {"task/a": 0.5, "task/b": 0.5})),
            "trial": f"t{i}",
            "values": {"task/a": a, "task/b": b},
        }
        for i, (a, b) in enumerate(table[:5000])
    ]
    rungs = Rungs(RULES, {"task/a": "max", "task/b": "min"})
    rungs.restore(verdicts)
    started = time.process_time()
    for i, (a, b) in enumerate(table[5000:]):
        rungs.report(f"n{i}", 10, {"task/a": a, "task/b": b})
    # Ten times what it takes: a machine may be busy.
    assert (time.process_time() - started) / 200 < 0.005
