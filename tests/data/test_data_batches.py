import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hft_ray.data import IGNORED, batch_indices, collate, concatenate, steps_per_epoch


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40), batch_size=st.integers(1, 50), seed=st.integers(0, 2**32))
def test_every_epoch_holds_every_item_once(n, batch_size, seed):
    epochs = 3
    steps = -(-epochs * n // batch_size)
    stream = [i for step in range(steps) for i in batch_indices(step, n, batch_size, seed)]
    assert len(stream) == steps * batch_size
    for epoch in range(epochs):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 100), batch_size=st.integers(1, 50))
def test_steps_per_epoch_hold_each_item_once(n, batch_size):
    assert steps_per_epoch(n, batch_size) * batch_size == n


def test_order_does_not_depend_on_the_batch_size():
    fine = [i for step in range(20) for i in batch_indices(step, 15, 2, 7)]
    coarse = [i for step in range(5) for i in batch_indices(step, 15, 8, 7)]
    assert fine == coarse


def test_order_depends_on_seed_and_epoch_only():
    np.random.seed(0)
    torch.manual_seed(0)
    first = batch_indices(0, 30, 30, 1)
    assert first == batch_indices(0, 30, 30, 1)
    assert first != batch_indices(1, 30, 30, 1)
    assert first != batch_indices(0, 30, 30, 2)
    # Pinned: a resumed run must go on in the order in which it began.
    assert batch_indices(3, 10, 4, 0) == [3, 8, 7, 6]


def item(length, untrained=1):
    ids = np.arange(10, 10 + length)
    return {"input_ids": ids, "labels": np.where(ids < 10 + untrained, IGNORED, ids)}


def test_collate_pads_on_the_right():
    batch = collate([item(2), item(4)], pad_id=1)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[10, 11, 1, 1], [10, 11, 12, 13]],
        "labels": [[IGNORED, 11, IGNORED, IGNORED], [IGNORED, 11, 12, 13]],
        "attention_mask": [[1, 1, 0, 0], [1, 1, 1, 1]],
    }
    assert all(tensor.dtype == torch.long for tensor in batch.values())


def test_concatenate_pads_nothing_and_tells_where_items_begin():
    # A first token is not trained: what stands before it is another item.
    batch = concatenate([item(2, untrained=0), item(4, untrained=2)])
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[10, 11, 10, 11, 12, 13]],
        "labels": [[IGNORED, 11, IGNORED, IGNORED, 12, 13]],
        "position_ids": [[0, 1, 0, 1, 2, 3]],
        "cu_seq_lens_q": [0, 2, 6],
        "cu_seq_lens_k": [0, 2, 6],
        **dict.fromkeys(("max_length_q", "max_length_k"), 4),
    }


@pytest.mark.parametrize("step", [0, 10**6])
def test_far_steps_are_as_cheap_as_near_ones(step):
    assert len(set(batch_indices(step, 1000, 500, 0))) == 500
