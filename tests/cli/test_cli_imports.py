"""Commands that only look import neither torch nor what draws: they answer at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hft_ray.tracking import Tracker, artifact_location, tracking_uri

ROOT = Path(__file__).parents[2]
ENGINES = {"torch", "transformers", "deepspeed", "optuna", "ray"}
DRAWING = {"matplotlib", "plotly"}
RUN = """
import sys
from hft_ray.cli import main
sys.argv = ["hft-ray", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    print("code", ended.code or 0, file=sys.stderr)
print("loaded", *sorted(set(sys.modules)), file=sys.stderr)
"""
FILE = {
    "name": "s",
    "model": "base",
    "data": {"train": "train.jsonl"},
    "search": {
        "space": {"selection.ratio": {"low": 0.1, "high": 1.0}},
        "objectives": {"task/score": "max"},
        "trials": 4,
    },
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A storage root whose MLflow store has a sweep that seems to run."""
    root = tmp_path_factory.mktemp("home")
    uri = tracking_uri(None, root)
    places = {"spool": root / "spool", "artifacts": artifact_location(uri, root)}
    tracker = Tracker(uri, "hft-ray", **places)
    tracker.open_sweep("s", yaml.safe_dump(FILE), {}, {})
    tracker.describe_front({"task/score": "max"}, {"task/score": 0.0}, {"task/score": 0.1})
    tracker.open_trial("t0000", {"selection.ratio": 1.0}, {})
    tracker.log("t0000", 10, {"task/score": 0.6})
    tracker.finish_trial("t0000", "complete")
    assert tracker.close(300)
    return root


def loaded(code, home, *arguments):
    """Run the command in a process of its own; return its output and the libraries it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        capture_output=True,
        text=True,
        env={"PATH": "", "HFT_RAY_HOME": str(home), "PYTHONPATH": str(ROOT), "HOME": str(home)},
        check=False,
    )
    said, _, modules = done.stderr.rpartition("loaded ")
    assert f"code {code}" in said, done.stderr
    return done.stdout, {name.partition(".")[0] for name in modules.split()}


@pytest.mark.parametrize("command", ["", "tune"])
def test_help_imports_the_command_line_alone(command, tmp_path):
    out, libraries = loaded(0, tmp_path, *([command] if command else []), "--help")
    assert "Usage" in out
    assert not libraries & (ENGINES | DRAWING | {"mlflow", "numpy"})


def test_the_schema_needs_no_library_of_training(tmp_path):
    out, libraries = loaded(0, tmp_path, "schema")
    assert '"properties"' in out
    assert not libraries & (ENGINES | DRAWING | {"mlflow", "numpy"})


@pytest.mark.parametrize(
    ("code", "arguments", "said"),
    [
        (0, ["status", "s"], "1 complete"),
        (0, ["status", "s", "--json"], '"hypervolume"'),
        (2, ["status", "nothing"], ""),
        (1, ["stop", "s", "--timeout", "0"], "still running"),
    ],
)
def test_what_looks_at_a_sweep_neither_trains_nor_draws(home, code, arguments, said):
    out, libraries = loaded(code, home, *arguments)
    assert said in out
    assert not libraries & (ENGINES | DRAWING)


def test_a_report_draws_without_the_libraries_of_training(home):
    out, libraries = loaded(0, home, "report", "s")
    assert "Front of s" in out
    assert not libraries & (ENGINES - {"optuna"})


def test_a_plan_needs_neither_deepspeed_nor_mlflow(tmp_path):
    file = ROOT / "search_spaces" / "demo.yaml"
    out, libraries = loaded(0, tmp_path, "plan", str(file))
    assert "16 trials" in out
    assert not libraries & (DRAWING | {"deepspeed", "mlflow", "ray", "optuna"})
