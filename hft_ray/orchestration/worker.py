"""What every rank of a worker group does: run trial after trial until the shutdown."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from hft_ray.config import Config, ConfigError
from hft_ray.config.keys import with_settings
from hft_ray.config.sections.arms import arm_variants
from hft_ray.evaluation.suite import PROGRESS
from hft_ray.item_scores import BASE, SUFFIX
from hft_ray.orchestration.board_entries import Order
from hft_ray.orchestration.diagnosis import classify
from hft_ray.orchestration.dispatcher import SHUTDOWN, find
from hft_ray.orchestration.faults import Fault, explained
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.kept_weights import disk_budget
from hft_ray.orchestration.sweep_mirror import checkpoints_in
from hft_ray.ranks import Ranks
from hft_ray.selection import FrozenChangedError
from hft_ray.training import Outcome, TrainingError, Workspace
from hft_ray.training.base import run_base
from hft_ray.training.process_group import start_deepspeed
from hft_ray.training.resource_metrics import Use
from hft_ray.training.run import run
from hft_ray.training.variant_builder import RunArtifacts

LONGEST_REASON = 1000
log = logging.getLogger(__name__)


class TrialCrashError(RuntimeError):
    """Ends the group's processes after an error that may have left them in any state."""


@dataclass
class _Worker:
    """One rank of one group."""

    dispatcher: Any
    group: int
    incarnation: str
    config: Config
    workspace: Workspace
    folder: SweepFolder

    @property
    def rank(self) -> int:
        return self.workspace.ranks.rank

    def loop(self) -> None:
        """Carry out orders until the shutdown."""
        after = 0
        while True:
            order = ray.get(self.dispatcher.next_order.remote(self.group, self.incarnation, after))
            if order == SHUTDOWN:
                return
            if order is not None:
                after = order.number
                self._carry_out(order)

    def _carry_out(self, order: Order) -> None:
        log.info("order %d: %s %s", order.number, order.kind, order.trial)
        try:
            outcome = self._train(order)
        except (TrainingError, FrozenChangedError) as error:
            # Every rank raises this at the same step, so the group can continue.
            self._fail(order.trial, str(error), classify(error))
        except Exception as error:
            # Other ranks may hang in a collective and memory may be lost: the group is restarted.
            # The fault's rule decides whether the trial is retried then.
            reason = _in_a_line(error)
            self._fail(order.trial, reason, classify(error))
            raise TrialCrashError(f"{order.trial} failed: {reason}") from error
        else:
            self._finish(order.trial, outcome)

    def _train(self, order: Order) -> dict[str, Any]:
        config = with_settings(self.config, order.settings)
        if order.kind == "base":
            items = self.folder.scores / f"{BASE}{SUFFIX}"
            with _forwarded(self.dispatcher, order.trial, self.workspace.ranks.main):
                return {"state": "complete", **run_base(config, self.workspace, items)}

        use = Use(self.workspace.device)

        def report(step: int, metrics: dict[str, float], scored: bool, last: bool) -> bool:
            # By these names Ray's dashboard shows the step of each trial and its worker.
            call = self.dispatcher.report.options(name=f"{order.trial}.report step {step}")
            measured = metrics | use.metrics()
            args = (self.incarnation, self.group, order.trial, step, measured, scored, last)
            return bool(ray.get(call.remote(*args)))

        def saved(step: int) -> None:
            ray.get(self.dispatcher.log_checkpoint.remote(order.trial, step))

        def doing(phase: str) -> None:
            ray.get(self.dispatcher.log_phase.remote(self.incarnation, self.group, phase))

        checkpoints = self.folder.checkpoints / order.trial
        outcome: Outcome = run(
            config,
            self.workspace,
            report,
            checkpoints=checkpoints,
            wanted=self._wanted(order.trial, config.arm),
            mirror=checkpoints_in(config, order.trial),
            saved=saved,
            doing=doing,
            items=self.folder.scores / order.trial,
        )
        content = outcome.to_json()
        return {
            "state": outcome.state,
            "seconds": outcome.seconds,
            "steps": outcome.steps,
            "selection": content["selection"],
            "variants": content["variants"],
            "continual": outcome.continual,
        }

    def _wanted(self, trial: str, arm: str | None) -> RunArtifacts:
        search = self.config.search
        assert search is not None
        variants = arm_variants(arm, search.arms or {}, search.variants)
        if search.weights == "none":
            return RunArtifacts(None, search.objectives, variants)
        weights = self.folder.weights
        budget = disk_budget(self.config, weights)
        return RunArtifacts(weights / trial, search.objectives, variants, budget)

    def _fail(self, trial: str, reason: str, fault: Fault) -> None:
        # A rank whose peer is gone does not know why: the peer has reported it, or was killed.
        if fault != "peer_lost":
            message = explained(reason, fault)
            self._finish(trial, {"state": "failed", "reason": message, "fault": fault})

    def _finish(self, trial: str, outcome: dict[str, Any]) -> None:
        ray.get(
            self.dispatcher.finish.remote(self.incarnation, self.group, self.rank, trial, outcome)
        )


@contextmanager
def _forwarded(dispatcher: Any, trial: str, wanted: bool) -> Iterator[None]:
    """Forward log records for the user to the driver while the block runs."""
    handler = _Forwarding(dispatcher, trial)
    source = logging.getLogger(PROGRESS)
    source.setLevel(logging.INFO)
    if wanted:
        source.addHandler(handler)
    try:
        yield
    finally:
        source.removeHandler(handler)


class _Forwarding(logging.Handler):
    def __init__(self, dispatcher: Any, trial: str) -> None:
        super().__init__(logging.INFO)
        self._dispatcher, self._trial = dispatcher, trial

    def emit(self, record: logging.LogRecord) -> None:
        ray.get(self._dispatcher.log_progress.remote(self._trial, record.getMessage()))


def _in_a_line(error: Exception) -> str:
    if isinstance(error, ConfigError):
        return "; ".join(map(str, error.problems))
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]


def worker_main(setup: dict[str, Any]) -> None:
    """Run one rank of a worker group; Ray Train calls this in each of its workers.

    Args:
        setup: ``sweep``, ``group``, ``root`` (storage root) and ``config`` (FILE as a mapping).
    """
    start_deepspeed()
    context = ray.train.get_context()
    ranks = Ranks(context.get_world_rank(), context.get_world_size())
    device = ray.train.torch.get_device()
    config = Config.model_validate(setup["config"])
    os.environ["LOCAL_RANK"] = str(context.get_local_rank())
    torch.set_num_threads(max(1, int(config.cluster.cpus_per_worker)))
    incarnation = ranks.broadcast(uuid.uuid4().hex)
    dispatcher = find(setup["sweep"])
    node = ray.get_runtime_context().get_node_id()
    place = f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
    joining = (setup["group"], incarnation, ranks.size, node, place)
    ray.get(dispatcher.join.remote(*joining))
    root = Path(setup["root"])
    workspace = Workspace(root, ranks, device)
    folder = SweepFolder(root, setup["sweep"])
    _Worker(dispatcher, setup["group"], incarnation, config, workspace, folder).loop()
