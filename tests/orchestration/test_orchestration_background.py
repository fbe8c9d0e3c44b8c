"""Mirror, listener and watcher of a sweep that raise once or for ever, at every moment of it."""

from __future__ import annotations

import asyncio
import math
import pickle
import threading

import pytest
from waiting import wait_for

from hft_ray.artifacts.mirror import Mirror
from hft_ray.background import BackgroundErrors
from hft_ray.config.load import validate
from hft_ray.orchestration.board import Board
from hft_ray.orchestration.dispatcher import DispatcherActor, Nodes
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.stop_requests import StopListener
from hft_ray.orchestration.sweep_mirror import SweepMirror, sweep_in

WHEN = ["start", "middle", "closing"]
QUICK = (0.01, 0.02)


class Faults:
    """Raises as often as ``failures`` says, and waits at the gate."""

    def __init__(self):
        self.failures = 0
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def __call__(self):
        self.entered.set()
        assert self.gate.wait(60)
        if self.failures > 0:
            self.failures -= 1
            raise RuntimeError("nobody foresaw this")


@pytest.fixture
def config(tmp_path):
    search = {"space": {"selection.ratio": {"low": 0.1, "high": 1.0}}, "trials": 3}
    content = {"name": "s", "model": "m", "data": {"train": "t"}}
    cluster = {"mirror": str(tmp_path / "mirror")}
    return validate(content | {"search": search, "cluster": cluster}, "test.yaml")


@pytest.fixture
def folder(config, tmp_path):
    folder = SweepFolder(tmp_path / "home", config.name)
    folder.claim(config)
    return folder


@pytest.fixture
def faults(monkeypatch):
    faults, put = Faults(), Mirror.put

    def strike(*arguments):
        faults()
        put(*arguments)

    monkeypatch.setattr(Mirror, "put", strike)
    return faults


def end_trial(folder, trial, ended, mirror):
    kept = folder.weights / trial / "final"
    kept.mkdir(parents=True)
    (kept / "state.safetensors").write_bytes(b"weights")
    ended.append(trial)
    mirror.update(ended)


def mirror_sweep(config, folder, faults, when, failures):
    """End three trials, with errors from some moment on; return who was told, and of the mirror."""
    errors, place, ended, shown = BackgroundErrors(), sweep_in(config), [], []
    errors.show = shown.append
    mirror = SweepMirror(place, folder, errors, retry=QUICK)
    for number, moment in enumerate(WHEN):
        if moment == "closing":
            # The last trial ends, and then the sweep, while a copy is under way.
            faults.entered.clear()
            faults.gate.clear()
            mirror.update(ended)
            if faults.failures < math.inf:
                assert faults.entered.wait(60)
        if moment == when:
            faults.failures = failures
        end_trial(folder, f"t{number}", ended, mirror)
        if moment != "closing" and faults.failures < math.inf:
            wait_for(lambda number=number: f"weights/t{number}/final" in place.names())
    threading.Timer(0.05, faults.gate.set).start()
    mirror.close()
    return errors, shown, place


def weights(place):
    return [name for name in place.names() if name.startswith("weights/")]


ALL = [f"weights/t{number}/final" for number in range(3)]


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("failures", [0, 1])
def test_the_mirror_has_every_trial_when_it_is_closed(when, failures, config, folder, faults):
    errors, shown, place = mirror_sweep(config, folder, faults, when, failures)
    assert weights(place) == ALL
    assert errors.undone == {}
    assert errors.counts == ({"mirror": 1} if failures else {})
    assert len(shown) == failures


@pytest.mark.parametrize("when", WHEN)
def test_a_mirror_that_raises_for_ever_is_told_and_caught_up_by_the_next_start(
    when, config, folder, faults
):
    errors, shown, place = mirror_sweep(config, folder, faults, when, math.inf)
    assert weights(place) != ALL
    assert "the same command brings it up to date" in errors.undone["mirror"]
    assert len(shown) == 1
    assert "RuntimeError: nobody foresaw this" in shown[0]
    faults.failures = 0
    again = SweepMirror(place, folder, BackgroundErrors(), retry=QUICK)
    again.update(["t0", "t1", "t2"])
    again.close()
    assert weights(place) == ALL


