"""A sweep's state in a mirror: fetched when the storage root lacks it, without workers."""

from __future__ import annotations

import shutil
import threading

import pytest

from hft_ray.artifacts.mirror import LIST, Mirror
from hft_ray.background import BackgroundErrors
from hft_ray.config import ConfigError
from hft_ray.config.load import validate
from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.sweep_mirror import SweepMirror, checkpoints_in, restore, sweep_in
from hft_ray.search import Study


@pytest.fixture
def config(tmp_path):
    search = {"space": {"selection.ratio": {"low": 0.1, "high": 1.0}}, "trials": 3}
    cluster = {"mirror": str(tmp_path / "mirror")}
    content = {"name": "s", "model": "m", "data": {"train": "t"}}
    return validate(content | {"search": search, "cluster": cluster}, "test.yaml")


@pytest.fixture
def folder(config, tmp_path):
    folder = SweepFolder(tmp_path / "home", config.name)
    folder.claim(config)
    return folder


def keep(path):
    path.mkdir(parents=True)
    (path / "state.safetensors").write_bytes(b"weights")


def mirror_once(config, folder, ended):
    errors = BackgroundErrors()
    mirror = SweepMirror(sweep_in(config), folder, errors)
    mirror.update(ended)
    mirror.close()
    return errors.summary()


def run_trial(study):
    known = study.next_trial()
    values = {"task/score": 0.5, "forgetting/mean": 0.1}
    study.tell(known.trial, {"state": "complete", "step": 1, "values": values})
    return known.trial


def test_a_sweep_whose_root_is_lost_comes_back(config, folder):
    study = Study(config, folder.study)
    ended, running = run_trial(study), study.next_trial().trial
    for trial in (ended, running):
        keep(folder.scores / trial)
        keep(folder.weights / trial / "final")
        keep(folder.checkpoints / trial / "step-00000002")
        checkpoints_in(config, trial).put(
            folder.checkpoints / trial / "step-00000002", "step-00000002"
        )
    with folder.study.open("a") as file:
        file.write('{"half a line')
    assert mirror_once(config, folder, [ended]) == []
    place = sweep_in(config)
    assert place.names() == [
        f"checkpoints/{running}/step-00000002",
        f"scores/{ended}",
        "state-00000000",
        f"weights/{ended}/final",
    ]
    assert not restore(config, folder), "the root has it"
    shutil.rmtree(folder.root)
    assert restore(config, folder)
    folder.check(config, fresh=False)
    known = Study(config, folder.study).trials()
    assert [(each.trial, each.state) for each in known] == [
        (ended, "complete"),
        (running, "running"),
    ]
    for kept in (folder.weights / ended / "final", folder.scores / ended):
        assert (kept / "state.safetensors").read_bytes() == b"weights"


def test_the_newest_state_counts_and_of_damaged_ones_the_one_before(config, folder, tmp_path):
    study = Study(config, folder.study)
    for _ in range(3):
        trial = run_trial(study)
        keep(folder.weights / trial / "final")
        assert mirror_once(config, folder, [trial]) == []
        shutil.rmtree(folder.weights / trial)  # as when it leaves the front
    place = sweep_in(config)
    assert [name for name in place.names() if not name.startswith("weights/")] == [
        "state-00000001",
        "state-00000002",
    ]
    damaged = tmp_path / "mirror/sweeps/s/state-00000002/search.jsonl"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    shutil.rmtree(folder.root)
    assert restore(config, folder)
    assert len(Study(config, folder.study).trials()) == 2
    shutil.rmtree(folder.root)
    (tmp_path / "mirror/sweeps/s/state-00000001" / LIST).write_text("{")
    with pytest.raises(ConfigError, match=r"cluster\.mirror.*cannot be read"):
        restore(config, folder)
    assert not folder.config.exists()


def test_a_mirror_that_is_away_ends_no_sweep_and_catches_up(config, folder, tmp_path):
    (tmp_path / "mirror").write_text("a file where the folder should be")
    told, problems = threading.Event(), []
    errors = BackgroundErrors()
    mirror = SweepMirror(
        *(sweep_in(config), folder, errors),
        on_behind=lambda reason: (problems.append(reason), told.set()),
        retry=(0.2, 0.2),
    )
    mirror.update([])
    assert told.wait(60)
    assert "cannot be" in problems[0]
    (tmp_path / "mirror").unlink()
    mirror.close()
    assert sweep_in(config).names()[0].startswith("state-")
    assert errors.undone == {}


def test_a_new_sweep_and_one_without_a_mirror_find_nothing(config, tmp_path):
    folder = SweepFolder(tmp_path / "home", "s")
    assert not restore(config, folder)
    plain = config.model_copy(update={"cluster": type(config.cluster)()})
    assert sweep_in(plain) is None
    assert not restore(plain, folder)
    assert Mirror("s3://b/p") / "x" == Mirror("s3://b/p/x")
