"""A sweep's further points, their weights within a budget, their export, and a trial resumed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sweep_driver import read_front
from sweep_runs import Runs, command
from transformers import AutoModelForCausalLM, AutoTokenizer
from variants_sweep import (
    BEST,
    BUDGET,
    EVERY,
    INTERVAL,
    KILLED,
    MADE,
    NAME,
    OBJECTIVES,
    SAME,
    STEPS,
    Watched,
)

from hft_ray.artifacts import size_of
from hft_ray.config.load import load
from hft_ray.evaluation import Suite, metric_values
from hft_ray.item_scores import read_all
from hft_ray.ranks import Ranks

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

TRIALS = [f"t{number:04d}" for number in range(4)]


@pytest.fixture(scope="module")
def sweep(tiny_file, mlflow_store, tmp_path_factory):
    watched = Watched(tiny_file, mlflow_store, tmp_path_factory.mktemp("variants"))
    try:
        watched.code = watched.run()
        assert watched.code == 0, watched.driver.said()
        watched.front = read_front(watched.root, NAME)
        watched.runs = Runs(watched.root, NAME)
        yield watched
    finally:
        watched.driver.close()


def points(sweep):
    """(trial, variant) -> point of front.json."""
    return {(each["trial"], each["variant"]): each for each in sweep.front["points"]}


def steps_of(sweep, trial):
    """The names of a trial's intermediate models, by their steps."""
    found = {v for t, v in points(sweep) if t == trial and v and v.startswith("step-")}
    return sorted(found, key=lambda name: int(name.removeprefix("step-")))


def members(sweep):
    return [each for each in sweep.front["points"] if each["on_front"]]


def test_every_trial_has_its_variants_as_points(sweep):
    for trial in TRIALS:
        made = [v for t, v in points(sweep) if t == trial]
        assert made == [None, *sorted([*MADE, *steps_of(sweep, trial)])]
        assert set(steps_of(sweep, trial)) <= {f"step-{n}" for n in range(EVERY, STEPS, EVERY)}
        for variant in MADE:
            point = points(sweep)[trial, variant]
            assert (point["state"], point["step"]) == ("complete", STEPS)
        for variant in steps_of(sweep, trial):
            assert points(sweep)[trial, variant]["step"] == int(variant.removeprefix("step-"))
    # What a trial learns rises with the steps: hardly a candidate is dominated by an earlier one.
    assert len(steps_of(sweep, SAME)) >= 9
    kinds = {(each["variant"] or "final").split("-")[0] for each in members(sweep)}
    assert {"final", "step"} <= kinds, members(sweep)


def test_variants_are_runs_below_their_trial(sweep):
    runs = sweep.runs
    assert runs.kinds == {"trial", "variant"}
    assert runs.variants.keys() == {key for key in points(sweep) if key[1] is not None}
    for (trial, variant), run in runs.variants.items():
        tags, point = run.data.tags, points(sweep)[trial, variant]
        assert run.info.run_id == point["run_id"]
        assert run.info.run_name == f"{trial}+{variant}"
        assert run.info.status == "FINISHED"
        assert tags["mlflow.parentRunId"] == runs.trials[trial].info.run_id
        assert tags["hft_ray.state"] == "complete"
        assert tags["hft_ray.pareto"] == str(point["on_front"]).lower()
        assert run.data.params == runs.trials[trial].data.params
        for name, value in point["values"].items():
            assert run.data.metrics[name] == value
        assert runs.steps(run, "task/score") == [point["step"]]
        assert "stderr/task/seen" in run.data.metrics
        assert run.data.metrics["cost/device_seconds"] > 0


def test_a_step_scores_what_the_trial_scored_then(sweep):
    history = sweep.runs.client.get_metric_history
    for trial in (SAME, BEST):
        run = sweep.runs.trials[trial]
        told = {each.step: each.value for each in history(run.info.run_id, "task/score")}
        assert sorted(told) == list(range(EVERY, STEPS + 1, EVERY))
        for variant in steps_of(sweep, trial):
            point = points(sweep)[trial, variant]
            assert point["values"]["task/score"] == told[point["step"]]


def test_the_report_from_tracking_alone_is_the_same(sweep, monkeypatch, capsys):
    code, out, _ = command(monkeypatch, capsys, sweep.root, "report", NAME, "--json")
    assert code == 0
    assert json.loads(out) == sweep.front


def test_the_scores_of_single_items_are_kept_of_every_point(sweep):
    models = read_all(sweep.root / "sweeps" / NAME / "front" / "scores.safetensors")
    found = {f"{t}+{v}" if v else t for t, v in points(sweep)}
    assert models.keys() == found | {"base"}
    weights = models["base"].weights["seen"]
    for (trial, variant), point in points(sweep).items():
        items = models[f"{trial}+{variant}" if variant else trial].items["seen"]
        mean = np.average(items, weights=weights)
        assert mean == pytest.approx(point["values"]["task/seen"], rel=1e-5)
    for point in members(sweep):
        assert 0 <= point["probability"] <= 1
    low, high = sweep.front["hypervolume_interval"]
    assert low < sweep.front["hypervolume_estimate"] < high


