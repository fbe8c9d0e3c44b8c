"""Liger's kernels: refused where they cannot be had, with what to do."""

from __future__ import annotations

import pytest
import torch

from hft_ray.config import Config, ConfigError, Model
from hft_ray.evaluation import BaseScores
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace
from hft_ray.training.base import known_base
from hft_ray.training.models import load_model


def test_they_need_a_gpu(tiny_models, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = Model(name=str(tiny_models["tied"]), use_liger_kernel=True)
    with pytest.raises(ConfigError, match="use_liger_kernel: needs a GPU"):
        load_model(model, model.name, torch.float32)


def test_what_to_install_is_said(tiny_models, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("hft_ray.training.models.find_spec", lambda name: None)
    model = Model(name=str(tiny_models["tied"]), use_liger_kernel=True)
    with pytest.raises(ConfigError, match=r"pip install 'hft-ray\[liger\]'"):
        load_model(model, model.name, torch.float32)


def test_scores_of_the_base_with_them_are_others(tiny_file, tmp_path, monkeypatch):
    stored = []
    monkeypatch.setattr(BaseScores, "get", lambda self, key: stored.append(key))
    for use in (False, True, False):
        model = {"name": tiny_file["model"], "use_liger_kernel": use}
        config = Config.model_validate(tiny_file | {"model": model})
        assert known_base(config, Workspace(tmp_path, Ranks(), torch.device("cpu"))) is None
    assert stored[0] == stored[2] != stored[1]
