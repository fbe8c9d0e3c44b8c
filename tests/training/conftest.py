"""The runs that the tests of training look at: one process of one rank, one start of two ranks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor
from training_cases import WORKER, Runs, common_cases, merged, single_cases, start


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
def one_rank(make_cases, tmp_path_factory) -> Runs:
    cases = make_cases(common_cases() | single_cases())
    return start(
        tmp_path_factory.mktemp("one"), cases, lambda job: [sys.executable, str(WORKER), str(job)]
    )


@pytest.fixture(scope="session")
def two_ranks(make_cases, tmp_path_factory) -> Runs:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return start(
        tmp_path_factory.mktemp("two"),
        make_cases(common_cases()),
        lambda job: [*torchrun, "--nproc-per-node", "2", str(WORKER), str(job)],
    )


@pytest.fixture(scope="session", params=["one_rank", "two_ranks"])
def runs(request) -> Runs:
    """The runs on one rank, then those on two."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def base_weights(tiny_models) -> dict[str, Tensor]:
    """The untouched model's weights."""
    return load_file(Path(tiny_models["untied"]) / "model.safetensors")
