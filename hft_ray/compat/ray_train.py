"""Private names of Ray Train, which hold in Ray 2.60.

=====================================  =======================================================
``TorchTrainer``'s default callbacks   The list is made by ``_create_default_callbacks``
``PlacementGroupCleanerCallback``      One of them, of ``ray.train.v2._internal``
``DatasetsCallback``                   Another of them
``WorkerGroupStartupTimeoutError``     A worker group found no room, of the same
=====================================  =======================================================
"""

from __future__ import annotations

from typing import Any

from ray.train import ControllerError
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

UNUSED = (DatasetsCallback, PlacementGroupCleanerCallback)
"""Default callbacks that are left out."""


class Trainer(TorchTrainer):
    """Ray Train without Ray Data, and without what removes a dead controller's placement group.

    For Ray Data a group would start an actor, a process that takes seconds, also without data sets.

    A group whose controller died is lost here, and Ray itself removes its placement group when the
    sweep's job ends. The detached actor for that asks the dashboard whether the controller lives,
    and stays for ever once it is not answered, or finds two clusters on its machine and does not
    know which to ask.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        return [each for each in callbacks if not isinstance(each, UNUSED)]


def found_no_room(error: Exception) -> bool:
    """Whether a worker group did not start because the cluster had no room for it."""
    return isinstance(error, ControllerError) and isinstance(
        error.controller_failure, WorkerGroupStartupTimeoutError
    )
