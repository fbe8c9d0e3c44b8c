"""Which fault an error is, and what the board does about each."""

from __future__ import annotations

import errno
import os
from typing import get_args

import pytest
import torch

from hft_ray.artifacts.mirror import MirrorError
from hft_ray.config import ConfigError, Problem
from hft_ray.orchestration.board import Board
from hft_ray.orchestration.board_entries import Group
from hft_ray.orchestration.diagnosis import classify
from hft_ray.orchestration.faults import MOST_UNCOUNTED, RULES, Fault, explained
from hft_ray.selection import FrozenChangedError
from hft_ray.training import TrainingError


def caused(error, cause):
    error.__cause__ = cause
    return error


def real_out_of_memory():
    try:
        torch.empty(1 << 60)
    except RuntimeError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (TrainingError("the loss became nan by step 3"), "not_finite"),
        (FrozenChangedError("2 frozen parameters changed"), "frozen_changed"),
        (caused(RuntimeError("in a hook"), FrozenChangedError("w")), "frozen_changed"),
        (ConfigError(Problem("train.jsonl:3", "is no JSON")), "data"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out_of_memory"),
        (real_out_of_memory(), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("CUDA error: out of memory"), "out_of_memory"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "storage_full"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "storage_full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "storage_full"),
        (caused(ValueError("cannot save"), OSError(errno.ENOSPC, "full")), "storage_full"),
        (OSError(errno.ESTALE, os.strerror(errno.ESTALE)), "storage"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "storage"),
        (RuntimeError("[../gloo/transport/tcp/pair.cc:547] Connection closed"), "peer_lost"),
        (torch.distributed.DistBackendError("NCCL communicator was aborted"), "peer_lost"),
        (RuntimeError("I/O error: File too large (os error 27)"), "storage_full"),
        (MirrorError("s3://b/p: step-1 cannot be written: no answer"), "storage"),
        (PermissionError(errno.EACCES, "denied"), "error"),
        (KeyError("q_proj"), "error"),
    ],
    ids=str,
)
def test_an_error_is_known_for_what_it_is(error, fault):
    assert classify(error) == fault


def test_an_error_that_causes_itself_is_looked_at_once():
    error = ValueError("a")
    error.__cause__ = caused(KeyError("b"), error)
    assert classify(error) == "error"


def test_every_fault_has_a_rule_and_its_advice_follows_the_error():
    assert set(RULES) == set(get_args(Fault))
    assert "training.batch_size" in explained("OutOfMemoryError: 3 GiB", "out_of_memory")
    assert explained("KeyError: 1", "error") == "KeyError: 1"


def make_board(retries=1, node="n0"):
    board = Board(1, retries)
    board.join(0, "life 0", 1, node)
    board.submit("a", "trial", {})
    board.order_for(0, "life 0", 0)
    return board


def fails(board, life, fault):
    board.finish(f"life {life}", 0, 0, "a", {"state": "failed", "reason": "why", "fault": fault})


def again(board, life, node="n0", living=("n0",)):
    """The group starts afresh; return whether it gets the trial."""
    board.join(0, f"life {life}", 1, node, living)
    return board.order_for(0, f"life {life}", 0) is not None


@pytest.mark.parametrize("fault", [each for each in RULES if not RULES[each].retry])
def test_what_would_happen_again_is_not_tried_again(fault):
    board = make_board(retries=5)
    fails(board, 0, fault)
    assert not again(board, 1)
    assert board.jobs["a"].outcome["fault"] == fault
    assert board.jobs["a"].attempts == 1


def test_storage_that_is_away_is_tried_again_within_the_retries():
    board = make_board(retries=1)
    fails(board, 0, "storage")
    assert board.jobs["a"].outcome is None
    assert again(board, 1)
    retried = [each for each in board.events if each["event"] == "retried"]
    assert [(each["reason"], each["fault"]) for each in retried] == [("why", "storage")]
    fails(board, 1, "storage")
    assert not again(board, 2)
    outcome = board.jobs["a"].outcome
    assert (outcome["state"], outcome["fault"]) == ("failed", "storage")
    assert outcome["reason"] == "why (2 times)"


def test_a_failed_trial_has_had_its_group_in_every_life(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("hft_ray.orchestration.board.time.time", lambda: now[0])
    board = Board(1, retries=1)
    board.join(0, "life 0", 1)
    board.submit("a", "trial", {})
    for life, (begins, ends) in enumerate([(0.0, 10.0), (100.0, 130.0)]):
        now[0] = begins
        board.order_for(0, f"life {life}", 0)
        now[0] = ends
        board.join(0, f"life {life + 1}", 1)
    outcome = board.jobs["a"].outcome
    assert (outcome["state"], outcome["seconds"]) == ("failed", 40.0)


def test_lost_nodes_do_not_use_up_the_retries():
    board = make_board(retries=0)
    for life in range(1, 20):
        assert again(board, life, node=f"n{life}", living=(f"n{life}",))
    retried = {each["reason"] for each in board.events if each["event"] == "retried"}
    assert retried == {"a node was lost"}
    # A process that dies while its node lives on does.
    assert not again(board, 20, node="n19", living=("n19",))
    assert board.jobs["a"].outcome["fault"] == "worker_crash"
    assert board.jobs["a"].outcome["reason"] == "a worker process died (1 time)"


def test_a_trial_that_loses_every_node_ends_some_day():
    board = make_board(retries=2)
    lives = 0
    while again(board, lives + 1, node=f"n{lives + 1}", living=(f"n{lives + 1}",)):
        lives += 1
        assert lives < 1000
    assert lives == MOST_UNCOUNTED + 2
    assert board.jobs["a"].outcome["fault"] == "node_lost"


def test_one_lost_node_of_several_is_enough():
    board = Board(1, 0)
    board.join(0, "life 0", 2, "n0")
    board.join(0, "life 0", 2, "n1")
    board.submit("a", "trial", {})
    board.order_for(0, "life 0", 0)
    assert again(board, 1, node="n0", living=("n0", "n2"))


def test_the_trial_of_a_lost_node_does_not_wait_until_its_group_finds_another():
    board = make_board(retries=0)
    board.groups[1] = Group(incarnation="other", nodes={"n1"})
    board.lose_nodes({"n0", "n1"})
    assert board.order_for(1, "other", 0) is None
    board.lose_nodes({"n1"})
    order = board.order_for(1, "other", 0)
    assert order.trial == "a"
    # Whoever is still there of the lost life is told to stop, and nothing more is lost with it.
    assert board.report("life 0", 0, "a", 9, {}, False)
    board.lose_nodes({"n1"})
    board.join(0, "life 1", 1, "n2", ["n1", "n2"])
    assert [each["event"] for each in board.events].count("retried") == 1
    board.finish("other", 1, 0, "a", {"state": "complete"})
    assert board.jobs["a"].outcome["state"] == "complete"
