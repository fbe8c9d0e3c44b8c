"""Whole sweeps as users run them, and what they leave: two ranks, faults, Ctrl-C, going on."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path

import optuna
import pytest
import ray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sweep_driver import SweepDriver, read_front, write_file
from sweep_runs import Runs, command

from hft_ray.config.keys import settings, with_settings
from hft_ray.config.load import load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

OBJECTIVES = {"task/score": "max", "forgetting/mean": "min"}
NONE = {"averages": 0, "half_reset": False}
"""Variants have tests of their own."""
PAIRS = "package:hft_ray/demo/data/preference_test.jsonl"
EVALUATED = {
    "task/answers",
    "task/pairs",
    "task/score",
    "general/texts",
    "general/questions",
    "general/score",
    "forgetting/texts",
    "forgetting/questions",
    "forgetting/mean",
    "retention/texts",
    "retention/questions",
    "retention/mean",
}
COSTS = {"cost/device_seconds", "cost/peak_memory_bytes"}
MEASURED = (
    EVALUATED
    | COSTS
    | {
        "train/loss",
        "train/tokens_per_second",
        "selection/trainable_fraction",
        "selection/touched_fraction",
    }
)


def study_states(root, sweep):
    storage = JournalStorage(JournalFileBackend(str(root / "sweeps" / sweep / "search.jsonl")))
    return [
        trial.state.name for trial in optuna.load_study(study_name=sweep, storage=storage).trials
    ]


@pytest.fixture(scope="module")
def root(mlflow_store, tmp_path_factory):
    """The storage root of all sweeps, so that the second finds what the first has left."""
    root = tmp_path_factory.mktemp("sweeps") / "home"
    root.mkdir()
    shutil.copy(mlflow_store, root)
    return root


def make_content(tiny_file, name, **cluster):
    """Return FILE with one more evaluation, of preferences."""
    content = copy.deepcopy(tiny_file) | {"name": name, "cluster": cluster}
    content["evaluation"]["task"].append(
        {"name": "pairs", "kind": "preference", "data": PAIRS, "limit": 10}
    )
    return content


def base_scores(root):
    """Return (name, inode, time) of the stored scores; scoring the base writes them anew."""
    found = [(path.name, path.stat()) for path in sorted((root / "cache/base_scores").iterdir())]
    return [(name, stat.st_ino, stat.st_mtime_ns) for name, stat in found]


@pytest.fixture(scope="module")
def stages(tiny_file, root):
    """A sweep over ZeRO-2 and ZeRO-3 on two workers: a worker is killed, then comes Ctrl-C."""
    content = make_content(tiny_file, "stages", workers=2)
    content["training"]["log_every"] = 5
    content["search"] = {
        "trials": 4,
        "variants": NONE,
        "space": {
            "selection.ratio": {"low": 0.25, "high": 0.75},
            "training.zero_stage": [2, 3],
            "training.steps": [10, 40, 100],
        },
        "first": [
            {"selection.ratio": 1.0, "training.zero_stage": 2, "training.steps": 10},
            {"selection.ratio": 0.5, "training.zero_stage": 3, "training.steps": 40},
            {"selection.ratio": 0.5, "training.zero_stage": 2, "training.steps": 100},
            {"selection.ratio": 0.25, "training.zero_stage": 3, "training.steps": 10},
        ],
    }
    file = write_file(root.parent, content)
    driver = SweepDriver(file, root)
    try:
        driver.wait_for_event("started", "t0000")
        base = base_scores(root)
        driver.wait_for_event("report", "t0001")
        workers = driver.workers()
        assert len(workers) == 2, driver.said()
        assert driver.open_to_others() == []
        workers[1].kill()
        driver.wait_for_event("report", "t0002")
        driver.interrupt()
        code = driver.wait(60)
        yield file, base, driver, code
    finally:
        driver.close()


def test_ctrl_c_ends_a_sweep_so_that_it_can_go_on(stages, root):
    *_, driver, code = stages
    assert code == 130, driver.said()
    assert "the same command continues the sweep" in driver.error_output
    assert driver.left_behind() == []
    runs = Runs(root, "stages")
    assert runs.states() == {"t0000": "complete", "t0001": "complete", "t0002": "stopped"}
    assert runs.statuses() == {"t0000": "FINISHED", "t0001": "FINISHED", "t0002": "KILLED"}
    assert runs.parent.info.status == "KILLED"
    # The search keeps the trial that was under way, to hand it out again.
    assert study_states(root, "stages") == ["COMPLETE", "COMPLETE", "RUNNING", "WAITING"]


def test_a_killed_worker_costs_its_trial_one_attempt_and_no_result(stages, root):
    *_, driver, _ = stages
    assert "t0001 will be retried: a worker process died" in driver.output
    assert "t0001 started on group 0, attempt 2" in driver.output
    # The workers stay warm otherwise: two trials and the base in the first life of the group.
    joined = [line for line in driver.events() if "'joined'" in line]
    assert len(joined) == 2
    runs = Runs(root, "stages")
    steps = runs.steps(runs.trials["t0001"], "train/loss")
    assert sorted(steps) == list(range(5, 41, 5)), "no step twice"


def test_the_sweep_s_folder_has_a_line_for_each_event(stages, root):
    lines = (root / "sweeps/stages/events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    kinds = [event["event"] for event in events]
    # The same command goes on with the sweep in a later test, and appends.
    kinds = kinds[: 1 + kinds.index("sweep_ended")]
    assert kinds[0] == "sweep_started"
    assert {"queued", "started", "retried", "ended", "front_changed"} <= set(kinds)
    retried = next(event for event in events if event["event"] == "retried")
    assert (retried["trial"], retried["fault"]) == ("t0001", "worker_crash")
    ended = {event["trial"]: event["state"] for event in events if event["event"] == "ended"}
    assert ended.items() >= {"t0000": "complete", "t0001": "complete"}.items()
    assert events[len(kinds) - 1]["state"] == "stopped"


def test_a_trial_tells_how_long_it_waited_and_what_it_used(stages, root):
    metrics = Runs(root, "stages").trials["t0001"].data.metrics
    assert metrics["system/queue_seconds"] >= 0
    assert metrics["system/host_memory_bytes"] > 1e8
    assert metrics["system/cores_used"] > 0


@pytest.fixture(scope="module")
def continued(stages, root):
    """The same FILE again, extended by a trial, with the result as JSON."""
    file, *_ = stages
    driver = SweepDriver(file, root, "--set", "search.trials=5", "--json")
    try:
        code = driver.wait()
        yield file, driver, code
    finally:
        driver.close()


def test_the_same_command_goes_on_and_more_trials_extend_it(continued, root):
    _, driver, code = continued
    assert code == 0, driver.said()
    assert driver.left_behind() == []
    started = [line for line in driver.events() if "'started', 'trial': 't" in line]
    assert [line.split("'trial': '")[1][:5] for line in started] == ["t0002", "t0003", "t0004"]
    runs = Runs(root, "stages")
    names = [f"t{number:04d}" for number in range(5)]
    assert runs.states() == dict.fromkeys(names, "complete")
    assert runs.statuses() == dict.fromkeys(names, "FINISHED")
    assert study_states(root, "stages") == ["COMPLETE"] * 5


def test_json_is_all_that_is_printed(continued, root):
    _, driver, _ = continued
    assert json.loads(driver.output) == read_front(root, "stages")
    assert driver.error_output == ""


def test_mlflow_holds_what_users_rely_on(continued, root):
    file, *_ = continued
    runs = Runs(root, "stages")
    parent = runs.parent
    assert parent.info.run_name == "stages"
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["hft_ray.state"] == "complete"
    wanted = [
        "config.yaml",
        "front/front.html",
        "front/front.json",
        "front/front.png",
        "front/scores.safetensors",
    ]
    assert runs.artifacts(parent) == wanted
    assert runs.kinds == {"trial"}
    assert sorted(runs.steps(parent, "front/hypervolume")) == [1, 2, 3, 4, 5]
    assert sorted(runs.steps(parent, "front/size")) == [1, 2, 3, 4, 5]
    config = load(file, ["search.trials=5"])
    first = config.search.first
    for number, name in enumerate(sorted(runs.trials)):
        run = runs.trials[name]
        tags, metrics, params = run.data.tags, run.data.metrics, run.data.params
        assert run.info.run_name == name
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert tags["hft_ray.pareto"] in ("true", "false")
        assert set(metrics) >= MEASURED
        assert all(math.isfinite(value) for value in metrics.values())
        assert metrics["train/tokens_per_second"] > 0
        assert set(params) == set(settings(config))
        if number < len(first):
            assert params["training.zero_stage"] == str(first[number]["training.zero_stage"])
            resolved = with_settings(config, first[number])
            assert params["selection.ratio"] == str(resolved.selection.ratio)
        last = int(params["training.steps"])
        assert sorted(runs.steps(run, "train/loss")) == list(range(5, last + 1, 5))
        assert runs.steps(run, "task/score") == [last]
        assert runs.artifacts(run) == ["selection.png"]
    trained = {
        n: run.data.metrics["selection/trainable_fraction"] for n, run in runs.trials.items()
    }
    assert trained["t0000"] == 1.0
    assert trained["t0003"] < trained["t0001"] < 1.0


def test_front_json_is_as_promised(continued, root):
    front = read_front(root, "stages")
    runs = Runs(root, "stages")
    assert front["sweep"] == "stages"
    assert front["objectives"] == OBJECTIVES
    assert set(front["reference_point"]) == set(OBJECTIVES)
    assert front["hypervolume"] == runs.parent.data.metrics["front/hypervolume"]
    assert front["base"].keys() >= EVALUATED
    assert front["base"]["forgetting/mean"] == 0
    assert [point["trial"] for point in front["points"]] == sorted(runs.trials)
    for point in front["points"]:
        run = runs.trials[point["trial"]]
        keys = ("trial", "variant", "run_id", "state", "step", "params", "values", "on_front")
        assert set(point) >= set(keys)
        assert point["variant"] is None
        assert point["run_id"] == run.info.run_id
        assert point["step"] == point["params"]["training.steps"]
        assert set(point["values"]) == EVALUATED | COSTS
        for name, value in point["values"].items():
            assert value == run.data.metrics[name]
        assert run.data.tags["hft_ray.pareto"] == str(point["on_front"]).lower()
    members = [point["trial"] for point in front["points"] if point["on_front"]]
    assert front["knee"] in members
    assert runs.parent.data.metrics["front/size"] == len(members)


def test_the_report_from_tracking_alone_is_the_same(continued, root, monkeypatch, capsys):
    before = read_front(root, "stages")
    code, out, err = command(monkeypatch, capsys, root, "report", "stages", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == before


def refused(monkeypatch, capsys, root, *arguments):
    """Run ``hft-ray tune``, which is to be refused before anything starts; return the message."""
    sweeps = sorted(path for path in root.rglob("*") if path.is_file())
    times = [path.stat().st_mtime_ns for path in sweeps]
    code, out, err = command(monkeypatch, capsys, root, "tune", *arguments)
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert not ray.is_initialized()
    assert [path.stat().st_mtime_ns for path in sweeps] == times
    return err


def test_a_changed_file_is_refused_with_the_difference(continued, root, monkeypatch, capsys):
    file, *_ = continued
    changes = ["--set", "search.trials=6", "--set", "training.learning_rate=0.5"]
    message = refused(monkeypatch, capsys, root, file, *changes)
    assert "training.learning_rate: was 0.003 when the sweep began" in message
    assert "(given: 0.5)" in message
    assert "search.trials" not in message


def test_fewer_trials_than_before_are_refused(continued, root, monkeypatch, capsys):
    file, *_ = continued
    assert "search.trials: was 5" in refused(monkeypatch, capsys, root, file)


def test_fresh_refuses_a_name_that_is_taken(continued, root, monkeypatch, capsys):
    file, *_ = continued
    message = refused(monkeypatch, capsys, root, file, "--set", "search.trials=5", "--fresh")
    assert "name: a sweep of this name lies in" in message


def test_more_workers_than_there_are_cores_are_refused(tiny_file, tmp_path, monkeypatch, capsys):
    content = {**copy.deepcopy(tiny_file), "name": "large", "cluster": {"workers": 4096}}
    content["training"]["batch_size"] = 4096
    content["search"] = {"space": {"selection.ratio": [0.5]}, "trials": 2}
    file = write_file(tmp_path, content)
    message = refused(monkeypatch, capsys, tmp_path / "home", file)
    assert "1 groups x 4096 workers of 1 CPU and 0 GPU do not fit" in message
    assert not (tmp_path / "home" / "sweeps").exists()


@pytest.fixture(scope="module")
def faults(tiny_file, root):
    """Preference optimisation on two groups: a trial's loss becomes NaN, another trial raises."""
    content = make_content(tiny_file, "faults", groups=2)
    content |= {"method": "dpo", "data": {"train": PAIRS, "limit": 20, "max_length": 48}}
    content["training"] |= {"steps": 12, "log_every": 4}
    content["search"] = {
        "trials": 5,
        "objectives": {"task/pairs": "max", "train/rewards_margin": "max"},
        "reference_point": {"train/rewards_margin": -1.0},
        "variants": NONE,
        "sampler": "random",
        "space": {
            "selection.ratio": {"low": 0.25, "high": 0.75},
            "selection.reselect": ["never", 4],
            "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "method.loss": ["sigmoid", "ipo"],
        },
        "first": [
            {"selection.ratio": 1.0, "selection.reselect": "never"},
            {"training.learning_rate": 1e30},
            # Not installed on a CPU machine: loading the model raises.
            {"model.attention": "flash_attention_2"},
        ],
    }
    driver = SweepDriver(write_file(root.parent, content), root)
    try:
        code = driver.wait()
        yield driver, code
    finally:
        driver.close()


