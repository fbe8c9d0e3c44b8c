"""The data of the trainers, and the same training by this project's own loop."""

from __future__ import annotations

import pytest
from integration_cases import SELECTION, STEPS, make_trainer, ordered_items, write_pairs

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
def own_runs(jobs, tiny_file, tmp_path_factory):
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
    arguments = {"cases": cases, "out": str(folder)}
    job = {"name": "own", "ranks": 1, "do": "training_worker.run_cases", "with": arguments}
    return jobs.run(folder, [job]).result("own")
