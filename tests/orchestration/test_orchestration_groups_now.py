"""What each worker group does: on the board, in tracking, and in ``hft-ray status``."""

from __future__ import annotations

import json
import shutil
import time

import pytest
from recorded_sweep import Sweep
from typer.testing import CliRunner

from hft_ray.cli.main import app
from hft_ray.orchestration import sweep_status
from hft_ray.orchestration.board import Board
from hft_ray.orchestration.group_state import GroupState, group_tags, groups_in


def phases(board):
    return [(each.group, each.trial, each.phase) for each in board.now()]


def test_the_board_knows_what_each_group_does():
    board = Board(3, retries=0)
    assert {each.phase for each in board.now()} == {"starting"}
    board.join(0, "life", 2, "n0", place="a (10.0.0.1)")
    board.join(0, "life", 2, "n1", place="b (10.0.0.2)")
    board.join(1, "other", 1, "n0", place="a (10.0.0.1)")
    board.lose(2, "no room")
    board.submit("base", "base", {})
    board.submit("t0000", "trial", {})
    board.order_for(0, "life", 0)
    board.order_for(1, "other", 0)
    assert phases(board) == [
        (0, None, "scoring the base model"),
        (1, "t0000", "loading the model"),
        (2, None, "lost"),
    ]
    assert [each.nodes for each in board.now()] == [
        ["a (10.0.0.1)", "b (10.0.0.2)"],
        ["a (10.0.0.1)"],
        [],
    ]
    board.log_phase("other", 1, "training")
    board.log_phase("an earlier life", 1, "scoring")
    before = board.now()[1]
    assert (before.phase, before.trial) == ("training", "t0000")
    board.finish("other", 1, 0, "t0000", {"state": "complete"})
    assert phases(board)[1] == (1, None, "idle")
    assert board.now()[1].since >= before.since
    board.log_phase("other", 1, "too late")
    assert phases(board)[1] == (1, None, "idle")
    board.submit("t0001", "trial", {})
    board.order_for(1, "other", 0)
    board.finish("other", 1, 0, "t0001", {"state": "failed", "fault": "worker_crash"})
    assert phases(board)[1] == (1, None, "starting")


def test_the_tags_say_the_same_and_others_are_passed_over():
    states = [GroupState(n, "training", f"t000{n}", 5.0, ["a"]) for n in range(3)]
    tags = group_tags(states)
    assert groups_in(tags, 3) == states
    # A sweep that goes on with fewer groups, or whose tag was cut, has no line for the others.
    assert groups_in(tags, 1) == states[:1]
    assert groups_in(tags | {"hft_ray.group.0": '{"group":0,"pha'}, 3) == states[1:]
    assert groups_in({}, 3) == []


@pytest.fixture
def sweep(mlflow_store, tmp_path):
    shutil.copy(mlflow_store, tmp_path)
    return Sweep(tmp_path, {"cluster": {"groups": 3}})


def test_status_shows_each_group_from_tracking_alone(sweep, monkeypatch):
    device = {"system/device_memory_bytes": 3 * 2.0**30, "system/device_used": 0.87}
    host = {"system/host_memory_bytes": 2.0**30, "system/cores_used": 1.26}
    began = time.time() - 3700
    states = []
    for number, used in enumerate((device | host, host)):
        trial = sweep.start()
        sweep.take("started", trial, group=number, attempt=1)
        sweep.take("report", trial, step=40, metrics={"train/loss": 1.25, **used})
        states.append(
            GroupState(number, "training", trial, began, [f"host-{number} (10.0.0.{number})"])
        )
    states.append(GroupState(2, "starting", None, began, []))
    assert sweep.recorder._tracker.flush(300)
    told = group_tags(states)
    requests = sweep.recorder.stop_requests(lambda: told)
    assert requests.poll() is None

    def invoke(*more):
        ask = ["status", "s", "--storage", str(sweep.root), *more]
        done = CliRunner().invoke(app, ask, terminal_width=160, env={"COLUMNS": "160"})
        assert done.exit_code == 0, done.output
        return done.stdout

    first, second, third = json.loads(invoke("--json"))["groups"]
    assert (first["trial"], first["phase"], first["step"]) == ("t0000", "training", 40)
    assert (first["device_memory_bytes"], first["device_used"]) == (3 * 2.0**30, 0.87)
    assert (second["device_used"], second["cores_used"]) == (None, 1.26)
    assert second["since"] == began
    assert second["nodes"] == ["host-1 (10.0.0.1)"]
    assert (third["trial"], third["loss"], third["nodes"]) == (None, None, [])
    lines = invoke().splitlines()
    (one,) = (line for line in lines if "host-0" in line)
    for part in ("t0000", "training", "1:0", "40", "1.2500", "3 GiB", "87%"):
        assert part in one
    (two,) = (line for line in lines if "host-1" in line)
    assert "1 GiB" in two and "1.3 cores" in two
    assert not any("t0000 at step" in line for line in lines)

    # What changes is told at the next look of the driver; when the sweep has ended nothing is.
    told = group_tags([GroupState(0, "scoring variants", "t0000", began, ["host-0"])])
    requests.poll()
    assert json.loads(invoke("--json"))["groups"][0]["phase"] == "scoring variants"
    monkeypatch.setattr(sweep_status, "SILENT_SECONDS", -1.0)
    silent = json.loads(invoke("--json"))
    assert (silent["groups"], silent["state"]) == ([], "running")
    assert silent["silent_seconds"] >= 0
    monkeypatch.undo()
    sweep.close("stopped")
    assert json.loads(invoke("--json"))["groups"] == []
