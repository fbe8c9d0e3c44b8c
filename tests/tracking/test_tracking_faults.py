"""A tracker whose store raises what nobody foresaw, refuses, hangs, or takes no artifacts."""

from __future__ import annotations

import errno
import json
import math
import re
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hft_ray.background import BackgroundErrors
from hft_ray.tracking import Tracker, artifact_location, read_sweep, store, tracking_uri

QUICK = (0.02, 0.05)
LONG = 300
WHEN = ["start", "middle", "closing"]


class Faults:
    """A client of a real store whose calls raise as long as ``strike`` says so.

    Attributes:
        strike: Told the name of a call and its arguments; may raise.
    """

    def __init__(self):
        self.strike = lambda call, *args, **kwargs: None
        self.strike_with = lambda call, client, *args, **kwargs: None

    def client(self, uri):
        client, faults = open_client(uri), self

        class Client:
            def __getattr__(self, name):
                def call(*args, **kwargs):
                    faults.strike(name, *args, **kwargs)
                    faults.strike_with(name, client, *args, **kwargs)
                    return getattr(client, name)(*args, **kwargs)

                return call

        return Client()

    def raise_next(self, count):
        def strike(call, *args, **kwargs):
            nonlocal count
            if count > 0:
                count -= 1
                raise TypeError("nobody foresaw this")

        self.strike = strike

    def heal(self):
        self.strike = lambda call, *args, **kwargs: None


open_client = store.open_client


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A storage root shared by the tests: creating a store takes seconds."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture
def faults(monkeypatch):
    faults = Faults()
    monkeypatch.setattr(store, "open_client", faults.client)
    return faults


@pytest.fixture
def begin(root, tmp_path, faults):
    """Return a function that opens a tracker of the sweep, and what the user is told by it."""
    trackers = []

    def opened():
        shown = []
        errors = BackgroundErrors(shown.append)
        uri = tracking_uri(None, root)
        tracker = Tracker(
            uri,
            "faults",
            spool=tmp_path,
            artifacts=artifact_location(uri, root),
            errors=errors,
            retry=QUICK,
        )
        trackers.append(tracker)
        return tracker, errors, shown

    yield opened
    for tracker in trackers:
        tracker.close(timeout=0)


def write(tracker, name, part):
    """Put in a part of a sweep of two trials."""
    match part:
        case "start":
            tracker.open_sweep(name, "name: x\n", {"p": 1}, {"team": "a"})
            tracker.open_trial("t0", {"lr": 0.1}, {})
            tracker.log("t0", 0, {"x": 0.0})
        case "middle":
            for step in range(1, 5):
                tracker.log("t0", step, {"x": float(step)})
            tracker.log_artifact("picture", "picture.txt", "t0")
            tracker.finish_trial("t0", "complete")
            tracker.open_trial("t1", {"lr": 0.2}, {})
        case "closing":
            tracker.log("t1", 1, {"x": 1.0})
            tracker.finish_trial("t1", "pruned", "asked")
            tracker.finish_sweep("complete")


def check_whole(root, name):
    record = read_sweep(tracking_uri(None, root), "faults", name)
    assert (record.state, record.tags["team"], record.params) == ("complete", "a", {"p": 1})
    assert record.artifact("config.yaml") == b"name: x\n"
    first, second = record.trials
    assert (first.state, second.state) == ("complete", "pruned")
    assert (first.params, second.params) == ({"lr": 0.1}, {"lr": 0.2})
    assert first.history("x") == [(step, float(step)) for step in range(5)]
    assert second.history("x") == [(1, 1.0)]
    assert second.tags["hft_ray.reason"] == "asked"
    client = MlflowClient(tracking_uri(None, root))
    place = client.download_artifacts(first.run_id, "picture.txt")
    assert Path(place).read_text() == "picture"


def waiting(folder):
    return {path.name: len(path.read_text().splitlines()) for path in folder.glob("*.jsonl")}


@pytest.mark.parametrize("when", WHEN)
def test_an_unforeseen_error_loses_nothing(when, begin, root, faults, tmp_path):
    tracker, errors, shown = begin()
    for part in WHEN:
        if part == when:
            faults.raise_next(1)
        write(tracker, f"once-{when}", part)
        if part != "closing":
            assert tracker.flush(LONG)
    assert tracker.close(LONG)
    check_whole(root, f"once-{when}")
    assert waiting(tmp_path) == {}
    assert len(shown) == 1
    assert "TypeError: nobody foresaw this" in shown[0]
    assert errors.undone == {}
    (line,) = errors.summary()
    assert line.startswith("1 error in the background")
    assert line.endswith("nothing was lost")


@pytest.mark.parametrize("when", WHEN)
def test_unforeseen_errors_for_ever_leave_all_on_disk_for_the_next_start(
    when, begin, root, faults, tmp_path
):
    tracker, errors, shown = begin()
    for part in WHEN:
        if part == when:
            faults.raise_next(math.inf)
        write(tracker, f"ever-{when}", part)
        if WHEN.index(part) < WHEN.index(when):
            assert tracker.flush(LONG)
    assert not tracker.close(0.5)
    (undone,) = errors.undone.values()
    assert sum(int(found) for found in re.findall(r"(\d+) in /", undone)) >= 3
    assert all(str(tmp_path / name) in undone for name in waiting(tmp_path))
    assert "The same command" in undone
    assert any("nobody foresaw this" in text for text in shown)
    assert len(shown) <= 4, "each kind of trouble once"
    faults.heal()
    again, errors, _ = begin()
    assert again.close(LONG)
    assert errors.summary() == []
    assert waiting(tmp_path) == {}
    check_whole(root, f"ever-{when}")


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_an_unwritable_artifact_root_holds_back_nothing_else(number, begin, root, faults, tmp_path):
    def strike(call, *args, **kwargs):
        if call == "log_artifact":
            raise OSError(number, "cannot be written")

    faults.strike = strike
    tracker, errors, shown = begin()
    for part in WHEN:
        write(tracker, f"artifacts-{number}", part)
    assert tracker.flush(LONG, artifacts=False)
    assert not tracker.close(0.5)
    record = read_sweep(tracking_uri(None, root), "faults", f"artifacts-{number}")
    assert record.state == "complete"
    assert [trial.state for trial in record.trials] == ["complete", "pruned"]
    assert waiting(tmp_path) == {"artifacts.jsonl" if number == errno.EIO else "refused.jsonl": 2}
    assert any("artifact store" in text for text in shown)
    assert str(tmp_path) in errors.undone["tracking store"]
    faults.heal()
    again, _, _ = begin()
    assert again.close(LONG)
    check_whole(root, f"artifacts-{number}")


