"""The comparisons of samplers: a short one of each, and that the same command goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def compare(name, *arguments):
    command = [sys.executable, "-W", "ignore", str(BENCHMARKS / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def lines(path):
    return [json.loads(each) for each in path.read_text().splitlines()]


def test_a_comparison_goes_on_where_it_stopped(tmp_path):
    out = tmp_path / "out.jsonl"
    some = ["--problems", "zdt1", "--methods", "random", "--trials", 9]
    compare("sampler_comparison", out, *some, "--repetitions", 1)
    first = out.read_text()
    shown = compare("sampler_comparison", out, *some, "--repetitions", 2)
    assert out.read_text().startswith(first)
    assert [(each["seed"], each["trials"]) for each in lines(out)] == [(0, 9), (1, 9)]
    assert "mean    9.0" in shown


def recorded(ratio, seed):
    """Return the rows of a training in which more is learned, and lost, where more is trained."""
    settings = {"selection.granularity": "layer", "selection.reselect": "never"}
    params = {"selection.ratio": ratio, **settings, "training.learning_rate": 1e-3}
    params |= {"training.seed": seed}

    def row(step, alpha, seconds, **more):
        scores = {"task/score": ratio * alpha, "forgetting/mean": 0.8 * ratio * alpha**3}
        return {"params": params, "step": step, "metrics": scores, "seconds": seconds, **more}

    yield row(9, 0.5, 1.0)
    yield row(81, 1.0, 9.0)
    for place, alpha in enumerate((0.25, 0.5, 0.75), start=1):
        yield row(81, alpha, 9.0 + place, variant=f"alpha-{alpha}")


@pytest.fixture
def table(tmp_path):
    base = {"task/score": 0.0, "forgetting/mean": 0.0}
    rows = [{"params": {}, "step": 0, "metrics": base, "seconds": 0}]
    rows += [row for n in range(12) for row in recorded(0.3 + 0.06 * n, seed=n % 2)]
    path = tmp_path / "table.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def test_curves_between_recorded_ones_are_searched(tmp_path, table):
    out = tmp_path / "out.jsonl"
    methods = ["random+0", "random+3"]
    some = ["--trials", 16, "--repetitions", 1, "--methods", *methods]
    shown = compare("curves_comparison", table, out, *some)
    found = {each["method"]: each for each in lines(out)}
    assert list(found) == methods
    # A training takes 9 seconds and an average 1; averages are points that trainings lack.
    alone, averaged = found["random+0"], found["random+3"]
    assert alone["device_seconds"] == pytest.approx(9 * alone["trials"])
    assert 9 < averaged["device_seconds"] / averaged["trials"] <= 12
    assert averaged["share"] > alone["share"]
    assert "/ random+0" in shown
