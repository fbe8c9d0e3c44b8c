"""The untouched model is scored once for all trials, and not again for the next sweep."""

import copy

import pytest
from sweep_driver import SweepDriver, read_front, write_file

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NONE = {"averages": 0, "half_reset": False}


def content(tiny_file, name, trials):
    file = copy.deepcopy(tiny_file) | {"name": name, "cluster": {"groups": 2}}
    file["training"]["steps"] = 1
    space = {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    file["search"] = {"trials": trials, "variants": NONE, "weights": "none", "space": space}
    return file


def written(home):
    """Return (name, inode, time) of the stored scores; whoever scores the base writes them anew."""
    found = [(path.name, path.stat()) for path in (home / "cache" / "base_scores").iterdir()]
    return [(name, stat.st_ino, stat.st_mtime_ns) for name, stat in found]


def swept(folder, file):
    """Run a sweep; return what was stored when its first trial started, and at its end."""
    folder.mkdir()
    driver = SweepDriver(write_file(folder, file), folder.parent / "home")
    try:
        driver.wait_for_event("started", "t0000")
        first = written(folder.parent / "home")
        assert driver.wait() == 0, driver.said()
        return first, written(folder.parent / "home")
    finally:
        driver.close()


@pytest.mark.parametrize("trials", [3, pytest.param(12, marks=pytest.mark.soak)])
def test_the_base_is_scored_once_for_all_trials_and_not_for_the_next_sweep(
    tiny_file, tmp_path, trials
):
    home = tmp_path / "home"
    home.mkdir()
    first, after = swept(tmp_path / "one", content(tiny_file, "many", trials))
    assert len(first) == 1
    assert after == first
    again = swept(tmp_path / "two", content(tiny_file, "again", 1))
    assert again == (first, first)
    fronts = [read_front(home, name) for name in ("many", "again")]
    assert [len(front["points"]) for front in fronts] == [trials, 1]
    assert fronts[0]["base"] == fronts[1]["base"]
