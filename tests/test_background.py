"""A worker whose step raises once or for ever, at its start, in the middle and while it closes."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
import time

import pytest
from waiting import wait_for

from hft_ray.background import CLOSING_ATTEMPTS, BackgroundErrors, Worker, backoff, repeat

QUICK = (0.01, 0.02)
WHEN = ["start", "middle", "closing"]


class Work:
    """Does the items put in, and raises as often as ``failures`` says."""

    def __init__(self):
        self.shown = []
        self.errors = BackgroundErrors(self.shown.append)
        self.failures = 0
        self.waiting, self.done = [], []
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        self.worker = Worker("copying", self.step, self.errors.caught, QUICK)

    def put(self, item):
        self.waiting.append(item)
        self.worker.wake()

    def step(self):
        self.entered.set()
        assert self.gate.wait(60)
        if self.failures > 0:
            self.failures -= 1
            raise ValueError("it broke")
        while self.waiting:
            self.done.append(self.waiting.pop(0))


def run(work, when, failures):
    """Hand in three items, and let it fail from some moment on; return what ``close`` returns."""
    for number, moment in enumerate(WHEN):
        if moment == when:
            work.failures = failures
        if moment == "closing":
            # The item arrives, and the end, while a step is under way.
            work.entered.clear()
            work.gate.clear()
            work.worker.wake()
            assert work.entered.wait(60)
        work.put(number)
        if moment != "closing" and work.failures < math.inf:
            wait_for(lambda: not work.waiting)
    threading.Timer(0.05, work.gate.set).start()
    return work.worker.close(60)


@pytest.mark.parametrize("when", WHEN)
def test_an_error_loses_nothing_and_is_told_and_logged(when, caplog):
    work = Work()
    assert run(work, when, failures=1)
    assert work.done == [0, 1, 2]
    assert len(work.shown) == 1
    assert "copying" in work.shown[0]
    assert "ValueError: it broke" in work.shown[0]
    assert work.errors.summary() == ["1 error in the background (copying); nothing was lost"]
    (record,) = (each for each in caplog.records if each.levelno == logging.ERROR)
    assert record.exc_info is not None


@pytest.mark.parametrize("when", WHEN)
def test_errors_for_ever_end_neither_the_thread_nor_its_closing(when):
    work = Work()
    assert not run(work, when, failures=math.inf)
    assert [*work.done, *work.waiting] == [0, 1, 2], "what is not done is still there"
    assert work.errors.counts["copying"] >= CLOSING_ATTEMPTS
    assert len(work.shown) == 1, "told once, and at the end"
    work.errors.leave("copying", "2 items wait")
    count = work.errors.counts["copying"]
    told = [f"{count} errors in the background (copying)", "2 items wait"]
    assert work.errors.summary() == told


def test_after_an_error_the_pause_counts_however_often_it_is_woken():
    work = Work()
    work.failures = 1
    work.worker = Worker("slow", work.step, work.errors.caught, (60.0, 60.0))
    work.put(1)
    wait_for(lambda: work.errors.counts["slow"])
    work.entered.clear()
    for _ in range(1000):
        work.worker.wake()
    assert not work.entered.wait(0.1)
    assert work.worker.close(60)
    assert work.done == [1]


def test_a_step_that_hangs_is_left_alone():
    work = Work()
    work.gate.clear()
    work.put(1)
    assert work.entered.wait(60)
    began = time.monotonic()
    assert not work.worker.close(0.05)
    assert time.monotonic() - began < 30
    work.gate.set()


def test_a_worker_that_need_not_drain_makes_no_further_step():
    work = Work()
    work.gate.clear()
    work.put(1)
    assert work.entered.wait(60)
    work.put(2)
    threading.Timer(0.05, work.gate.set).start()
    work.failures = 1
    assert not work.worker.close(60, drain=False)
    assert work.waiting == [1, 2]


def test_who_shows_what_happens_may_fail_too():
    def show(text):
        raise OSError("no terminal")

    errors = BackgroundErrors(show)
    errors.caught("copying", ValueError("x"))
    assert errors.counts == {"copying": 1}


@pytest.mark.parametrize("failures", [1, 5])
def test_a_watcher_goes_on_after_errors(failures):
    caught, looks = [], itertools.count()
    done = asyncio.Event()

    async def look():
        number = next(looks)
        if 2 <= number < 2 + failures:
            raise KeyError("node")
        if number == 4 + failures:
            done.set()

    async def main():
        watching = repeat("watching", look, 0.001, lambda *told: caught.append(told), QUICK)
        task = asyncio.create_task(watching)
        await asyncio.wait_for(done.wait(), 60)
        task.cancel()

    asyncio.run(main())
    assert [(work, type(error)) for work, error in caught] == [("watching", KeyError)] * failures


def test_pauses_grow_up_to_the_longest():
    assert [backoff((1.0, 30.0), n) for n in (1, 2, 3, 6, 10_000)] == [1.0, 2.0, 4.0, 30.0, 30.0]
