"""Requests to end a sweep, against a real store: who gets them, who does not."""

from __future__ import annotations

import threading

import pytest

from hft_ray.background import BackgroundErrors
from hft_ray.config import ConfigError
from hft_ray.orchestration import stop_requests
from hft_ray.orchestration.stop_requests import StopListener
from hft_ray.tracking import DRIVER, StopRequests, SweepRun, Tracker, UnavailableError, tracking_uri

LONG = 400
"""Seconds: making a store takes a loaded machine minutes."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The address of a store, and a folder."""
    folder = tmp_path_factory.mktemp("store")
    return tracking_uri(None, folder), folder


@pytest.fixture
def begin(store):
    """Open a sweep as a driver does; return its tracker, and what the driver and others see."""
    uri, folder = store
    trackers = []

    def opened(name, driver):
        tracker = Tracker(uri, "hft-ray", spool=folder / f"spool-{driver}")
        trackers.append(tracker)
        tracker.open_sweep(name, f"name: {name}", {}, {DRIVER: driver})
        assert tracker.flush(LONG)
        return tracker, StopRequests(uri, tracker.run_id, driver), SweepRun(uri, "hft-ray", name)

    yield opened
    for tracker in trackers:
        tracker.close()


def test_a_request_reaches_its_driver_once_and_may_be_sharpened(begin):
    tracker, requests, run = begin("first", "a")
    assert run.silence is None
    assert requests.poll() is None
    run.look()
    assert run.silence < LONG
    run.ask("finish-running")
    run.look()
    assert (run.state, run.taken) == ("running", False)
    assert requests.poll() == "finish-running"
    assert requests.poll() is None
    run.look()
    assert run.taken
    run.ask("now")
    run.look()
    assert not run.taken
    assert requests.poll() == "now"
    tracker.finish_sweep("stopped")
    assert tracker.flush(LONG)
    run.look()
    assert run.state == "stopped"


def test_a_request_to_an_earlier_driver_does_not_end_a_later_one(begin):
    _, _, run = begin("again", "killed")
    run.ask("now")
    _, requests, again = begin("again", "next")
    assert requests.poll() is None
    # One who looked at the sweep before it was started again asks a driver that is gone.
    run.ask("now")
    assert requests.poll() is None
    again.ask("now")
    assert requests.poll() == "now"


def test_a_sweep_that_is_not_written_yet_has_no_requests(tmp_path):
    assert StopRequests(tracking_uri(None, tmp_path), lambda: None, "a").poll() is None
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_away_only_delays_a_request(monkeypatch, caplog):
    monkeypatch.setattr(stop_requests, "POLL_SECONDS", 0.01)
    answers = [UnavailableError("gone"), UnavailableError("gone"), None, "now"]
    followed, heard = [], threading.Event()

    class Requests:
        def poll(self):
            answer = answers.pop(0) if answers else None
            if isinstance(answer, Exception):
                raise answer
            return answer

    def follow(mode):
        followed.append(mode)
        heard.set()

    errors = BackgroundErrors()
    listener = StopListener(Requests(), follow, errors)
    listener.start()
    assert heard.wait(30)
    listener.close()
    assert followed == ["now"]
    assert errors.summary() == []
    assert sum("not heard" in record.message for record in caplog.records) == 1


def test_a_sweep_that_is_not_there_is_named(begin, store):
    begin("first", "b")
    for name in ("missing", "../first", "first' or '1'='1"):
        with pytest.raises(ConfigError, match="no sweep of this name"):
            SweepRun(store[0], "hft-ray", name)


def test_a_server_that_does_not_answer_is_named():
    with pytest.raises(ConfigError, match=r"tracking.uri: the tracking store does not answer"):
        SweepRun("http://127.0.0.1:9", "hft-ray", "s")


def test_who_asks_while_the_store_is_made_waits_for_it(tmp_path):
    uri, stop = tracking_uri(None, tmp_path), threading.Event()
    told = []

    def ask():
        while not stop.is_set():
            try:
                SweepRun(uri, "hft-ray", "new")
            except ConfigError as error:
                told.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    tracker = Tracker(uri, "hft-ray", spool=tmp_path / "spool")
    tracker.open_sweep("new", "name: new", {}, {})
    written = tracker.close(LONG)
    stop.set()
    asking.join(LONG)
    assert written
    assert not asking.is_alive()
    known = ("no tracking store", "no such experiment", "no sweep of this name")
    assert [error for error in told if not any(each in error for each in known)] == []
    assert SweepRun(uri, "hft-ray", "new").state == "running"
