"""The data of the trainers, and the same training by this project's own loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from integration_cases import SELECTION, STEPS, make_trainer, ordered_items, write_pairs

WORKER = Path(__file__).parents[1] / "training" / "training_worker.py"
MOMENTS = ("reset", "keep_selected", "keep_all")


@pytest.fixture(scope="session")
def items(tiny_file, tmp_path_factory):
    return ordered_items(tiny_file, tmp_path_factory.mktemp("integrations-data"))


@pytest.fixture
def trainer(tiny_models, items, tmp_path):
    """Make a Trainer on the tiny model: callbacks, then settings by name."""

    def make(*callbacks, **settings):
        return make_trainer(tiny_models["untied"], items, tmp_path, *callbacks, **settings)

    return make


@pytest.fixture(scope="session")
def own_runs(tiny_file, tmp_path_factory):
    """What ``hft-ray train`` makes of the same data: losses and outcome, by moments and for dpo."""
    folder = tmp_path_factory.mktemp("integrations-own")
    training = {"steps": STEPS, "schedule": "linear"}
    cases = {
        moments: tiny_file
        | {"training": tiny_file["training"] | training | {"moments": moments}}
        | {"selection": SELECTION}
        for moments in MOMENTS
    }
    pairs = {"train": write_pairs(tiny_file, folder), "max_length": 96}
    cases["dpo"] = cases["keep_selected"] | {"method": "dpo", "data": pairs}
    job = folder / "job.json"
    job.write_text(json.dumps({"root": str(folder / "root"), "out": str(folder), "cases": cases}))
    done = subprocess.run(
        [sys.executable, str(WORKER), str(job)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "results.json").read_text())
