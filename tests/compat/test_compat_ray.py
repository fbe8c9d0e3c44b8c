"""Ray keeps what ``hft_ray/compat/ray*.py`` rely on."""

from __future__ import annotations

import inspect

from ray._private.state import GlobalState, state
from ray.train import ControllerError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

from hft_ray.compat.ray_train import Trainer, found_no_room

VERSIONS = "hft_ray/compat/ray*.py hold for Ray 2.60"


def cleaners(trainer):
    made = trainer(lambda: None)._create_default_callbacks()
    return sum(isinstance(each, PlacementGroupCleanerCallback) for each in made), len(made)


def test_the_cleaner_alone_is_left_out_of_the_callbacks():
    theirs, ours = cleaners(TorchTrainer), cleaners(Trainer)
    assert theirs[0] == 1, f"Ray Train has no such callback any more; {VERSIONS}"
    assert ours == (0, theirs[1] - 1), VERSIONS


def test_a_group_without_room_is_known_from_one_that_is_lost():
    no_room = ControllerError(WorkerGroupStartupTimeoutError(2))
    assert found_no_room(no_room), VERSIONS
    assert not found_no_room(ControllerError(RuntimeError("lost")))
    assert not found_no_room(RuntimeError("lost"))


def test_draining_nodes_are_told_by_the_state_of_the_cluster():
    told = inspect.signature(GlobalState.get_draining_nodes).return_annotation
    assert "Dict[str, int]" in str(told).replace("typing.", ""), VERSIONS
    assert isinstance(state, GlobalState)
