"""Proposals that are made before they are asked for."""

from __future__ import annotations

import threading
import time

import pytest

from hft_ray.config.load import validate
from hft_ray.search import Study
from hft_ray.search.ahead import Ahead
from hft_ray.search.botorch_sampler import BotorchSampler

SLOW = 0.6


def make_config(**search):
    space = {"selection.ratio": {"low": 0.1, "high": 0.9}}
    search = {"space": space, "trials": 8, **search}
    return validate(
        {"name": "s", "model": "m", "data": {"train": "t.jsonl"}, "search": search}, "test.yaml"
    )


@pytest.fixture
def slow(monkeypatch):
    """Make proposals slow; return the trials that each proposal knew, by how they stood."""
    known = []
    propose = BotorchSampler.propose

    def slowly(self, study, number):
        states = [trial.state.name for trial in study.get_trials(deepcopy=False)][:number]
        time.sleep(SLOW)
        known.append(states)
        return propose(self, study, number)

    monkeypatch.setattr(BotorchSampler, "propose", slowly)
    return known


@pytest.fixture
def study(tmp_path):
    study = Study(make_config(), tmp_path / "search.jsonl", ahead=True)
    yield study
    study.close()


def timed(study):
    began = time.monotonic()
    known = study.next_trial()
    return known, time.monotonic() - began


def values(known):
    ratio = known.params.get("selection.ratio", 1.0)
    return {"task/score": ratio, "forgetting/mean": ratio**2}


def test_a_slow_proposal_holds_up_no_worker_group(slow, study):
    first, _ = timed(study)  # full fine-tuning, which is asked for
    for _ in range(4):
        time.sleep(2 * SLOW)  # the trial is trained
        outcome = {"state": "complete", "step": 3, "values": values(first)}
        study.tell(first.trial, outcome)
        first, took = timed(study)
        assert took < SLOW / 2
    assert len({each.params["selection.ratio"] for each in study.trials()}) == 5


def test_the_scores_of_the_last_step_are_known_before_the_variants_are_scored(slow, study):
    first, _ = timed(study)
    time.sleep(2 * SLOW)
    study.trained(first.trial, 3, values(first))
    time.sleep(2 * SLOW)  # the variants are scored
    study.tell(first.trial, {"state": "complete", "step": 3, "values": values(first)})
    _, took = timed(study)
    assert took < SLOW / 2
    assert len(slow) >= 2


def test_several_at_once_are_all_different(slow, study):
    trials = [study.next_trial() for _ in range(4)]
    assert len({each.params["selection.ratio"] for each in trials[1:]}) == 3
    # Each knew the ones before it; full fine-tuning lies outside the space.
    assert [len(states) for states in slow[:3]] == [0, 1, 2]


class Proposals:
    """A function whose calls end when they are let."""

    def __init__(self):
        self.calls, self.go = [], threading.Semaphore(0)

    def __call__(self, study, number):
        self.calls.append(number)
        self.go.acquire()
        if number < 0:
            raise ValueError("no proposal")
        return {"x": number}


@pytest.fixture
def proposals():
    return Proposals()


@pytest.fixture
def ahead(proposals):
    ahead = Ahead(proposals)
    yield ahead
    for _ in range(20):
        proposals.go.release()
    ahead.close()


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nothing_requested_nothing_made(ahead):
    assert ahead.take(1) is None


def test_a_later_request_is_answered_by_the_earlier_proposal_until_its_own_is_there(
    ahead, proposals
):
    ahead.prepare(None, 1)
    proposals.go.release()
    wait_for(lambda: proposals.calls == [1])
    ahead.prepare(None, 1)  # a result came in
    wait_for(lambda: proposals.calls == [1, 1])
    assert ahead.take(1) == {"x": 1}


def test_a_proposal_for_an_earlier_trial_is_never_taken(ahead, proposals):
    """Another trial has begun since, such as a random one, of which it knows nothing."""
    ahead.prepare(None, 1)
    proposals.go.release()
    wait_for(lambda: proposals.calls == [1])
    assert ahead.take(2) is None
    ahead.prepare(None, 2)
    ahead.prepare(None, 3)
    for _ in range(2):
        proposals.go.release()
    assert ahead.take(3) == {"x": 3}


def test_a_request_that_is_not_begun_is_replaced(ahead, proposals):
    ahead.prepare(None, 1)
    wait_for(lambda: proposals.calls == [1])
    ahead.prepare(None, 2)
    ahead.prepare(None, 3)
    for _ in range(2):
        proposals.go.release()
    wait_for(lambda: proposals.calls == [1, 3])


def test_an_error_leaves_the_proposal_to_the_one_who_asks(ahead, proposals):
    ahead.prepare(None, -1)
    proposals.go.release()
    assert ahead.take(-1) is None
    ahead.prepare(None, 4)
    proposals.go.release()
    assert ahead.take(4) == {"x": 4}


def test_a_model_that_cannot_be_fitted_gives_the_next_spread_point(study, monkeypatch, caplog):
    def broken(self):
        raise RuntimeError("not positive definite")

    monkeypatch.setattr(BotorchSampler, "_models", broken)
    seen = set()
    for _ in range(8):
        known = study.next_trial()
        seen.add(known.params["selection.ratio"])
        study.tell(known.trial, {"state": "complete", "step": 3, "values": values(known)})
    assert len(seen) == 8
    assert "takes the next evenly spread point" in caplog.text
