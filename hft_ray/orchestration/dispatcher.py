"""The dispatcher: the actor between Tune's trials and the worker groups.

Every wait is a long poll of bounded length, not a collective: ranks that wait for work cannot run
into the timeout of a process group.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import ray

from hft_ray.background import RETRY, in_a_line, repeat
from hft_ray.compat.ray_nodes import draining_nodes
from hft_ray.orchestration.board import Board
from hft_ray.orchestration.board_entries import Kind, Order
from hft_ray.orchestration.group_state import GroupState

T = TypeVar("T")
log = logging.getLogger(__name__)
NAMESPACE = "hft_ray"
SHUTDOWN = "shutdown"
"""Answer to a worker group after the last order."""
POLL_SECONDS = 10.0
"""Longest wait of one call; the caller then asks again."""
NODE_SECONDS = 2.0
"""Seconds between two queries of the cluster's nodes."""


def actor_name(sweep: str) -> str:
    """Return the name of a sweep's dispatcher actor."""
    return f"dispatcher:{sweep}"


def find(sweep: str) -> Any:
    """Return the handle of a running sweep's dispatcher.

    Raises:
        ValueError: No such sweep is running on this cluster.
    """
    return ray.get_actor(actor_name(sweep), namespace=NAMESPACE)


@dataclass(frozen=True)
class Nodes:
    """Ids of a cluster's nodes.

    Attributes:
        living: Nodes that are alive.
        leaving: Those of them that are about to be taken away, as spot instances are.
    """

    living: frozenset[str]
    leaving: frozenset[str] = frozenset()

    @property
    def staying(self) -> frozenset[str]:
        """Living nodes that are not about to be taken away."""
        return self.living - self.leaving


def look_at_nodes() -> Nodes:
    """Return the nodes of the joined cluster."""
    living = frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])
    return Nodes(living, draining_nodes())


