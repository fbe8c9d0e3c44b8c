"""Replay of general data in supervised fine-tuning: how much, of what, and that it repeats."""

from __future__ import annotations

import pytest
import torch

from hft_ray.config import Config, ConfigError
from hft_ray.config.keys import with_settings
from hft_ray.config.load import validate
from hft_ray.data import Mixture
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace
from hft_ray.training.methods import make_stages


@pytest.fixture(scope="module")
def file(tiny_file, tmp_path_factory):
    general = tmp_path_factory.mktemp("general") / "general.jsonl"
    rows = (f'{{"prompt": "x{n}", "completion": " the cat sat"}}\n' for n in range(7))
    general.write_text("".join(rows), encoding="utf-8")
    return with_settings(
        Config.model_validate(tiny_file), {"data.replay.train": str(general), "training.steps": 10}
    )


@pytest.fixture(scope="module")
def stage_of(file, tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("root"), Ranks(), torch.device("cpu"))
    return lambda **settings: make_stages(with_settings(file, settings), workspace)[0]


def mixture(stage) -> Mixture:
    found = stage.objective.data
    assert isinstance(found, Mixture)
    return found


def drawn(stage):
    """The members of the mixture in each step's batch."""
    members = mixture(stage).members
    return [members[stage.indices(step)].tolist() for step in range(stage.steps)]


@pytest.mark.parametrize(("share", "replayed"), [(0.1, 8), (0.25, 20), (0.33, 26)])
def test_the_share_is_exact_over_the_run_and_batches_are_as_large(stage_of, share, replayed):
    stage = stage_of(**{"data.replay.share": share})
    batches = drawn(stage)
    assert [len(batch) for batch in batches] == [8] * 10
    assert sum(map(sum, batches)) == replayed
    # As even along the run as it can be, and nothing twice before all are taken.
    assert all(abs(sum(batch) - 8 * share) < 2 for batch in batches)
    taken = mixture(stage)
    places = [place for step in range(stage.steps) for place in stage.indices(step)]
    for member, size in ((0, 20), (1, 7)):
        own = [int(taken.indices[place]) for place in places if taken.members[place] == member]
        for start in range(0, len(own), size):
            one_pass = own[start : start + size]
            assert len(set(one_pass)) == len(one_pass)


def test_replay_changes_neither_the_steps_nor_the_rounds(stage_of):
    plain = stage_of(**{"training.epochs": 3.0})
    mixed = stage_of(**{"training.epochs": 3.0, "data.replay.share": 0.5})
    assert (mixed.steps, mixed.per_epoch) == (plain.steps, plain.per_epoch) == (8, 2.5)


def test_replay_is_a_function_of_the_seed(stage_of):
    share = {"data.replay.share": 0.25}
    assert drawn(stage_of(**share)) == drawn(stage_of(**share))
    one, again, other = (
        stage_of(**share, **{"training.seed": seed}).objective.identity for seed in (0, 0, 1)
    )
    assert one == again != other


def test_without_a_share_nothing_is_mixed_in(stage_of):
    assert not isinstance(stage_of().objective.data, Mixture)


def test_the_loss_is_per_trained_token_of_both(stage_of):
    objective = stage_of(**{"data.replay.share": 0.5}).objective
    tokens = mixture(stage_of(**{"data.replay.share": 0.5})).answer_tokens
    assert objective.units([0, 1, 79]) == tokens[[0, 1, 79]].sum()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"replay": {"share": 0.1}}, "a share needs train"),
        ({"replay": {"train": "x.jsonl", "share": 1.0}}, "less than 1"),
        ({"replay": {"train": "x.jsonl"}, "method": "dpo"}, "read by method: sft alone"),
    ],
)
def test_wrong_replay_is_refused(data, told):
    method = data.pop("method", "sft")
    file = {"name": "x", "model": "m", "method": method, "data": {"train": "t.jsonl", **data}}
    with pytest.raises(ConfigError, match=told):
        validate(file, "x.yaml")


def test_the_arm_needs_data_to_replay():
    search = {"arms": ["full", "replay"], "space": {"training.learning_rate": [0.1, 0.2]}}
    file = {"name": "x", "model": "m", "data": {"train": "t.jsonl"}, "search": search}
    with pytest.raises(ConfigError, match=r"search\.arms\.replay.*a share needs train"):
        validate(file, "x.yaml")
