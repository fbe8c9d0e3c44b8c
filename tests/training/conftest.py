"""The runs that the tests of training look at: those on one rank, then those on two.

``lives`` are jobs that each have processes of their own: what is killed, and what is looked into.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from footprint_cases import (
    DEEP,
    SHALLOW,
    SHORT,
    memory_job,
    peaks_job,
    reselections_job,
    resize,
    state_job,
    variant_peaks_job,
    variants_job,
)
from jobs import Jobs, Lives
from lives_cases import (
    DEATHS,
    REFUSED,
    RESUMED_DAMAGED,
    SETTING,
    killed_file,
    killing_jobs,
    resume_job,
)
from safetensors.torch import load_file
from torch import Tensor
from training_cases import (
    RESUMED,
    STAGES,
    Runs,
    common_cases,
    merged,
    single_cases,
    start,
)


@pytest.fixture(scope="session")
def make_cases(tiny_file, tiny_models):
    """Turn changes into whole FILEs."""

    def make(cases: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {
            name: merged(
                tiny_file,
                changes | ({"model": tiny_models[changes["model"]]} if "model" in changes else {}),
            )
            for name, changes in cases.items()
        }

    return make


@pytest.fixture(scope="session")
def one_rank(jobs: Jobs, make_cases, tmp_path_factory) -> Runs:
    return start(jobs, tmp_path_factory.mktemp("one"), make_cases(common_cases() | single_cases()))


@pytest.fixture(scope="session")
def two_ranks(jobs: Jobs, make_cases, tmp_path_factory) -> Runs:
    return start(jobs, tmp_path_factory.mktemp("two"), make_cases(common_cases()), ranks=2)


@pytest.fixture(scope="session", params=["one_rank", "two_ranks"])
def runs(request) -> Runs:
    """The runs on one rank, then those on two."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def base_weights(tiny_models) -> dict[str, Tensor]:
    """The untouched model's weights."""
    return load_file(Path(tiny_models["untied"]) / "model.safetensors")


@pytest.fixture(scope="session")
def dropout_model(tiny_models, tmp_path_factory) -> str:
    """The tiny model with dropout, whose course depends on the random state."""
    folder = tmp_path_factory.mktemp("dropout") / "model"
    shutil.copytree(tiny_models["untied"], folder)
    config = (folder / "config.json").read_text()
    assert '"attention_dropout": 0.0' in config
    changed = config.replace('"attention_dropout": 0.0', '"attention_dropout": 0.1')
    (folder / "config.json").write_text(changed)
    return str(folder)


@pytest.fixture(scope="session")
def deep_file(tiny_file, tiny_models, tmp_path_factory) -> dict[str, Any]:
    """A FILE on a model that is large enough for percentages of its memory."""
    folder = tmp_path_factory.mktemp("deep") / "model"
    shutil.copytree(tiny_models["untied"], folder)
    resize(folder, DEEP)
    return tiny_file | {"model": str(folder)}


@pytest.fixture(scope="session")
def shallow_file(tiny_file, tiny_models, tmp_path_factory) -> dict[str, Any]:
    """A FILE on the smallest model that is drawn from."""
    folder = tmp_path_factory.mktemp("shallow") / "model"
    shutil.copytree(tiny_models["untied"], folder)
    resize(folder, SHALLOW)
    return tiny_file | {"model": str(folder)}


@pytest.fixture(scope="session")
def lives(
    jobs: Jobs, tiny_file, tiny_models, dropout_model, one_rank, two_ranks, tmp_path_factory
) -> Lives:
    folder = tmp_path_factory.mktemp("lives")
    wanted = []
    for (setting, ranks), death in DEATHS.items():
        file = killed_file(tiny_file, dropout_model, setting)
        wanted += killing_jobs(folder, file, ranks, setting, [death])
    for ranks, runs in ((1, two_ranks), (2, one_rank)):
        cases = {f"zero{stage}-carry": runs for stage in STAGES}
        wanted.append(_elsewhere(folder, ranks, cases))
    file = killed_file(tiny_file, dropout_model, SETTING)
    evaluation = {"changes": {"evaluation": tiny_file["evaluation"]}}
    refused = REFUSED | {"model": {"changes": {"model": tiny_models["tied"]}}}
    cases = RESUMED_DAMAGED | refused | {"evaluation": evaluation}
    wanted.append(resume_job(folder, file, "damaged", SETTING, cases))
    cases = {"rate": REFUSED["rate"], "truncated": RESUMED_DAMAGED["truncated"]}
    wanted.append(resume_job(folder, file, "damaged-2", SETTING, cases, ranks=2))
    checkpoints = {"name": "checkpoints", "ranks": 2, "do": "checkpoint_jobs.write_and_read"}
    wanted.append(checkpoints | {"with": {"out": str(folder / "checkpoints")}})
    return jobs.run(folder, wanted)


@pytest.fixture(scope="session")
def peaks(jobs: Jobs, deep_file, tmp_path_factory) -> Lives:
    folder = tmp_path_factory.mktemp("peaks")
    return jobs.run(folder, [peaks_job(ranks, deep_file) for ranks in (1, 2)])


@pytest.fixture(scope="session")
def engines(jobs: Jobs, tiny_file, shallow_file, deep_file, tmp_path_factory) -> Lives:
    folder = tmp_path_factory.mktemp("engines")
    wanted = [variants_job(tiny_file), variant_peaks_job(deep_file)]
    for ranks in (1, 2):
        wanted += [state_job(ranks, shallow_file), memory_job(ranks, deep_file)]
        wanted.append(reselections_job(ranks, shallow_file, SHORT[ranks]))
    return jobs.run(folder, wanted)


def _elsewhere(folder: Path, ranks: int, cases: dict[str, Runs]) -> dict[str, Any]:
    """Return the job that goes on from the checkpoints of runs on another number of ranks."""
    runs = {}
    for name, source in cases.items():
        out = folder / f"elsewhere-{ranks}" / name
        shutil.copytree(source.folder / f"{name}-checkpoints", out / "checkpoints")
        assert (out / "checkpoints" / f"step-{RESUMED:08d}").is_dir()
        runs[name] = {"file": source.files[name], "out": str(out)}
    return {
        "name": f"elsewhere-{ranks}",
        "ranks": ranks,
        "do": "lives_jobs.train",
        "with": {"cases": runs},
    }