class DispatcherActor:
    """A :class:`Board` behind remote calls; every change wakes the waiting calls.

    Args:
        groups: Number of worker groups.
        retries: How often a trial whose worker died is started again.
        nodes: Returns the ids of the cluster's nodes; may block.
    """

    def __init__(
        self, groups: int, retries: int, nodes: Callable[[], Nodes] = look_at_nodes
    ) -> None:
        self.board = Board(groups, retries)
        self._nodes = nodes
        self._changed = asyncio.Condition()

    async def submit(self, trial: str, kind: Kind, settings: dict[str, Any]) -> None:
        """See :meth:`Board.submit`."""
        await self._change(lambda: self.board.submit(trial, kind, settings))

    async def stop(self, trial: str) -> None:
        """See :meth:`Board.stop`."""
        await self._change(lambda: self.board.stop(trial))

    async def release(self, trial: str) -> None:
        """See :meth:`Board.release`."""
        await self._change(lambda: self.board.release(trial))

    async def close(self) -> None:
        """See :meth:`Board.close`."""
        await self._change(self.board.close)

    async def wait_for_room(self, group: int) -> None:
        """See :meth:`Board.wait_for_room`."""
        await self._change(lambda: self.board.wait_for_room(group))

    async def lose(self, group: int, reason: str) -> None:
        """See :meth:`Board.lose`."""
        await self._change(lambda: self.board.lose(group, reason))

    async def join(
        self, group: int, incarnation: str, size: int, node: str, place: str = ""
    ) -> None:
        """See :meth:`Board.join`."""
        try:
            staying = (await asyncio.to_thread(self._nodes)).staying
        except Exception as error:  # noqa: BLE001 - a group can join without
            self._caught("watching the nodes", error)
            staying = None
        await self._change(lambda: self.board.join(group, incarnation, size, node, staying, place))

    async def watch_nodes(
        self, every: float = NODE_SECONDS, retry: tuple[float, float] = RETRY
    ) -> None:
        """Take back the trials of lost nodes for as long as the actor lives.

        A group that lost a node joins again only when there is room for it.
        """
        await repeat("watching the nodes", self._check_nodes, every, self._caught, retry)

    async def _check_nodes(self) -> None:
        nodes = await asyncio.to_thread(self._nodes)
        await self._change(lambda: self.board.lose_nodes(nodes.living))

    def _caught(self, work: str, error: Exception) -> None:
        log.error("error in the background (%s)", work, exc_info=error)
        self.board.log_error(work, in_a_line(error))

    async def report(self, *arguments: Any) -> bool:
        """See :meth:`Board.report`."""
        return await self._change(lambda: self.board.report(*arguments))

    async def log_progress(self, trial: str, text: str) -> None:
        """See :meth:`Board.log_progress`."""
        await self._change(lambda: self.board.log_progress(trial, text))

    async def log_checkpoint(self, trial: str, step: int) -> None:
        """See :meth:`Board.log_checkpoint`."""
        await self._change(lambda: self.board.log_checkpoint(trial, step))

    async def log_phase(self, *arguments: Any) -> None:
        """See :meth:`Board.log_phase`."""
        await self._change(lambda: self.board.log_phase(*arguments))

    async def now(self) -> list[GroupState]:
        """See :meth:`Board.now`."""
        return self.board.now()

    async def finish(self, *arguments: Any) -> None:
        """See :meth:`Board.finish`."""
        await self._change(lambda: self.board.finish(*arguments))

    async def next_order(self, group: int, incarnation: str, after: int) -> Order | str | None:
        """Wait for the group's next order; None: ask again, ``SHUTDOWN``: none is left."""

        def look() -> Order | str | None:
            order = self.board.order_for(group, incarnation, after)
            return order or (SHUTDOWN if self.board.closing else None)

        return await self._wait(look)

    async def next_result(
        self, trial: str, index: int, seconds: float = POLL_SECONDS
    ) -> dict[str, Any] | None:
        """Wait for the trial's result number ``index``; None to ask again."""
        return await self._wait(lambda: self.board.result_after(trial, index), seconds)

    async def events(self, after: int, seconds: float) -> list[dict[str, Any]]:
        """Wait for events past number ``after``; empty when none came in ``seconds``."""
        return await self._wait(lambda: self.board.events_after(after), seconds) or []

    async def _change(self, change: Callable[[], T]) -> T:
        async with self._changed:
            result = change()
            self._changed.notify_all()
        return result

    async def _wait(self, look: Callable[[], T], seconds: float = POLL_SECONDS) -> T | None:
        """Return what ``look`` finds as soon as it finds something, None when time is up."""
        end = time.monotonic() + seconds
        async with self._changed:
            while not (found := look()):
                left = end - time.monotonic()
                if left <= 0:
                    return None
                try:
                    await asyncio.wait_for(self._changed.wait(), left)
                except TimeoutError:
                    return look() or None
            # Handing out an order is a change too, for which `events` waits.
            self._changed.notify_all()
        return found


def start(sweep: str, groups: int, retries: int, patience: float = 30.0) -> Any:
    """Start the dispatcher of a sweep, on the node of this process, and return its handle.

    Args:
        sweep: Name of the sweep.
        groups: Number of worker groups.
        retries: How often a trial whose worker died is started again.
        patience: Seconds to wait until Ray has ended the dispatcher of a driver that was killed.

    Raises:
        ValueError: A sweep of this name is running on the cluster.
    """
    actor = ray.remote(DispatcherActor).options(
        name=actor_name(sweep),
        namespace=NAMESPACE,
        num_cpus=0,
        max_concurrency=1000,
        label_selector=this_node(),
    )
    end = time.monotonic() + patience
    while True:
        try:
            started = actor.remote(groups, retries)
            break
        except ValueError:
            if time.monotonic() > end:
                raise
            time.sleep(1.0)
    started.watch_nodes.remote()
    return started


def this_node() -> dict[str, str]:
    """Return the label of this process's node, for actors that must not be lost with another."""
    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
