"""The dispatcher's waiting, in this process: it is an ordinary class that Ray makes an actor of."""

from __future__ import annotations

import asyncio
import time

import pytest

from hft_ray.orchestration.dispatcher import SHUTDOWN, DispatcherActor, Nodes


def run(main):
    return asyncio.run(asyncio.wait_for(main, 20))


async def joined():
    dispatcher = DispatcherActor(groups=1, retries=0, nodes=lambda: Nodes(frozenset({"node"})))
    await dispatcher.join(0, "life", 1, "node")
    return dispatcher


async def blocked(*tasks):
    """Let tasks run until they wait for what another task does."""
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


def test_an_order_reaches_a_group_that_waits_for_it():
    async def main():
        dispatcher = await joined()
        waiting = asyncio.create_task(dispatcher.next_order(0, "life", 0))
        await blocked(waiting)
        start = time.monotonic()
        await dispatcher.submit("a", "trial", {})
        assert (await waiting).trial == "a"
        assert time.monotonic() - start < 1

    run(main())


def test_handing_out_an_order_wakes_those_who_follow_the_events():
    async def main():
        dispatcher = await joined()
        await dispatcher.submit("a", "trial", {})
        seen = len(await dispatcher.events(0, 1.0))
        waiting = asyncio.create_task(dispatcher.events(seen, 10.0))
        await blocked(waiting)
        await dispatcher.next_order(0, "life", 0)
        assert [event["event"] for event in await waiting] == ["started"]

    run(main())


def test_a_wait_ends_when_its_time_is_up():
    async def main():
        dispatcher = await joined()
        await dispatcher.submit("a", "trial", {})
        start = time.monotonic()
        assert await dispatcher.next_result("a", 0, 0.1) is None
        assert await dispatcher.events(2, 0.1) == []
        assert 0.2 <= time.monotonic() - start < 2

    run(main())


def test_results_reach_who_waits_and_the_group_is_shut_down_at_the_end():
    async def main():
        dispatcher = await joined()
        await dispatcher.submit("a", "trial", {})
        order = await dispatcher.next_order(0, "life", 0)
        result = asyncio.create_task(dispatcher.next_result("a", 0))
        following = asyncio.create_task(dispatcher.next_order(0, "life", order.number))
        await blocked(result, following)
        assert not await dispatcher.report("life", 0, "a", 4, {"task/score": 0.5}, True)
        assert (await result)["values"] == {"task/score": 0.5}
        await dispatcher.finish("life", 0, 0, "a", {"state": "complete"})
        assert (await dispatcher.next_result("a", 1))["outcome"]["state"] == "complete"
        await dispatcher.close()
        assert await following == SHUTDOWN

    run(main())


def test_a_group_still_gets_what_waits_when_the_board_is_closing():
    async def main():
        dispatcher = await joined()
        await dispatcher.submit("a", "trial", {})
        await dispatcher.close()
        assert (await dispatcher.next_order(0, "life", 0)).trial == "a"

    run(main())


def test_an_unknown_trial_is_an_error_not_a_wait():
    async def main():
        dispatcher = await joined()
        with pytest.raises(KeyError):
            await dispatcher.next_result("unknown", 0)

    run(main())


def test_a_node_that_is_about_to_be_taken_away_is_lost_for_a_group_that_comes_from_it():
    async def main():
        nodes = Nodes(frozenset({"old", "new"}), leaving=frozenset({"old"}))
        assert nodes.staying == {"new"}
        dispatcher = DispatcherActor(groups=1, retries=0, nodes=lambda: nodes)
        await dispatcher.join(0, "life 0", 1, "old")
        await dispatcher.submit("a", "trial", {})
        await dispatcher.next_order(0, "life 0", 0)
        await dispatcher.join(0, "life 1", 1, "new")
        assert (await dispatcher.next_order(0, "life 1", 0)).trial == "a"
        (retried,) = (each for each in dispatcher.board.events if each["event"] == "retried")
        assert retried["fault"] == "node_lost"

    run(main())