def test_an_artifact_root_that_hangs_holds_back_nothing_else(begin, root, faults):
    go_on = threading.Event()
    faults.strike = lambda call, *_, **__: call != "log_artifact" or go_on.wait(LONG)
    tracker, _, _ = begin()
    for part in WHEN:
        write(tracker, "hangs", part)
    assert tracker.flush(LONG, artifacts=False)
    assert read_sweep(tracking_uri(None, root), "faults", "hangs").state == "complete"
    assert not tracker.flush(0.05)
    go_on.set()
    assert tracker.close(LONG)
    check_whole(root, "hangs")


def test_one_metric_that_is_not_taken_takes_no_other_along(begin, root, faults, tmp_path):
    def strike(call, *args, metrics=(), **kwargs):
        if any(metric.key == "poison" for metric in metrics):
            raise TypeError("poison")

    faults.strike = strike
    tracker, errors, _ = begin()
    tracker.open_sweep("poison", "name: x\n", {}, {})
    for step in range(6):
        tracker.log_sweep(step, {"poison" if step == 3 else "x": 1.0})
    tracker.finish_sweep("complete")
    assert not tracker.close(5)
    record = read_sweep(tracking_uri(None, root), "faults", "poison")
    assert (record.state, record.metrics) == ("complete", {"x": 1.0})
    (line,) = (tmp_path / "refused.jsonl").read_text().splitlines()
    assert json.loads(line)["values"] == {"poison": 1.0}
    assert f"1 in {tmp_path / 'refused.jsonl'}" in errors.undone["tracking store"]


@pytest.mark.parametrize("call", ["log_batch", "set_terminated", "update_run", "create_run"])
@pytest.mark.parametrize("carried_out", [False, True])
def test_a_store_that_goes_in_the_middle_of_an_event_leaves_no_run_open(
    call, carried_out, begin, root, faults
):
    """Each event takes several requests; any of them may fail, or its answer be lost."""
    name = f"open-{call}-{carried_out}"
    struck = set()

    def strike(made, client, *args, **kwargs):
        place = (made, str(args), str(kwargs))
        if made == call and place not in struck:
            struck.add(place)
            if carried_out:
                getattr(client, made)(*args, **kwargs)
            raise OSError(errno.EIO, "gone")

    tracker, _, _ = begin()
    write(tracker, name, "start")
    assert tracker.flush(LONG)
    faults.strike_with = strike
    tracker.ensure_finished("t0", {"lr": 0.1}, {"a": "b"}, 2, {"x": 2.0}, "complete")
    tracker.ensure_finished("t1", {"lr": 0.2}, {}, 1, {"x": 1.0}, "pruned", "asked")
    tracker.finish_sweep("complete")
    assert tracker.close(LONG)
    assert struck or call == "update_run"
    record = read_sweep(tracking_uri(None, root), "faults", name)
    assert (record.state, [each.state for each in record.trials]) == (
        "complete",
        ["complete", "pruned"],
    )
    client = MlflowClient(tracking_uri(None, root))
    for run_id, status in zip(
        [record.run_id, *(each.run_id for each in record.trials)],
        ["FINISHED", "FINISHED", "KILLED"],
        strict=True,
    ):
        run = client.get_run(run_id)
        assert (run.info.status, run.info.end_time is not None) == (status, True)


def test_a_spool_that_another_program_deletes_ends_nothing(begin, root, faults, tmp_path):
    def away(*_, **__):
        raise OSError(errno.EIO, "gone")

    tracker, errors, _ = begin()
    write(tracker, "deleted", "start")
    assert tracker.flush(LONG)
    faults.strike = away
    write(tracker, "deleted", "middle")
    assert not tracker.flush(0.3)
    (tmp_path / "tracking.jsonl").unlink()
    faults.heal()
    assert tracker.flush(LONG)
    write(tracker, "deleted", "closing")
    assert not tracker.close(5), "the start of t1 is lost"
    assert errors.counts["tracking store"] == 1
    assert read_sweep(tracking_uri(None, root), "faults", "deleted").state == "complete"


def test_an_experiment_that_another_sweep_makes_in_this_moment_is_taken(begin, root, faults):
    def strike(call, *args, **kwargs):
        if call == "create_experiment":
            faults.heal()
            other = open_client(tracking_uri(None, root))
            other.create_experiment(args[0], artifact_location=kwargs["artifact_location"])

    client = open_client(tracking_uri(None, root))
    if (found := client.get_experiment_by_name("faults")) is not None:
        client.rename_experiment(found.experiment_id, "faults before")
    faults.strike = strike
    tracker, errors, _ = begin()
    for part in WHEN:
        write(tracker, "together", part)
    assert tracker.close(LONG)
    assert errors.summary() == []
    check_whole(root, "together")
