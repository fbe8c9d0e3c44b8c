"""Pairs of model directories (tuned and base), and the command line in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from weights_models import make, tune

from hft_ray.cli.main import main

VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama"},
    "tied": {"family": "llama", "tie_word_embeddings": True},
    "bf16": {"family": "llama", "dtype": torch.bfloat16},
    "gpt2": {"family": "gpt2"},
    "mixtral": {"family": "mixtral"},
}


@pytest.fixture(scope="session")
def pairs(tmp_path_factory) -> Callable[[str], tuple[Path, Path]]:
    """``pairs(variant)``: folders of a tuned model in many shards and of its base in one file."""
    made: dict[str, tuple[Path, Path]] = {}
    root = tmp_path_factory.mktemp("weights")

    def pair(variant: str) -> tuple[Path, Path]:
        if variant not in made:
            model = make(**VARIANTS[variant])
            folders = root / variant / "tuned", root / variant / "base"
            model.save_pretrained(folders[1])
            tune(model).save_pretrained(folders[0], max_shard_size="16KB")
            (folders[0] / "tokenizer_config.json").write_text('{"tuned": true}')
            (folders[0] / "optimizer.pt").write_bytes(b"not to be copied")
            made[variant] = folders
        return made[variant]

    return pair


@pytest.fixture
def command(monkeypatch, capsys, tmp_path) -> Callable[..., tuple[int, Any, str]]:
    """``command(*words)``: run ``hft-ray``; return its exit code, its JSON if any, its errors."""
    monkeypatch.setenv("HFT_RAY_HOME", str(tmp_path / "home"))

    def run(*words: Any) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["hft-ray", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        out = json.loads(printed.out) if "--json" in words and printed.out else printed.out
        return end.value.code or 0, out, printed.err

    return run