FAILED = ["t0001", "t0002"]


def test_each_fault_ends_its_own_trial_and_the_sweep_goes_on(faults, root):
    driver, code = faults
    assert code == 0, driver.said()
    runs = Runs(root, "faults")
    expected = {f"t{n:04d}": "complete" for n in range(5)} | dict.fromkeys(FAILED, "failed")
    assert runs.states() == expected
    statuses = {name: "FAILED" if name in FAILED else "FINISHED" for name in expected}
    assert runs.statuses() == statuses
    assert runs.parent.info.status == "FINISHED"
    assert study_states(root, "faults") == ["COMPLETE", "FAIL", "FAIL", "COMPLETE", "COMPLETE"]


def test_the_reason_of_a_failure_is_told_everywhere(faults, root):
    driver, _ = faults
    runs = Runs(root, "faults")
    for trial, word, fault in (("t0001", "nan", "not_finite"), ("t0002", "flash", "data")):
        assert f"{trial} failed: " in driver.output
        (line,) = (line for line in driver.lines if f"{trial} failed: " in line)
        assert word in line.lower()
        tags = runs.trials[trial].data.tags
        assert word in tags["hft_ray.reason"].lower()
        assert tags["hft_ray.fault"] == fault


def test_only_the_group_whose_trial_raised_is_started_afresh(faults):
    driver, _ = faults
    joined = [line for line in driver.events() if "'joined'" in line]
    assert len(joined) in (2, 3), "a NaN is no reason for new processes"
    assert not any("'retried'" in line for line in driver.events())


