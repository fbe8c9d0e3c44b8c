"""Ray keeps what :mod:`hft_ray.compat.ray_train` and ``ray_nodes`` rely on."""

from __future__ import annotations

import inspect

from ray._private.state import GlobalState, state
from ray.train import ControllerError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

from hft_ray.compat.ray_train import UNUSED, Trainer, found_no_room

VERSIONS = "hft_ray/compat/ray_*.py hold for Ray 2.60"


def callbacks(trainer):
    return [type(each) for each in trainer(lambda: None)._create_default_callbacks()]


def test_what_is_not_used_is_left_out_of_the_callbacks():
    theirs, ours = callbacks(TorchTrainer), callbacks(Trainer)
    assert set(UNUSED) <= set(theirs), f"Ray Train has no such callback any more; {VERSIONS}"
    assert ours == [each for each in theirs if each not in UNUSED], VERSIONS


def test_a_group_without_room_is_known_from_one_that_is_lost():
    no_room = ControllerError(WorkerGroupStartupTimeoutError(2))
    assert found_no_room(no_room), VERSIONS
    assert not found_no_room(ControllerError(RuntimeError("lost")))
    assert not found_no_room(RuntimeError("lost"))


def test_draining_nodes_are_told_by_the_state_of_the_cluster():
    told = inspect.signature(GlobalState.get_draining_nodes).return_annotation
    assert "Dict[str, int]" in str(told).replace("typing.", ""), VERSIONS
    assert isinstance(state, GlobalState)
