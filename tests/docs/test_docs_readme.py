"""README shows what is so: its YAML runs, its commands and files exist."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from hft_ray.cli.main import app
from hft_ray.config.load import load
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace, check

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("clusters/*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_example_is_a_valid_file(tmp_path, tiny_models, tiny_file, monkeypatch):
    (example,) = blocks(README, "yaml")
    assert len(example.splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    Path("support.yaml").write_text(example, encoding="utf-8")
    config = load(Path("support.yaml"), ())

    shutil.copytree(tiny_models["untied"], "my-model")
    shutil.copy(tiny_file["data"]["train"], config.data.train)
    shutil.copy(tiny_file["evaluation"]["task"][0]["data"], config.evaluation.task[0].data)
    question = {"question": "Is it?", "choices": ["yes", "no"], "answer": 0}
    Path(config.evaluation.general[0].data).write_text(json.dumps(question), encoding="utf-8")
    # The record forms named beside the settings are those of the data.
    assert re.findall(r'"(\w+)"', example.split("test.jsonl}]")[1].split("\n")[0]) == [
        *json.loads(Path("test.jsonl").read_text().splitlines()[0])
    ]
    check(config, Workspace(tmp_path / "root", Ranks(), torch.device("cpu")), "support.yaml")


def test_the_table_of_commands_is_that_of_the_program():
    told = re.findall(r"^\| `hft-ray (\w+)", README, re.MULTILINE)
    assert sorted(told) == sorted(command.name for command in app.registered_commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    links = [*re.findall(r"\]\(([^)#]+)\)", text), *re.findall(r'src="([^"]+)"', text)]
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE))
        assert named <= targets, page.name
