"""A sweep's folder: what may continue, what is refused, and with which words."""

from __future__ import annotations

import pytest

from hft_ray.config import ConfigError
from hft_ray.config.load import parse, validate
from hft_ray.orchestration.folder import SweepFolder


def make_config(**changes):
    raw = {
        "name": "s",
        "model": "m",
        "data": {"train": "train.jsonl"},
        "training": {"learning_rate": 1e-3},
        "search": {"space": {"selection.ratio": [0.25, 0.5]}, "trials": 8},
    }
    for path, value in changes.items():
        *sections, last = path.split("__")
        target = raw
        for section in sections:
            target = target.setdefault(section, {})
        target[last] = value
    return validate(raw, "test.yaml")


@pytest.fixture
def folder(tmp_path):
    folder = SweepFolder(tmp_path, "s")
    folder.claim(make_config())
    return folder


def refused(folder, config, fresh=False):
    with pytest.raises(ConfigError) as caught:
        folder.check(config, fresh)
    return caught.value.problems


def test_a_new_sweep_is_checked_without_writing_anything(tmp_path):
    folder = SweepFolder(tmp_path, "s")
    folder.check(make_config(), fresh=True)
    assert list(tmp_path.iterdir()) == []


def test_claiming_says_whether_there_is_something_to_continue(tmp_path):
    folder = SweepFolder(tmp_path, "s")
    assert not folder.claim(make_config())
    assert folder.claim(make_config())
    assert folder.logs.is_dir()


def test_a_sweep_that_runs_keeps_its_file(folder):
    kept = folder.config.read_text("utf-8")
    with folder.held(), folder.held():
        longer = make_config(search__trials=9)
        with (
            pytest.raises(ConfigError, match="running already"),
            SweepFolder(folder.root, "s").held(),
        ):
            folder.claim(longer)
    assert folder.config.read_text("utf-8") == kept
    with SweepFolder(folder.root, "s").held():
        assert folder.claim(longer)
        # Another command has come first, with a longer sweep.
        with pytest.raises(ConfigError, match="can only be extended"):
            folder.claim(make_config())


def test_what_is_kept_is_the_file_as_it_was_given(folder):
    config = make_config()
    kept = parse(folder.config.read_text("utf-8"), "kept")
    assert kept == config
    # A default that a later version changes is not frozen into the sweep.
    assert "zero_stage" not in folder.config.read_text("utf-8")


def test_the_same_file_goes_on(folder):
    folder.check(make_config(), fresh=False)


def test_a_default_written_out_is_the_same_file(folder):
    folder.check(make_config(training__zero_stage=2, selection__ratio=0.5), fresh=False)


def test_fresh_refuses_to_go_on(folder):
    (problem,) = refused(folder, make_config(), fresh=True)
    assert problem.path == "name"
    assert str(folder.path) in problem.message


def test_changes_are_refused_all_at_once_with_what_they_were(folder):
    config = make_config(
        training__learning_rate=2e-3, data__train="other.jsonl", search__sampler="random"
    )
    problems = {problem.path: problem for problem in refused(folder, config)}
    assert sorted(problems) == ["data.train", "search.sampler", "training.learning_rate"]
    assert "was 0.001" in problems["training.learning_rate"].message
    assert problems["training.learning_rate"].given == 2e-3


@pytest.mark.parametrize(
    "space",
    [
        {"selection.ratio": [0.25, 0.75]},
        {"selection.ratio": {"low": 0.25, "high": 0.5}},
        {"selection.ratio": [0.25, 0.5], "training.seed": [1, 2]},
    ],
)
def test_another_space_is_refused(folder, space):
    problems = refused(folder, make_config(search__space=space))
    assert all(problem.path.startswith("search.space.") for problem in problems)


def test_more_trials_and_another_cluster_are_no_change_of_meaning(folder):
    longer = make_config(search__trials=9, cluster__groups=4, cluster__workers=2)
    folder.check(longer, fresh=False)
    folder.claim(longer)
    assert parse(folder.config.read_text("utf-8"), "kept").search.trials == 9


def test_fewer_trials_are_refused(folder):
    (problem,) = refused(folder, make_config(search__trials=7))
    assert problem.path == "search.trials"
    assert "was 8" in problem.message


def test_a_damaged_file_is_a_problem_not_a_crash(folder):
    folder.config.write_text("name: [", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid YAML"):
        folder.check(make_config(), fresh=False)


DEALT = [{"full": {}, "hft": {}}, {"hft": {}, "full": {}}]


def test_the_order_of_arms_is_kept(tmp_path):
    folder = SweepFolder(tmp_path, "s")
    space = {"training.learning_rate": [1e-4, 1e-3]}
    one, other = ({"search__space": space, "search__arms": arms} for arms in DEALT)
    folder.claim(make_config(**one))
    (problem,) = refused(folder, make_config(**other))
    assert problem.path == "search.arms"
    assert "full, hft" in problem.message
