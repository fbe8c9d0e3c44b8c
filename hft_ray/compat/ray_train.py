"""Private names of Ray Train, which hold in Ray 2.60; it imports torch, as Ray's core does not.

=====================================  =======================================================
``TorchTrainer``'s default callbacks   The list is made by ``_create_default_callbacks``
``PlacementGroupCleanerCallback``      One of them, of ``ray.train.v2._internal``
``WorkerGroupStartupTimeoutError``     A worker group found no room, of the same
=====================================  =======================================================
"""

from __future__ import annotations

from typing import Any

from ray.train import ControllerError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError


class Trainer(TorchTrainer):
    """Ray Train without the detached actor that removes a dead controller's placement group.

    A group whose controller died is lost here, and Ray itself removes its placement group when the
    sweep's job ends. That actor asks the dashboard whether the controller lives, and stays for ever
    once it is not answered, or finds two clusters on its machine and does not know which to ask.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        return [each for each in callbacks if not isinstance(each, PlacementGroupCleanerCallback)]


def found_no_room(error: Exception) -> bool:
    """Whether a worker group did not start because the cluster had no room for it."""
    return isinstance(error, ControllerError) and isinstance(
        error.controller_failure, WorkerGroupStartupTimeoutError
    )