def test_every_trial_has_a_picture_of_its_selection(sweep):
    for run in sweep.runs.trials.values():
        assert sweep.runs.artifacts(run) == ["selection.png"]


def test_the_disk_budget_holds_all_the_time(sweep):
    assert len(sweep.sizes) > 100
    assert 0 < max(sweep.sizes) <= BUDGET
    sizes = [size_of(folder) for folder in sweep.weights.glob("*/*")]
    models = sum(1 + len(steps_of(sweep, trial)) for trial in TRIALS)
    assert models * min(sizes) > 5 * BUDGET, "without deletion it would not be exceeded"


def test_weights_of_the_front_are_kept_and_no_others(sweep):
    def source(each):
        variant = each["variant"]
        return (each["trial"], variant if variant and variant.startswith("step-") else "final")

    needed = {source(each) for each in members(sweep)}
    there = {(path.parent.name, path.name) for path in sweep.weights.glob("*/*")}
    assert there == needed
    assert {path.name for path in sweep.weights.iterdir()} == {trial for trial, _ in needed}
    runs = {(trial, None): run for trial, run in sweep.runs.trials.items()} | sweep.runs.variants
    for key, point in points(sweep).items():
        expected = "kept" if source(point) in needed else "deleted: dominated"
        assert runs[key].data.tags["hft_ray.weights"] == expected, key


def test_a_killed_trial_goes_on_from_its_checkpoint(sweep):
    events = sweep.driver.events()
    (cut,) = (n for n, line in enumerate(events) if "'retried'" in line and KILLED in line)
    before, after = (sweep.reported(KILLED, part) for part in (events[:cut], events[cut:]))
    told, *after = after
    start = after[0] - 1
    assert after == list(range(start + 1, STEPS + 1))
    assert start % INTERVAL == 0, "the step of a checkpoint"
    assert told == start // EVERY * EVERY, "the last scores before it"
    assert 0 < before[-1] - start <= INTERVAL
    assert f"{KILLED} started on group 0, attempt 2" in sweep.driver.output


def test_a_killed_trial_ends_as_if_nothing_had_happened(sweep):
    here, there = ({v: p for (t, v), p in points(sweep).items() if t == x} for x in (KILLED, SAME))
    assert here.keys() == there.keys()
    for variant in here:
        assert scores(here[variant]["values"]) == scores(there[variant]["values"]), variant
    history = sweep.runs.client.get_metric_history
    for metric in ("train/loss", "distance/all"):
        one, other = (
            [(each.step, each.value) for each in history(run.info.run_id, metric)]
            for run in (sweep.runs.trials[KILLED], sweep.runs.trials[SAME])
        )
        assert sorted(one) == sorted(other)


def test_checkpoints_are_deleted_when_their_trial_ends(sweep):
    assert set().union(*sweep.checkpoints) >= {SAME, KILLED, BEST}
    assert all(len(each) <= 2 for each in sweep.checkpoints), "one under way, one that has ended"
    assert list((sweep.root / "sweeps" / NAME / "checkpoints").glob("*")) == []


# Export.


def scores(values):
    return {
        name: value
        for name, value in values.items()
        if name.startswith(("task/", "general/", "forgetting/"))
    }


@pytest.fixture
def run_command(sweep, monkeypatch, capsys):
    return lambda *words: command(monkeypatch, capsys, sweep.root, *words)


@pytest.fixture(scope="module")
def measure(sweep):
    """``measure(folder)``: the scores of a model directory, as anyone can get them."""
    config = load(sweep.file)
    suite = Suite(config.evaluation, AutoTokenizer.from_pretrained(config.model.name))

    def score(folder, base=None):
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        return suite.score(model, Ranks(), base)

    base = score(config.model.name)
    return lambda folder: metric_values(score(folder, base), base)


def wanted(sweep):
    """What to export: the front, and what else can be made of the weights there."""
    made = {(BEST, variant) for variant in (None, *MADE)}
    return sorted({(p["trial"], p["variant"]) for p in members(sweep)} | made, key=str)


def test_every_front_point_and_variant_scores_the_same_when_exported(
    sweep, run_command, measure, tmp_path
):
    torch.set_num_threads(1)
    for number, (trial, variant) in enumerate(wanted(sweep)):
        out = tmp_path / f"{number}"
        name = trial if variant is None else f"{trial}+{variant}"
        code, text, error = run_command(
            "export", NAME, "--select", f"trial:{name}", "--out", out, "--json"
        )
        assert code == 0, error
        point = points(sweep)[trial, variant]
        told = json.loads(text)
        assert (told["trial"], told["variant"]) == (trial, variant)
        assert told["values"] == point["values"]
        assert scores(measure(out)) == scores(point["values"]), name
        assert [path.name for path in tmp_path.glob(".*")] == []


