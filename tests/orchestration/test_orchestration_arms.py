"""A real sweep with arms over the shipped tasks in turn: table, picture, and R from MLflow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from sweep_driver import SweepDriver, read_front, write_file

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

FILE = Path(__file__).parents[2] / "search_spaces" / "continual.yaml"
NAME, STEPS, FACTS = "arms", 12, 4
TASKS = ["calling-codes", "state-capitals", "countries", "elements"]
ARMS = {"t0000": "full", "t0001": "hft", "t0000+alpha-0.5": "averaging"}


def make_content():
    """The benchmark of four tasks, short: four facts of each, learned by heart and then asked."""
    content = yaml.safe_load(FILE.read_text(encoding="utf-8")) | {"name": NAME}
    content["method"]["replay"] = {"old": 0.0}
    content["training"] |= {"steps": STEPS, "batch_size": 8, "log_every": STEPS}
    for task in content["tasks"]:
        task["data"] = {"train": task["data"], "limit": FACTS}
        task["evaluation"][0]["limit"] = FACTS
    content["evaluation"]["general"][0]["limit"] = 10
    content["search"] = {
        "trials": 2,
        "objectives": {"continual/op": "max", "continual/general": "max"},
        "arms": ["full", "hft", "averaging"],
        "variants": {"averages": [0.5]},
        "weights": "none",
        "space": {"training.learning_rate": [2.0e-3]},
    }
    content["cluster"] = {"groups": 1, "workers": 1, "cpus_per_worker": 1}
    return content


@pytest.fixture(scope="module")
def sweep(mlflow_store, tmp_path_factory):
    """The finished sweep: its driver, its storage root and its runs by their names."""
    folder = tmp_path_factory.mktemp("arms")
    root = folder / "home"
    root.mkdir()
    shutil.copy(mlflow_store, root)
    driver = SweepDriver(write_file(folder, make_content()), root)
    try:
        assert driver.wait(800) == 0, driver.said()
    finally:
        driver.close()
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("hft-ray")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    return driver, root, client, runs


def test_each_run_is_tagged_with_its_arm(sweep):
    *_, runs = sweep
    tags = {name: run.data.tags.get("hft_ray.arm") for name, run in runs.items()}
    assert tags == {NAME: None} | ARMS
    ratios = [float(runs[name].data.params["selection.ratio"]) for name in ("t0000", "t0001")]
    assert ratios == [1.0, 0.5]


def test_the_table_and_the_picture_of_the_arms_are_made(sweep):
    driver, root, _, runs = sweep
    front = read_front(root, NAME)
    assert [each["arm"] for each in front["arms"]] == ["full", "hft", "averaging"]
    assert [each["points"] for each in front["arms"]] == [1, 1, 1]
    # At the best score of an arm, that arm itself is one of those that reach it.
    for arm, trial in (("full", "t0000"), ("hft", "t0001")):
        best = runs[trial].data.metrics["continual/op"]
        (row,) = (each for each in front["arms"] if each["arm"] == arm)
        (cell,) = (each for each in row["matched"] if each["level"] == best)
        assert cell["value"] == runs[trial].data.metrics["continual/general"]
    for arm in ("full", "hft", "averaging"):
        assert any(line.split()[:1] == [arm] for line in driver.lines), driver.output
    picture = matplotlib.image.imread(root / "sweeps" / NAME / "front" / "front.png")
    assert picture.std() > 0.01
    assert '"averaging"' in json.dumps(front)
    assert "averaging" in (root / "sweeps" / NAME / "front" / "front.html").read_text("utf-8")


@pytest.mark.parametrize("trial", ["t0000", "t0001"])
def test_op_and_bwt_are_those_of_the_matrix_that_mlflow_has(sweep, trial):
    """R, OP, BWT (TRACE, arXiv 2310.06762) and the general delta from the run's metrics alone."""
    _, _, client, runs = sweep
    run = runs[trial].info.run_id

    def history(metric):
        found = client.get_metric_history(run, metric)
        return {each.step: each.value for each in found}

    columns = [history(f"matrix/{task}") for task in TASKS]
    steps = [STEPS * t for t in range(5)]
    assert all(sorted(column) == steps for column in columns)
    R = np.array([[column[step] for column in columns] for step in steps])
    learned = np.diagonal(R[1:])
    general = history("general/old-facts")
    expected = {
        "op": R[4].mean(),
        "bwt": (R[4] - learned).mean(),
        "bwt_gem": (R[4] - learned)[:3].mean(),
        "learning_accuracy": learned.mean(),
        "general": general[steps[4]] - general[0],
    }
    logged = {name: history(f"continual/{name}")[steps[4]] for name in expected}
    assert logged == pytest.approx(expected, abs=1e-12)
    # Each score is also that task's own metric, and something was learned and lost again.
    for task, column in zip(TASKS, columns, strict=True):
        own = history(f"task/{task}")
        assert [own[step] for step in steps[1:]] == [column[step] for step in steps[1:]]
    assert learned.min() > 0
    assert expected["bwt"] < 0