def test_the_base_is_scored_once_for_all_trials_and_for_the_next_sweep(
    stages, continued, faults, root
):
    _, first, *_ = stages
    # And a file of what preferences are compared with.
    assert [Path(name).suffix for name, *_ in first] == [".json", ".safetensors"]
    assert base_scores(root) == first
    assert read_front(root, "stages")["base"] == read_front(root, "faults")["base"]


def test_the_reference_is_asked_once_in_a_sweep(faults, root):
    lines = (root / "cache/reference/computed.jsonl").read_text().splitlines()
    assert [json.loads(line)["pairs"] for line in lines] == [20]
    trials = Runs(root, "faults").trials
    for name in trials.keys() - set(FAILED):
        measured = trials[name].data.metrics
        assert {"train/rewards_margin", "train/rewards_accuracy", "task/pairs"} <= set(measured)


def test_the_front_holds_the_others(faults, root, monkeypatch, capsys):
    front = read_front(root, "faults")
    members = {point["trial"] for point in front["points"] if point["on_front"]}
    assert members
    assert not members & set(FAILED)
    for point in front["points"]:
        assert (point["state"] == "failed") == (point["trial"] in FAILED)
    _, out, _ = command(monkeypatch, capsys, root, "report", "faults", "--json")
    assert json.loads(out) == front


def test_the_last_words_name_front_report_and_comparison(faults, root):
    driver, _ = faults
    text = driver.output
    for part in (
        "Front of faults",
        "knee: t",
        "hypervolume",
        str(root / "sweeps/faults/front/front.html"),
        f"mlflow ui --backend-store-uri sqlite:///{root}/mlflow.db",
        f"logs in {root}/sweeps/faults/logs",
    ):
        assert part in text
    # Nothing of what the libraries print.
    assert not any("WARNING" in line or "ray::" in line for line in driver.lines)
    assert driver.error_output == ""
    assert driver.left_behind() == []
