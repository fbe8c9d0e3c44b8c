"""Epochs, counted in steps: where the data begin again, on one rank and on two."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hft_ray.config import Config, Training
from hft_ray.data import steps_per_epoch
from hft_ray.ranks import Ranks
from hft_ray.training.documents import Documents
from hft_ray.training.feed import Feed
from hft_ray.training.schedule import learning_rate, total_steps
from hft_ray.training.stage import Rounds, Stage


class Numbers:
    """An objective whose examples are their own numbers."""

    width, identity = 1, ""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def lengths(self, indices):
        return [index + 1 for index in indices]

    def batch(self, indices, packed):
        return {"input_ids": torch.tensor(indices)}


def make_stage(n, training, start=0):
    steps = total_steps(training, n)
    per_epoch = steps_per_epoch(n, training.batch_size)
    return Stage("numbers", Numbers(n), start, steps, per_epoch, training)


def examples(stages, training, ranks, packed=False):
    """The examples of each step, of all ranks together, as they are fed."""
    config = Config(name="n", model="m", data={"train": "d", "max_length": 50}, training=training)
    documents = Documents(None, config)
    documents.packed = packed
    feeds = [
        Feed(stages, config, Ranks(rank, ranks), torch.device("cpu"), documents)
        for rank in range(ranks)
    ]
    return [
        [int(i) for feed in feeds for batch in feed.passes(step) for i in batch["input_ids"]]
        for step in range(stages[-1].end)
    ]


def starts(rounds, steps):
    return [step for step in steps if rounds.starts(step)]


def begins_again(batches, n):
    """The steps before which each of n examples has been seen once more than at the step before."""
    seen, passes, found = Counter(dict.fromkeys(range(n), 0)), -1, []
    for step, batch in enumerate(batches):
        if min(seen.values()) > passes:
            passes = min(seen.values())
            found.append(step)
        seen.update(batch)
    return found


LENGTHS = st.integers(1, 50)


@settings(max_examples=100, deadline=None)
@given(epochs=st.integers(1, 10), n=LENGTHS, size=st.integers(1, 8), ranks=st.sampled_from([1, 2]))
def test_rounds_begin_where_the_data_begin_again(epochs, n, size, ranks):
    size *= ranks  # each rank has as many
    training = Training(epochs=epochs, batch_size=size)
    stage = make_stage(n, training)
    batches = examples([stage], training, ranks)
    rounds = Rounds("epoch", [stage])
    found = starts(rounds, range(stage.steps))
    assert found == begins_again(batches, n)
    assert [rounds.number(step) for step in found] == list(range(len(found)))
    assert len(found) == (epochs if n >= size else stage.steps)
    # No step more than the data need.
    assert sum(map(len, batches)) - size < epochs * n <= sum(map(len, batches))


@settings(max_examples=100, deadline=None)
@given(n=LENGTHS, other=LENGTHS, epochs=st.integers(1, 4), size=st.integers(1, 8))
def test_each_stage_counts_its_own_epochs(n, other, epochs, size):
    training = Training(epochs=epochs, batch_size=size)
    first = make_stage(n, training)
    stages = [first, make_stage(other, training, first.end)]
    batches = examples(stages, training, 1)
    expected = begins_again(batches[: first.end], n)
    expected += [first.end + step for step in begins_again(batches[first.end :], other)]
    assert starts(Rounds("epoch", stages), range(stages[-1].end)) == expected


@settings(max_examples=100, deadline=None)
@given(n=LENGTHS, size=st.integers(1, 8), ranks=st.sampled_from([1, 2]), micro=st.integers(1, 2))
def test_a_step_has_the_same_examples_packed_and_padded(n, size, ranks, micro):
    size *= ranks * micro
    training = Training(epochs=2, batch_size=size, micro_batch_size=micro)
    found = [examples([make_stage(n, training)], training, ranks, each) for each in (False, True)]
    assert [sorted(each) for each in found[0]] == [sorted(each) for each in found[1]]


def test_ten_epochs_of_ten_in_batches_of_four_are_ten_rounds():
    stage = make_stage(10, Training(epochs=10, batch_size=4))
    assert stage.steps == 25
    assert starts(Rounds("epoch", [stage]), range(25)) == [0, 3, 5, 8, 10, 13, 15, 18, 20, 23]


@given(tenths=st.integers(1, 100), n=st.integers(1, 1000), size=st.integers(1, 64))
def test_tenths_of_an_epoch_are_exact(tenths, n, size):
    training = Training(epochs=tenths / 10, batch_size=size)
    assert total_steps(training, n) == -(-tenths * n // (10 * size))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_schedule_ends_with_the_last_step(schedule):
    training = Training(epochs=1.1, batch_size=10, schedule=schedule, warmup=0.0)
    total = total_steps(training, 100)
    rates = [learning_rate(step, total, training) for step in range(total)]
    assert all(rate > 0 for rate in rates)
    if schedule != "constant":
        # One step further it would be 0.
        assert math.isclose(learning_rate(total, total, training), 0, abs_tol=1e-20)
