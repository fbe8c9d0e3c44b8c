"""``import hft_ray``: what the commands do, as functions."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

import hft_ray
from hft_ray.tracking import Tracker, artifact_location, tracking_uri

ROOT = Path(__file__).parents[2]
HEAVY = {"ray", "mlflow", "optuna", "torch", "transformers", "deepspeed", "pandas", "plotly"}
SWEEP = {
    "name": "s",
    "model": "nowhere/model",
    "data": {"train": "nowhere.jsonl"},
    "training": {"steps": 30},
    "evaluation": {"every": 10},
    "search": {
        "space": {"selection.ratio": {"low": 0.1, "high": 0.9}},
        "trials": 6,
        "sampler": "random",
    },
}


def row(ratio, step, **metrics):
    return {
        "params": {} if ratio is None else {"selection.ratio": ratio},
        "step": step,
        "metrics": {"task/score": 0.1, "forgetting/mean": 0.0} | metrics,
        "seconds": step,
    }


@pytest.fixture
def table(tmp_path):
    """A table of curves: what trains more learns more and loses more."""
    curves = [(number / 10, step) for number in range(1, 11) for step in (10, 20, 30)]
    rows = [row(None, 0)]
    rows += [
        row(r, step, **{"task/score": step / 30 * r, "forgetting/mean": step / 30 * r**2})
        for r, step in curves
    ]
    path = tmp_path / "curves.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


def loaded_after(code):
    """Return the libraries that a process of its own has loaded after ``code``."""
    code = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_import_and_a_load_are_quick():
    assert not loaded_after("import hft_ray") & (HEAVY | {"pydantic", "numpy"})
    file = ROOT / "search_spaces" / "demo.yaml"
    assert not loaded_after(f"import hft_ray; hft_ray.load({str(file)!r})") & HEAVY


@pytest.mark.parametrize("name", sorted(set(hft_ray.__all__) - {"__version__"}))
def test_every_name_is_there_documented_and_typed(name):
    found = getattr(hft_ray, name)
    assert found.__doc__
    assert name in dir(hft_ray)
    if inspect.isfunction(found):
        signature = inspect.signature(found)
        assert signature.return_annotation is not inspect.Signature.empty
        for argument in signature.parameters.values():
            assert argument.annotation is not inspect.Parameter.empty, argument
            assert f"{argument.name}:" in found.__doc__


def test_another_name_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hft_ray.nothing  # noqa: B018


def test_a_mapping_and_a_file_are_the_same(tmp_path):
    file = tmp_path / "f.yaml"
    file.write_text(yaml.safe_dump(SWEEP), encoding="utf-8")
    before = json.dumps(SWEEP)
    found = hft_ray.load(SWEEP, {"search.trials": 9, "evaluation.every": 15})
    assert found == hft_ray.load(file, ["search.trials=9", "evaluation.every=15"])
    assert found == hft_ray.load(str(file), {"search.trials": 9, "evaluation.every": 15})
    assert found.search.trials == 9
    assert json.dumps(SWEEP) == before


def test_everything_that_is_wrong_with_a_mapping_is_told_at_once():
    with pytest.raises(hft_ray.ConfigError) as caught:
        hft_ray.load(SWEEP | {"modle": "x"}, {"search.trials": 0, "training.steps": -1})
    assert str(caught.value).startswith("3 problems in the mapping:")
    assert [each.path for each in caught.value.problems] == [
        "training.steps",
        "search.trials",
        "modle",
    ]


def test_a_plan(tiny_file, tmp_path):
    search = {"space": {"selection.ratio": {"low": 0.25, "high": 1.0}}, "trials": 6}
    config = hft_ray.load(tiny_file | {"search": search})
    planned = hft_ray.plan(config, storage=tmp_path)
    assert planned["trials"] == 6
    assert planned["problems"] == planned["unchecked"] == []
    assert planned["seconds_estimate"] > 0
    with pytest.raises(hft_ray.ConfigError, match="no such file") as caught:
        lost = hft_ray.load(tiny_file, {"data.train": "none.jsonl"})
        hft_ray.plan(lost, storage=str(tmp_path), source="mine.yaml")
    assert str(caught.value).startswith("1 problem in mine.yaml")


def test_a_sweep_gives_its_front_as_a_frame(table, tmp_path, capfd):
    config = hft_ray.load(SWEEP)
    lines = []
    front = hft_ray.simulate(config, table, storage=tmp_path, say=lines.append)
    assert lines[0] == "s, simulated: nothing is trained or logged to MLflow"
    shown = hft_ray.frame(front)
    assert list(shown.columns[:6]) == ["trial", "variant", "on_front", "knee", "state", "step"]
    assert list(shown["trial"]) == [point.trial for point in front.members]
    assert shown["on_front"].all()
    assert shown["knee"].sum() == 1
    assert shown.loc[shown["knee"], "trial"].item() == front.knee
    best = shown.iloc[0]
    assert best["selection.ratio"] == 1.0
    assert (best["task/score"], best["forgetting/mean"]) == (1.0, 1.0)
    every = hft_ray.frame(front, every=True)
    assert list(every["trial"]) == [f"t{number:04d}" for number in range(len(front.points))]
    assert every["on_front"].sum() == len(shown)

    # The same call goes on: nothing is left to do. In a thread nothing handles signals.
    again = []
    thread = threading.Thread(
        target=lambda: again.append(hft_ray.simulate(config, str(table), storage=tmp_path))
    )
    thread.start()
    thread.join()
    assert again[0].points == front.points
    assert capfd.readouterr().out == ""


def test_what_does_not_fit_a_sweep_is_refused(table, tmp_path):
    alone = {key: value for key, value in SWEEP.items() if key != "search"}
    config = hft_ray.load(alone)
    for run in (
        lambda: hft_ray.tune(config, storage=tmp_path),
        lambda: hft_ray.simulate(config, table, storage=tmp_path),
    ):
        with pytest.raises(hft_ray.ConfigError, match="search: is missing"):
            run()
    assert not (tmp_path / "sweeps").exists()


def test_a_front_without_points_has_its_columns(table, tmp_path):
    nothing = {"search.reference_point": {"task/score": 0.0, "forgetting/mean": 1.0}}
    nothing |= {"search.constraints": ["task/score >= 2"]}
    front = hft_ray.simulate(hft_ray.load(SWEEP, nothing), table, storage=tmp_path)
    shown = hft_ray.frame(front)
    assert len(shown) == 0
    assert "trial" in shown.columns


@pytest.fixture
def recorded(tmp_path):
    """A storage root whose MLflow store has a sweep with two trials."""
    uri = tracking_uri(None, tmp_path)
    places = {"spool": tmp_path / "spool", "artifacts": artifact_location(uri, tmp_path)}
    tracker = Tracker(uri, "hft-ray", **places)
    tracker.open_sweep("s", yaml.safe_dump(SWEEP), {}, {})
    reference = {"task/score": 0.0, "forgetting/mean": 1.0}
    objectives = {"task/score": "max", "forgetting/mean": "min"}
    tracker.describe_front(objectives, reference, {"task/score": 0.1, "forgetting/mean": 0.0})
    for trial, ratio in (("t0000", 1.0), ("t0001", 0.5)):
        tracker.open_trial(trial, {"selection.ratio": ratio}, {})
        measured = {"task/score": ratio, "forgetting/mean": ratio / 2, "stderr/task/score": 0.01}
        tracker.log(trial, 10, measured)
        tracker.finish_trial(trial, "complete")
    assert tracker.close(300)
    return tmp_path


def test_the_front_of_a_sweep_that_mlflow_knows(recorded):
    front = hft_ray.front("s", storage=recorded)
    shown = hft_ray.frame(front)
    assert list(shown["task/score"]) == [1.0, 0.5]
    assert list(shown["stderr/task/score"]) == [0.01, 0.01]
    with pytest.raises(hft_ray.ConfigError, match="no sweep"):
        hft_ray.front("other", storage=recorded)
    with pytest.raises(hft_ray.ConfigError, match="two or more"):
        hft_ray.compare(["s"], storage=recorded)
    with pytest.raises(hft_ray.ConfigError, match="no sweep of this name"):
        hft_ray.export("s", "knee", recorded / "out", storage=recorded)


@pytest.mark.parametrize("end", [None, hft_ray.SweepError("no worker group is left")])
def test_a_sweep_says_what_happens_and_warns(end, monkeypatch, tmp_path):
    """Without a cluster: what a sweep tells on its way reaches the caller and ``driver.log``."""
    from hft_ray.orchestration import ready_sweep
    from hft_ray.orchestration.sweep_view import SweepView
    from hft_ray.pareto import build_front

    objectives = {"task/score": "max", "forgetting/mean": "min"}
    made = build_front("s", objectives, [], {}, dict.fromkeys(objectives, 0.0))

    def run_sweep(config, folder, watch, interrupted, errors, source):
        errors.caught("mirror", ValueError("it broke"))
        watch({"event": "phase", "trial": ""}, SweepView("s", planned=1, groups=1, phase="search"))
        if end is not None:
            raise end
        return made

    for name, stub in {
        "run_sweep": run_sweep,
        "pinned": lambda config: config,
        "check_all": lambda *checks, source: None,
        "probe": lambda *arguments: "it is away",
        "connect": lambda address: {"local": False},
        "ray_nodes": lambda: [{"CPU": 64}],
    }.items():
        monkeypatch.setattr(ready_sweep, name, stub)
    lines = []
    config = hft_ray.load(SWEEP)
    with pytest.warns(UserWarning) as told:
        if end is None:
            assert hft_ray.tune(config, storage=tmp_path, say=lines.append) is made
        else:
            with pytest.raises(hft_ray.SweepError, match="no worker group"):
                hft_ray.tune(config, storage=tmp_path, say=None)
    said = [str(each.message) for each in told]
    assert "does not answer: it is away" in said[0]
    assert any("1 error in the background" in each for each in said)
    log = tmp_path / "sweeps" / "s" / "logs" / "driver.log"
    assert "ValueError: it broke" in log.read_text()
    if end is None:
        assert lines[0] == f"s: logs in {log.parent}"
        assert lines[-1] == "[0/1 0:00] search"