def digests(folder: Path):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("variant", ["", "+alpha-0.8"])
def test_a_delta_is_smaller_by_the_frozen_share_and_gives_the_export_back(
    sweep, run_command, tiny_file, tmp_path, variant
):
    whole, delta, again = (tmp_path / name for name in ("whole", "delta", "again"))
    select = ("export", NAME, "--select", f"trial:{BEST}{variant}")
    assert run_command(*select, "--out", whole)[0] == 0
    assert run_command(*select, "--out", delta, "--delta")[0] == 0
    code, _, error = run_command("apply", delta, "--base", tiny_file["model"], "--out", again)
    assert code == 0, error
    assert digests(again) == digests(whole)
    run = sweep.runs.trials[BEST]
    trained = run.data.metrics["selection/trainable_fraction"]
    assert trained < 0.7
    shares = [
        sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        for folder in (delta, whole)
    ]
    assert shares[0] / shares[1] == pytest.approx(trained, abs=0.03)


def test_the_knee_can_be_exported_and_is_said(sweep, run_command, tmp_path):
    code, out, _ = run_command("export", NAME, "--select", "knee", "--out", tmp_path / "knee")
    assert code == 0
    variant = sweep.front["knee_variant"]
    label = sweep.front["knee"] + (f" {variant}" if variant else "")
    assert out.startswith(f"{tmp_path / 'knee'}: {label} (")
    assert f"task/score {points(sweep)[sweep.front['knee'], variant]['values']['task/score']:.4g}"
    assert (tmp_path / "knee" / "tokenizer.json").is_file()


def refused(run_command, *words):
    code, out, error = run_command("export", *words)
    assert (code, out) == (2, ""), error
    assert "Traceback" not in error
    return error


def test_what_cannot_be_exported_is_refused_with_its_reason(sweep, run_command, tmp_path):
    out = tmp_path / "out"
    rest = ("--out", out)
    assert "no sweep of this name" in refused(run_command, "other", "--select", "knee", *rest)
    error = refused(run_command, NAME, "--select", f"trial:{SAME}", *rest)
    assert f"the weights of {SAME} are not kept; on the front are {BEST}" in error
    error = refused(run_command, NAME, "--select", f"trial:{SAME}+{MADE[0]}", *rest)
    assert f"the weights of {SAME} {MADE[0]} are not kept" in error
    error = refused(run_command, NAME, "--select", f"trial:{BEST}+alpha-0.7", *rest)
    assert f"there is no complete trial '{BEST}+alpha-0.7'; did you mean" in error
    assert "must be knee" in refused(run_command, NAME, "--select", "the best", *rest)
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("precious")
    error = refused(run_command, NAME, "--select", "knee", *rest)
    assert "--out: exists already" in error


@pytest.fixture
def copied(sweep, tmp_path):
    """A storage root of which parts may be spoiled; MLflow's store is the sweep's own."""
    root = tmp_path / "home"
    shutil.copytree(sweep.root / "sweeps", root / "sweeps")
    return root


def test_another_base_is_refused(sweep, copied, tiny_file, tiny_models, monkeypatch, capsys):
    file = copied / "sweeps" / NAME / "config.yaml"
    file.write_text(file.read_text().replace(tiny_file["model"], tiny_models["tied"]))
    uri = ("--tracking-uri", f"sqlite:///{sweep.root}/mlflow.db")
    words = ("export", NAME, "--select", f"trial:{BEST}", "--out", copied / "out", *uri)
    code, _, error = command(monkeypatch, capsys, copied, *words)
    assert code == 2
    assert "model.name: is another base model than the one that was trained" in error
    assert not (copied / "out").exists()


def test_damaged_weights_are_refused(sweep, copied, monkeypatch, capsys):
    (file,) = (copied / "sweeps" / NAME / "weights" / BEST / "final").glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    uri = ("--tracking-uri", f"sqlite:///{sweep.root}/mlflow.db")
    words = ("export", NAME, "--select", f"trial:{BEST}", "--out", copied / "out", *uri)
    code, _, error = command(monkeypatch, capsys, copied, *words)
    assert code == 2
    assert f"{file.name} is damaged: its checksum is not the manifest's" in error
    assert [path.name for path in copied.iterdir()] == ["sweeps"] or not (copied / "out").exists()


def test_front_json_names_the_objectives_and_the_reference(sweep):
    assert sweep.front["objectives"] == OBJECTIVES
    assert sweep.front["reference_point"] == {"task/score": -6.0, "forgetting/mean": 0.5}
