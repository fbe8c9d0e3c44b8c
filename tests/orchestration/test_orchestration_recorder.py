"""From events to MLflow and back to a front, also when the driver before was killed."""

from __future__ import annotations

import json
import shutil

import pytest
from recorded_sweep import Sweep, states
from waiting import wait_for

from hft_ray.orchestration.fronts import front_from_tracking
from hft_ray.report import front_json
from hft_ray.tracking import tracking_uri


@pytest.fixture
def root(mlflow_store, tmp_path):
    shutil.copy(mlflow_store, tmp_path)
    return tmp_path


def test_the_front_from_tracking_is_the_front_of_the_sweep(root):
    sweep = Sweep(root)
    trials = [sweep.start() for _ in range(5)]
    # They end in another order than they started, and not all of them well.
    sweep.end(trials[1], score=0.9, lost=0.9)
    sweep.end(trials[0], score=0.5, lost=0.25)
    sweep.end(trials[3], score=float("nan"))
    sweep.end(trials[2], state="failed", reason="it broke")
    sweep.take("finished", trials[4], state="stopped", step=0, values={}, reason="asked")
    sweep.study.tell(trials[4], {"state": "stopped", "step": 0, "values": {}, "reason": "asked"})
    wait_for(lambda: sweep.states().keys() >= set(trials))
    front = sweep.recorder.write_report(sweep.study.trials())
    sweep.recorder.close("complete")

    uri = tracking_uri(None, root)
    again = front_from_tracking(uri, "hft-ray", "s")
    kept = json.loads((root / "sweeps/s/front/front.json").read_text())
    assert json.loads(front_json(again)) == kept == json.loads(front_json(front))
    assert [point["state"] for point in kept["points"]] == [
        "complete",
        "complete",
        "failed",
        "failed",
        "stopped",
    ]
    assert [point["on_front"] for point in kept["points"]] == [True, True, False, False, False]
    assert kept["hypervolume"] == pytest.approx(0.5 * 0.75 + 0.4 * 0.1)
    assert all(point["run_id"] for point in kept["points"])
    assert "stderr/task/score" not in kept["base"]


def test_what_is_under_way_when_a_sweep_stops_is_not_left_running(root):
    sweep = Sweep(root)
    done, open_one = sweep.start(), sweep.start()
    sweep.end(done)
    sweep.recorder.close("stopped")
    record = sweep.record()
    assert states(record) == {done: "complete", open_one: "stopped"}
    assert record.state == "stopped"

    # It goes on in the same run.
    again = Sweep(root)
    assert again.start() == open_one
    again.end(open_one)
    again.recorder.close("complete")
    record = again.record()
    assert states(record) == {done: "complete", open_one: "complete"}
    assert record.state == "complete"


def test_what_a_killed_driver_had_not_written_is_written_by_the_next(root):
    sweep = Sweep(root)
    written, half, unwritten = sweep.start(), sweep.start(), sweep.start()
    sweep.end(written)
    wait_for(lambda: sweep.states().get(written) == "complete")
    before = {trial.trial: trial for trial in sweep.record().trials}
    # Then the driver is killed: the search knows of two ends that MLflow never hears of, of one
    # trial not even that it began.
    end = {"step": 8, "values": {"task/score": 0.7, "forgetting/mean": 0.1}}
    sweep.study.tell(half, {"state": "complete", **end})
    sweep.study.tell(unwritten, {"state": "complete", **end})
    lost = sweep.study.next_trial().trial
    sweep.study.tell(lost, {"state": "failed", "step": 0, "values": {}, "reason": "it broke"})

    again = Sweep(root)
    front = again.recorder.write_report(again.study.trials())
    again.recorder.close("complete")
    record = again.record()
    assert states(record) == {
        written: "complete",
        half: "complete",
        unwritten: "complete",
        lost: "failed",
    }
    after = {trial.trial: trial for trial in record.trials}
    assert after[written].metrics == before[written].metrics
    assert after[half].run_id == before[half].run_id
    assert after[half].metrics["task/score"] == 0.7
    assert after[half].history("task/score") == [(8, 0.7)]
    assert after[lost].tags["hft_ray.reason"] == "it broke"
    uri = tracking_uri(None, root)
    assert front_json(front_from_tracking(uri, "hft-ray", "s")) == front_json(front)


def test_the_arm_is_in_mlflow_and_comes_back_from_there(root):
    rate = {"training.learning_rate": {"low": 1e-5, "high": 1e-3}}
    arms = {"full": {}, "lisa": {"set": {"selection.ratio": 0.25}}, "averaging": {}}
    sweep = Sweep(root, space=rate, arms=arms, trials=4)
    made = [
        {"variant": "alpha-0.5", "step": 8, "values": {"task/score": 0.4, "forgetting/mean": 0.1}}
    ]
    for score in (0.9, 0.5, 0.8, 0.7):
        trial = sweep.start()
        sweep.end(trial, score=score, variants=made if trial == "t0000" else [])
    front = sweep.recorder.write_report(sweep.study.trials())
    sweep.recorder.close("complete")

    record = sweep.record()
    tags = [each.tags["hft_ray.arm"] for each in [*record.trials, *record.variants]]
    assert tags == ["full", "lisa", "full", "lisa", "averaging"]
    assert [each.params["arm"] for each in record.trials] == ["full", "lisa", "full", "lisa"]
    assert record.trials[1].params["selection.ratio"] == 0.25
    again = front_from_tracking(tracking_uri(None, root), "hft-ray", "s")
    kept = json.loads((root / "sweeps/s/front/front.json").read_text())
    assert json.loads(front_json(again)) == kept == json.loads(front_json(front))
    arms = [each["arm"] for each in kept["points"]]
    assert arms == ["full", "averaging", "lisa", "full", "lisa"]
    assert [each["arm"] for each in kept["arms"]] == ["full", "lisa", "averaging"]
