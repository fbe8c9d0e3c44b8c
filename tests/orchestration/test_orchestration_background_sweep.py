"""A real sweep all of whose background work raises, once and for ever."""

from __future__ import annotations

import copy
import json

import pytest
from fault_sweeps import injected
from sweep_driver import SweepDriver, read_front, write_file
from sweep_runs import Runs

from hft_ray.artifacts.mirror import Mirror

pytestmark = [pytest.mark.soak, pytest.mark.cluster, pytest.mark.timeout(2400)]

WORK = {
    "tracking": "tracking store",
    "mirror": "mirror",
    "requests": "listening for hft-ray stop",
    "nodes": "watching the nodes",
    "pictures": "pictures of trials",
}
LONG = 900


@pytest.fixture
def tune(tiny_file, tmp_path, monkeypatch):
    """Return a function that runs the sweep, with so many errors of each kind of work."""
    plans = tmp_path / "plans"
    for name, value in injected(plans).items():
        monkeypatch.setenv(name, value)
    content = copy.deepcopy(tiny_file) | {"name": "s"}
    content["cluster"] = {"mirror": str(tmp_path / "mirror")}
    # Long enough for the watchers to come round.
    content["training"] |= {"steps": 400, "log_every": 100}
    content["search"] = {
        "trials": 2,
        "variants": {"averages": 0, "half_reset": False},
        "space": {"selection.ratio": {"low": 0.25, "high": 0.75}},
    }
    file = write_file(tmp_path, content)
    (tmp_path / "home").mkdir()

    def run(errors):
        for work in WORK:
            (plans / work).write_text(str(errors))
        driver = SweepDriver(file, tmp_path / "home")
        try:
            return driver.wait(LONG), driver
        finally:
            driver.close()

    return run


def check_whole(root):
    runs = Runs(root / "home", "s")
    assert runs.states() == {"t0000": "complete", "t0001": "complete"}
    assert runs.parent.data.tags["hft_ray.state"] == "complete"
    assert "front/front.json" in runs.artifacts(runs.parent)
    for run in runs.trials.values():
        assert runs.steps(run, "train/loss") == [100, 200, 300, 400]
        assert runs.artifacts(run) == ["selection.png"]
    on_front = [point["on_front"] for point in read_front(root / "home", "s")["points"]]
    tags = [run.data.tags["hft_ray.pareto"] for _, run in sorted(runs.trials.items())]
    assert tags == [json.dumps(each) for each in on_front]
    names = Mirror(str(root / "mirror/sweeps/s")).names()
    assert {"scores/t0000", "scores/t0001"} <= set(names)
    assert not [name for name in names if name.startswith("checkpoints/")]


def test_errors_that_pass_leave_a_whole_sweep_and_are_told(tune, tmp_path):
    code, driver = tune(errors=1)
    assert code == 0, driver.said()
    for work in WORK.values():
        assert driver.output.count(f"error in the background ({work})") == 1
        assert f"1 error in the background ({work}); nothing was lost" in driver.error_output
    check_whole(tmp_path)


def test_errors_for_ever_fail_the_command_and_the_next_one_makes_good(tune, tmp_path):
    code, driver = tune(errors=-1)
    assert code == 1, driver.said()
    for work in WORK.values():
        assert driver.output.count(f"error in the background ({work})") == 1
    assert "not everything is in the tracking store" in driver.error_output
    assert "the mirror" in driver.error_output
    assert "pictures of 2 trials are not drawn" in driver.error_output
    assert len(read_front(tmp_path / "home", "s")["points"]) == 2, "nothing of the sweep is lost"
    code, driver = tune(errors=0)
    assert code == 0, driver.said()
    assert driver.error_output == ""
    check_whole(tmp_path)
