"""``hft-ray tune --dry-run``: every node is looked at, and nothing is left behind."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import ray
import yaml
from ray.cluster_utils import Cluster
from sweep_runs import command

from hft_ray.orchestration.folder import SweepFolder
from hft_ray.orchestration.node_check import DRIVER, NodeQuestion, look_around

pytestmark = pytest.mark.cluster


def asked(root: Path, **changed) -> NodeQuestion:
    known = {
        "node": "n1",
        "root": str(root),
        "place": ".check",
        "mirror": None,
        "files": {str(root): "data"},
        "gpus": 0.0,
    }
    return NodeQuestion(**(known | changed))


def test_what_is_right_on_a_node(tmp_path):
    (tmp_path / ".check").mkdir()
    (tmp_path / ".check" / DRIVER).touch()
    report = look_around(asked(tmp_path))
    assert report.problems == {}
    assert report.found["root"].endswith("GiB free")
    assert (report.found["mirror"], report.found["files"]) == ("-", "read")
    assert look_around(asked(tmp_path, files={})).found["files"] == "-"
    assert "cores" in report.found["devices"]
    assert (tmp_path / ".check" / "n1").read_text() == "here"
    assert report.versions["ray"] == ray.__version__


def test_everything_that_is_wrong_on_a_node_is_found_at_once(tmp_path):
    wrong = asked(
        tmp_path,
        mirror=str(tmp_path / "mirror"),
        files={str(tmp_path / "model.gguf"): "model.name"},
        gpus=9,
    )
    problems = look_around(wrong).problems
    assert set(problems) == {"root", "mirror", "files", "devices"}
    assert "mount one share there on every node" in problems["root"]
    assert "Ray counts 9 GPUs" in problems["devices"]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """Address of a cluster of two nodes; the second has another peft, and GPUs by name only."""
    other = tmp_path_factory.mktemp("other")
    (other / "peft-0.0.1.dist-info").mkdir()
    (other / "peft-0.0.1.dist-info" / "METADATA").write_text("Name: peft\nVersion: 0.0.1\n")
    options = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    try:
        options.pop("include_dashboard")
        path = {"PYTHONPATH": f"{other}:{Path(__file__).parents[2]}"}
        cluster.add_node(**options, num_gpus=7, env_vars=path)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_table_has_a_line_for_each_node_and_every_problem_is_told(
    nodes, tiny_file, tmp_path, monkeypatch, capsys
):
    content = copy.deepcopy(tiny_file) | {"cluster": {"mirror": str(tmp_path / "mirror")}}
    content["search"] = {"trials": 2, "space": {"selection.ratio": {"low": 0.2, "high": 1.0}}}
    file, root = tmp_path / "file.yaml", tmp_path / "root"
    file.write_text(yaml.safe_dump(content))
    look = ("tune", file, "--dry-run", "--address", nodes)
    code, out, err = command(
        monkeypatch, capsys, root, *look, "--json", "--set", "cluster.groups=9"
    )
    assert code == 2
    found = json.loads(out)
    assert [each["driver"] for each in found["nodes"]] == [True, False]
    first, second = found["nodes"]
    for node in (first, second):
        assert node["mirror"] == "read and written"
        assert (node["files"], node["root"][-8:]) == ("read", "GiB free")
    assert first["problems"] == []
    assert len(second["problems"]) == 2
    assert "Ray counts 7 GPUs" in second["problems"][0]
    assert second["problems"][1].startswith("peft 0.0.1 (the driver has ")
    assert len(found["problems"]) == 3
    assert "9 groups x 1 workers" in found["problems"][0]
    assert all(each in err for each in found["problems"])
    # Of what the checks wrote nothing is left, and no sweep was begun.
    assert not list((tmp_path / "mirror").rglob("*"))
    assert not list(root.glob(".check-*"))
    assert not (root / "sweeps").exists()

    # A server that does not answer is told once, and so is a sweep that runs already.
    folder = SweepFolder(root, content["name"])
    with folder.held():
        away = ("--set", "tracking.uri=http://127.0.0.1:9")
        code, out, err = command(monkeypatch, capsys, root, *look, "--json", *away)
    assert code == 2
    told = json.loads(out)["problems"]
    assert sum("does not answer" in each for each in told) == 1
    assert sum("running already" in each for each in told) == 1

    code, out, err = command(monkeypatch, capsys, root, *look)
    assert code == 2
    assert "running already" not in err
    assert out.count("wrong") == 2
    assert "node" in out and "versions" in out


def test_a_cluster_that_is_not_there_is_told_with_all_else(
    tiny_file, tmp_path, monkeypatch, capsys
):
    def no_answer(**_):
        raise ConnectionError("nobody is there")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", no_answer)
    content = copy.deepcopy(tiny_file) | {"tracking": {"uri": f"sqlite:///{tmp_path}"}}
    content["search"] = {"trials": 2, "space": {"selection.ratio": {"low": 0.2, "high": 1.0}}}
    content["data"] |= {"train": str(tmp_path / "missing.jsonl")}
    (tmp_path / "file.yaml").write_text(yaml.safe_dump(content))
    look = ("tune", tmp_path / "file.yaml", "--dry-run", "--address", "127.0.0.1:9")
    code, out, err = command(monkeypatch, capsys, tmp_path / "root", *look)
    assert (code, out) == (2, "")
    for part in ("missing.jsonl", "no Ray cluster can be joined", "tracking.uri"):
        assert part in err


def test_a_table_of_learning_curves_has_no_nodes(tmp_path, monkeypatch, capsys):
    (tmp_path / "file.yaml").write_text("name: s\n")
    both = ("tune", tmp_path / "file.yaml", "--dry-run", "--simulate", "t.jsonl")
    code, _, err = command(monkeypatch, capsys, tmp_path, *both)
    assert code == 2
    assert "--simulate" in err
