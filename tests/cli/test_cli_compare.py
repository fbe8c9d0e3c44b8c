"""``compare`` and ``report`` on sweeps that tracking knows; nothing is trained."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from hft_ray.cli import main
from hft_ray.cli.main import app
from hft_ray.tracking import DataSet, Tracker, artifact_location, tracking_uri
from hft_ray.tracking.environment import open_client

TWO = {"task/score": "max", "forgetting/mean": "min"}
WORST = {"task/score": 0.0, "forgetting/mean": 1.0}
NOISE = 0.02


def file_of(name, **changed):
    general = {"name": "facts", "kind": "multiple_choice", "data": "facts.jsonl"}
    return {
        "name": name,
        "model": changed.get("model", "base"),
        "data": {"train": "train.jsonl"},
        "evaluation": {
            "task": [{"name": "answers", "kind": "generation", "data": "test.jsonl"}],
            "general": [general | changed.get("general", {})],
            **changed.get("evaluation", {}),
        },
        "search": {
            "space": {
                "selection.ratio": {"low": 0.1, "high": 1.0},
                "selection.granularity": ["layer", "category"],
                "selection.reselect": ["never", "epoch", 20],
                **changed.get("space", {}),
            },
            "objectives": changed.get("objectives", TWO),
            "trials": 12,
        },
    }


def write_sweep(root, name, gain=0.0, seeds=1, trials=12, **changed):
    """Log a sweep as a driver does: scores grow with the ratio, and so does what is forgotten."""
    uri = tracking_uri(None, root)
    tracker = Tracker(
        uri, "hft-ray", spool=root / f"spool-{name}", artifacts=artifact_location(uri, root)
    )
    file = file_of(name, **changed)
    objectives = file["search"]["objectives"]
    tracker.open_sweep(name, yaml.safe_dump(file, sort_keys=False), {}, {})
    tracker.log_data([DataSet(f"facts of {name}", "12345678", "facts.jsonl", "general")])
    tracker.describe_front(objectives, {k: WORST[k] for k in objectives}, {"task/score": 0.1})
    tracker.log_model(None, {}, {}, 0, {})
    rng = np.random.default_rng(len(name))
    for number in range(trials):
        ratio = 1.0 if number < seeds else 0.1 + 0.9 * (number // seeds) / (trials / seeds)
        score = 1 - np.exp(-3 * ratio) + NOISE * rng.standard_normal()
        lost = 0.6 * ratio**2 * (1 - gain) + NOISE * rng.standard_normal()
        params = {
            "selection.ratio": ratio,
            "selection.granularity": ["layer", "category"][(number // seeds) % 2],
            "selection.reselect": ["never", "epoch", 20][(number // seeds) % 3],
        }
        if seeds > 1:
            params["selection.seed"] = number % seeds
        trial = f"t{number:04d}"
        tracker.open_trial(trial, params, {})
        values = {"task/score": score, "forgetting/mean": lost, "cost/device_seconds": 60 * ratio}
        if seeds == 1:
            values |= {f"stderr/{objective}": NOISE for objective in TWO}
        tracker.log(trial, 120, values)
        tracker.finish_trial(trial, "complete")
    tracker.finish_sweep("complete")
    assert tracker.close(60)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    write_sweep(root, "plain")
    write_sweep(root, "better", gain=0.6, model="other")
    seeded = {"space": {"selection.seed": [0, 1, 2]}}
    write_sweep(root, "seeded", seeds=3, trials=18, **seeded)
    write_sweep(root, "choices", trials=3, general={"normalize": True})
    write_sweep(root, "single", trials=3, objectives={"task/score": "max"})
    write_sweep(root, "often", trials=3, evaluation={"every": 5, "batch_size": 4})
    return root


def invoke(root, *arguments, code=0):
    done = CliRunner().invoke(app, [*map(str, arguments), "--storage", str(root)])
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def test_compare_prints_the_contracts_json(root, tmp_path):
    found = json.loads(invoke(root, "compare", "plain", "better", "--json", "--out", tmp_path))
    assert found["objectives"] == TWO
    assert found["reference_point"] == WORST
    plain, better = found["sweeps"]
    assert set(plain) >= {"sweep", "hypervolume", "interval", "front_size"}
    assert plain["interval"][0] < plain["estimate"] < plain["interval"][1]
    (difference,) = found["differences"]
    assert (difference["a"], difference["b"]) == ("plain", "better")
    gap = plain["hypervolume"] - better["hypervolume"]
    assert difference["hypervolume"] == pytest.approx(gap)
    low, high = difference["interval"]
    assert low < high < 0  # much less is forgotten: the noise cannot hide it
    assert difference["epsilon"] > 0
    assert difference["igd_plus"] > difference["igd_plus_back"] >= 0
    (matched,) = found["matched"]
    assert (matched["at"], matched["objective"]) == ("task/score", "forgetting/mean")
    both = [row["sweeps"] for row in matched["rows"] if all(row["sweeps"].values())]
    assert both
    assert sum(each["better"]["value"] < each["plain"]["value"] for each in both) > len(both) / 2
    assert found["notes"] == ["different base models: plain: base; better: other"]
    assert found == json.loads((tmp_path / "compare.json").read_text())


def test_compare_prints_tables_and_has_a_run_of_its_own(root):
    text = invoke(root, "compare", "plain", "better", "seeded")
    for heading in ("Sweeps", "Differences", "forgetting/mean at the same task/score"):
        assert heading in text
    assert "note: different base models" in text
    folder = root / "comparisons/plain_better_seeded"
    assert f"report: {folder / 'compare.html'}" in text.replace("\n", "")
    client = open_client(tracking_uri(None, root))
    experiment = client.get_experiment_by_name("hft-ray")
    wanted = "tags.`hft_ray.kind` = 'evaluation'"
    (run,) = [
        each
        for each in client.search_runs([experiment.experiment_id], wanted)
        if json.loads(each.data.tags["hft_ray.compared"]) == ["plain", "better", "seeded"]
    ]
    assert run.info.status == "FINISHED"
    assert run.data.tags["hft_ray.state"] == "complete"
    logged = json.loads((folder / "compare.json").read_text())
    for side in logged["sweeps"]:
        assert run.data.metrics[f"hypervolume/{side['sweep']}"] == side["hypervolume"]
    inputs = client.get_run(run.info.run_id).inputs
    names = {each.dataset.name for each in inputs.dataset_inputs}
    assert names == {"facts of plain", "facts of better", "facts of seeded"}
    assert len(inputs.model_inputs) == 3
    assert run.data.tags["mlflow.source.name"] == "hft-ray compare plain better seeded"
    artifacts = {each.path for each in client.list_artifacts(run.info.run_id, "compare")}
    assert artifacts == {f"compare/compare.{suffix}" for suffix in ("json", "html", "png")}


def test_several_seeds_are_one_point_with_an_error_from_their_spread(root, tmp_path):
    found = json.loads(invoke(root, "compare", "seeded", "plain", "--json", "--out", tmp_path))
    seeded = found["sweeps"][0]
    assert seeded["points"] == 6
    assert seeded["interval"] is not None
    assert seeded["probabilities"]
    cells = [row["sweeps"]["seeded"] for row in found["matched"][0]["rows"]]
    errors = [cell["error"] for cell in cells if cell]
    assert errors == pytest.approx([NOISE / 3**0.5] * len(errors), rel=0.6)
    assert "reached by some seeds" in (tmp_path / "compare.html").read_text()


def test_what_does_not_change_scores_does_not_forbid(root, tmp_path):
    found = json.loads(invoke(root, "compare", "plain", "often", "--json", "--out", tmp_path))
    assert found["notes"] == []


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["plain", "single"], ["search.objectives", "single", "forgetting/mean"]),
        (["plain", "choices"], ["evaluation.general.facts", "normalize is True and False"]),
        (["plain", "choices", "single"], ["2 problems", "normalize", "search.objectives"]),
        (["plain"], ["two or more different sweeps"]),
        (["plain", "plain"], ["two or more different sweeps"]),
        (["plain", "beter"], ["no sweep of this name", "did you mean 'better'"]),
    ],
)
def test_what_cannot_be_compared_is_refused(root, names, said, monkeypatch, capsys, tmp_path):
    command = ["compare", *names, "--storage", str(root), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["hft-ray", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert all(each in error for each in said), error
    assert not (tmp_path / "out").exists()


def test_report_rebuilds_the_page_with_the_analysis(root):
    text = invoke(root, "report", "plain")
    assert "bias-corrected" in text
    assert "[" in text.split("bias-corrected")[1].splitlines()[0]
    page = (root / "sweeps/plain/front/front.html").read_text()
    for part in (
        "Influence of the settings",
        "Hypervolume, bias-corrected",
        "granularity",
        "reselect",
    ):
        assert part in page
    assert ">P</th>" in page


@pytest.mark.parametrize("rule", ["knee", "best:task/score", "task/score>=0.7", "trial:t0003"])
def test_report_selects(root, rule):
    content = json.loads(invoke(root, "report", "plain", "--select", rule, "--json"))
    points = {point["trial"]: point for point in content["points"]}
    chosen = points[content["selected"]]
    match rule:
        case "knee":
            assert content["selected"] == content["knee"]
        case "trial:t0003":
            assert content["selected"] == "t0003"
        case "best:task/score":
            best = max(point["values"]["task/score"] for point in points.values())
            assert chosen["values"]["task/score"] == best
        case _:
            within = [p for p in points.values() if p["values"]["task/score"] >= 0.7]
            least = min(point["values"]["forgetting/mean"] for point in within)
            assert chosen["values"]["forgetting/mean"] == least


def test_report_selects_by_what_was_spent(root):
    text = invoke(root, "report", "plain", "--select", "cost/device_seconds<=30")
    chosen = text.split("cost/device_seconds<=30:")[1]
    assert "selection.ratio: 0." in chosen
    assert float(chosen.split("cost/device_seconds: ")[1].split()[0]) <= 30


def test_a_rule_that_no_trial_meets_is_refused(root, monkeypatch, capsys):
    rule = "task/score>=2"
    command = ["report", "plain", "--select", rule, "--storage", str(root)]
    monkeypatch.setattr(sys, "argv", ["hft-ray", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--select: no trial has task/score >= 2" in capsys.readouterr().err
