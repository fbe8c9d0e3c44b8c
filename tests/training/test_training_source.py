"""The strategy ``source``: what it measures, that all runs choose the same, and what it needs."""

from __future__ import annotations

import math

import pytest
import torch
from training_cases import UNASKED, merged, start

from hft_ray.config import Config
from hft_ray.config.load import validate
from hft_ray.config.rules.by_arm import by_arm
from hft_ray.data import collate
from hft_ray.ranks import Ranks
from hft_ray.selection import History, draw
from hft_ray.training import Workspace
from hft_ray.training.checks import check_settings
from hft_ray.training.loss import answer_loss
from hft_ray.training.models import load_model
from hft_ray.training.source_importance import source_norms

COUNT = 5
GENERAL = "package:hft_ray/demo/data/general.jsonl"
SOURCE = UNASKED | {
    "selection.strategy": "source",
    "selection.probe": COUNT,
    "selection.reselect": 2,
    "data.replay.train": GENERAL,
    "training.steps": 4,
}


def cases(file):
    saved = {"training.checkpoint_every": 3, "stop_at": 3, "again": True}
    changes = {f"source-{stage}": SOURCE | {"training.zero_stage": stage} for stage in (0, 2)}
    changes["again"] = SOURCE | {"training.zero_stage": 2} | saved
    return {name: merged(file, each) for name, each in changes.items()}


@pytest.fixture(scope="module")
def runs(jobs, tiny_file, tmp_path_factory):
    torch.set_num_threads(1)
    return start(jobs, tmp_path_factory.mktemp("source"), cases(tiny_file), ranks=2)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("root"), Ranks(), torch.device("cpu"))


@pytest.fixture(scope="module")
def known(workspace, tiny_file):
    """FILE, its base, and the norms of one process."""
    config = Config.model_validate(merged(tiny_file, SOURCE))
    model = load_model(config.model, workspace.source(config.model), torch.float32)
    units = workspace.catalog(config.model).block
    return config, model, source_norms(config, workspace, model, "base", units, Ranks())


def test_norms_are_those_of_general_sequences(workspace, known):
    config, model, norms = known
    data = workspace.training_sets(config.model, config.training_data)[1]
    exact = model.double()
    squares = dict.fromkeys(norms, 0.0)
    for place in range(COUNT):
        item = data[place * len(data) // COUNT]
        exact.zero_grad()
        batch = collate([item], 0)
        (answer_loss(exact, batch) / int((batch["labels"][:, 1:] != -100).sum())).backward()
        for unit in workspace.catalog(config.model).block:
            for name in unit.parameters:
                squares[unit.name] += float(exact.get_parameter(name).grad.norm()) ** 2
    for name, norm in norms.items():
        assert norm == pytest.approx(math.sqrt(squares[name] / COUNT), rel=1e-3), name


def test_all_ranks_stages_and_rounds_choose_what_matters_least(workspace, known, runs):
    config, _, norms = known
    expected = draw(workspace.catalog(config.model), config.selection, 0, History({}, norms)).hash
    for case in ("source-0", "source-2", "again"):
        found = [each["hash"] for each in runs.outcome(case)["selection"]]
        assert found == [expected] * 2, case


def test_a_resume_is_exact(runs):
    whole, again = runs.weights("source-2"), runs.weights("again")
    assert all(torch.equal(each, again[name]) for name, each in whole.items())


def test_it_is_measured_once_for_all_runs(runs):
    lines = (runs.folder / "root" / "cache" / "reference" / "computed.jsonl").read_text()
    assert lines.count('"units"') == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data.replay.train": None}, "needs general data"),
        ({"training.zero_stage": 3}, "needs training.zero_stage 0, 1 or 2"),
    ],
)
def test_what_it_needs_is_told(tiny_file, changes, told):
    config = Config.model_validate(merged(tiny_file, SOURCE | changes))
    (problem,) = check_settings(config)
    assert problem.path == "selection.strategy" and told in problem.message


def test_the_arm_is_half_by_category_from_general_data():
    search = {"arms": ["full", "source"], "trials": 2, "variants": {"averages": 0}}
    search |= {"space": {"training.learning_rate": [1e-4, 1e-3]}}
    file = {"name": "s", "model": "m", "data": {"train": "t.jsonl"}, "search": search}
    with_general = file | {"data": {"train": "t.jsonl", "replay": {"train": "g.jsonl"}}}
    arm = by_arm(validate(with_general, "FILE"))["source"]
    chosen = arm.selection
    assert (chosen.strategy, chosen.ratio, chosen.granularity) == ("source", 0.5, "category")
    for one, expected in ((with_general, 0), (file, 1)):
        problems = check_settings(validate(one, "FILE"))
        assert sum("general data" in each.message for each in problems) == expected