class Requests:
    """Hands out a request once, as the real ones do."""

    def __init__(self, faults):
        self.faults, self.asked = faults, None

    def poll(self):
        self.faults()
        asked, self.asked = self.asked, None
        return asked


@pytest.mark.parametrize("when", ["start", "middle"])
def test_a_request_to_stop_is_followed_after_errors(when, monkeypatch):
    monkeypatch.setattr("hft_ray.orchestration.stop_requests.POLL_SECONDS", 0.005)
    polling, following, followed = Faults(), Faults(), []

    def follow(mode):
        following()
        followed.append(mode)

    requests, errors = Requests(polling), BackgroundErrors()
    if when == "start":
        polling.failures = 3
    listener = StopListener(requests, follow, errors, QUICK)
    listener.start()
    wait_for(polling.entered.is_set)
    if when == "middle":
        polling.failures = following.failures = 2
    requests.asked = "now"
    wait_for(lambda: followed)
    listener.close()
    assert followed == ["now"]
    assert errors.counts.total() == (3 if when == "start" else 4)
    assert errors.undone == {}


def test_a_listener_that_raises_for_ever_ends_with_the_sweep():
    polling, errors = Faults(), BackgroundErrors()
    polling.failures = math.inf
    listener = StopListener(Requests(polling), lambda mode: None, errors, QUICK)
    listener.start()
    wait_for(lambda: errors.counts.total() > 2)
    listener.close()
    wait_for(lambda: "listening for hft-ray stop" not in (t.name for t in threading.enumerate()))


@pytest.mark.parametrize(("when", "failures"), [("start", 1), ("middle", 1), ("start", 3)])
def test_watching_the_nodes_goes_on_after_errors(when, failures):
    living, faults = {"node", "other"}, Faults()

    def nodes():
        faults()
        return Nodes(frozenset(living))

    async def main():
        dispatcher = DispatcherActor(groups=1, retries=0, nodes=nodes)
        if when == "start":
            faults.failures = failures
        await dispatcher.join(0, "life", 1, "node")
        watching = asyncio.create_task(dispatcher.watch_nodes(0.01, QUICK))
        await dispatcher.submit("a", "trial", {})
        assert (await dispatcher.next_order(0, "life", 0)).trial == "a"
        if when == "middle":
            faults.failures = failures
        living.discard("node")
        seen = []
        while "retried" not in (each["event"] for each in seen):
            seen += await dispatcher.events(len(seen), 10.0)
        watching.cancel()
        return [each for each in seen if each["event"] == "background_error"]

    troubles = asyncio.run(asyncio.wait_for(main(), 60))
    assert [each["work"] for each in troubles] == ["watching the nodes"] * failures
    assert troubles[0]["error"] == "RuntimeError: nobody foresaw this"


def run_trials(board, numbers, seen):
    """Run trials as driver, Tune and a group do; return the number of the last event taken."""
    for number in numbers:
        trial, order = f"t{number:04d}", None
        board.submit(trial, "trial", {"selection.ratio": 0.5})
        order = board.order_for(0, "life", 0)
        for step in range(1, 21):
            values = {f"metric-{index}": float(step) for index in range(10)}
            board.report("life", 0, order.trial, step, values, scored=True)
        board.finish("life", 0, 0, trial, {"state": "complete", "selection": ["x" * 1000]})
        for index in range(21):
            result = board.result_after(trial, index)
        assert result["outcome"]["selection"] == ["x" * 1000]
        new = board.events_after(seen)
        assert [each["trial"] for each in new] == [trial] * 22
        board.release(trial)
        seen += len(new)
    return seen


def test_the_board_keeps_little_of_what_has_been_taken():
    board = Board(groups=1, retries=0)
    board.join(0, "life", 1)
    seen = run_trials(board, range(200), len(board.events_after(0)))
    before = len(pickle.dumps(board))
    run_trials(board, range(200, 2000), seen)
    grown = (len(pickle.dumps(board)) - before) / 1800
    assert grown < 200, "bytes for each trial"
    assert not board.jobs
