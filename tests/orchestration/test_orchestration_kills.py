"""A driver that is killed again and again: every planned trial once, little work twice."""

from __future__ import annotations

import json
import random
import time
from collections import Counter

import pytest
from fault_sweeps import EVERY, REPEATED, STEPS, FaultSweep, cluster

pytestmark = [pytest.mark.soak, pytest.mark.cluster, pytest.mark.timeout(7200)]

TRIALS = 12
EARLY = 25
"""Seconds within which a driver dies that dies before it trains, or soon after."""
ASHA = {
    "evaluation": {"every": EVERY},
    "search": {
        "sampler": "tpe",
        "scheduler": {"kind": "asha", "eta": 2},
        "space": {
            "selection.ratio": {"low": 0.1, "high": 0.9},
            "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        },
        "first": [],
        # Continuous from the first step on, so that there is something to compare.
        "objectives": {"general/score": "max"},
    },
}
RUNGS = (EVERY, 2 * EVERY)
ENDS = {"complete": 1, "pruned": 2, "failed": 3}
"""State -> Optuna's number for it."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("kills"), 3, 4) as nodes:
        yield nodes


def kill_drivers(sweep, kills, rng):
    """Start the sweep and kill its driver at a random moment, so many times; yield after each."""
    nodes = sweep.nodes
    for number in range(kills):
        job = f"{sweep.name}-{number}"
        nodes.submit(job, *sweep.tune)
        nodes.wait_for_driver()
        if number % 4 == 3:
            time.sleep(rng.random() * EARLY)
        else:
            sweep.wait_for_steps(sweep.total() + rng.randrange(1, STEPS), job)
            time.sleep(rng.random() / 10)
        nodes.kill_driver()
        assert nodes.wait_for_job(job)["status"] == "FAILED"
        yield number


def test_twenty_kills_change_nothing(nodes, tiny_file):
    free = FaultSweep(nodes, tiny_file, "free", TRIALS, groups=2)
    assert free.finish() == 1
    assert set(free.steps().values()) == {1}
    sweep = FaultSweep(nodes, tiny_file, "killed", TRIALS)
    kills = [*kill_drivers(sweep, 20, random.Random(1))]
    assert sweep.finish() == 1
    sweep.check_books({})
    sweep.check_values(free)
    repeated = sweep.total() - STEPS * len(sweep.names)
    print(f"{len(kills)} kills, {repeated} of {sweep.total()} steps repeated")
    # What is under way at a kill goes on from its last checkpoint.
    assert repeated <= len(kills) * REPEATED
    nodes.wait_until_clean()


def test_kills_leave_one_end_and_one_decision_of_each_kind(nodes, tiny_file):
    sweep = FaultSweep(nodes, tiny_file, "halved", 2 * TRIALS, file=ASHA, groups=2)
    ended: dict[int, tuple] = {}
    for _ in kill_drivers(sweep, 10, random.Random(2)):
        now = ends(sweep)
        assert ended.items() <= now.items()
        ended = now
    assert sweep.finish() == 1
    now = ends(sweep)
    assert ended.items() <= now.items()
    # Not the models on the way, which are points of their own.
    trials = [point for point in sweep.points() if point.get("variant") is None]
    states = {point["trial"]: point["state"] for point in trials}
    assert len(trials) == len(states) == len(sweep.names)
    assert {f"t{trial:04d}": state for trial, (state, _) in now.items()} == {
        name: ENDS[state] for name, state in states.items()
    }
    sweep.check_books({name: state for name, state in states.items() if state != "complete"})
    decided = decisions(sweep)
    assert set(Counter((each["trial"], each["rung"]) for each in decided).values()) == {1}
    for name, state in states.items():
        stops = [each["stop"] for each in decided if each["trial"] == name]
        # No decision follows one that ends a trial; who was done before it heard is complete.
        assert not any(stops[:-1])
        # No rung is left out, though the driver died before it had heard of it.
        assert stops[-1] or len(stops) == len(RUNGS)
        assert state != "pruned" or stops[-1]
    made = Counter(trial for trial, _ in sweep.steps())
    print(f"states {Counter(states.values())}, steps {made}, {sweep.total()} made")
    assert "pruned" in states.values()


def journal(sweep):
    """The lines of the sweep's study; one that the kill cut off is the next driver's to mend."""
    path = sweep.root / "sweeps" / sweep.name / "search.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def ends(sweep):
    """Trial -> state and values of its end, which the study says once."""
    told = [each for each in journal(sweep) if each.get("state") in ENDS.values()]
    found = {each["trial_id"]: (each["state"], tuple(each["values"] or ())) for each in told}
    assert len(found) == len(told)
    return found


def decisions(sweep):
    """The decisions about trials, in their order."""
    attributes = [each.get("user_attr") or {} for each in journal(sweep)]
    return [value for each in attributes for key, value in each.items() if key.startswith("rung:")]
