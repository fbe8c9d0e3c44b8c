"""More points from one trained model: which, how they are made, and that nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_cases import TIMED

from hft_ray.artifacts import ArtifactError, DiskBudget, size_of
from hft_ray.config import Model, Selection, Variants
from hft_ray.ranks import Ranks
from hft_ray.selection import draw
from hft_ray.training import Workspace
from hft_ray.training.base_snapshot import BaseSnapshot
from hft_ray.training.intermediate_models import IntermediateModels
from hft_ray.training.kept import bytes_to_keep, keep, kept_names, put_kept, read_kept
from hft_ray.training.models import load_model
from hft_ray.training.variant_builder import RunArtifacts, reset_selection
from hft_ray.weight_space import average_shares, depth_shares
from hft_ray.weights import average

TWO = {"gain": "max", "lost": "min"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("variants"), Ranks(), torch.device("cpu"))


@pytest.fixture(scope="module")
def catalog(workspace, tiny_models):
    return workspace.catalog(Model(name=tiny_models["untied"]))


@pytest.mark.parametrize("granularity", ["model", "layer", "category"])
def test_the_half_that_is_reset_is_some_and_not_all_of_what_was_trained(catalog, granularity):
    """With four layers, two drawn are in one case of six the two that another seed draws."""
    for seed in range(60):
        selection = Selection(granularity=granularity, seed=seed)
        trained = draw(catalog, selection, 0)
        half = reset_selection(selection, catalog, trained.parameters)
        assert (half.ratio, half.granularity) == (0.5, granularity)
        back = draw(catalog, half, 0)
        assert back.hash != trained.hash
        block = {
            name for unit in trained.units if unit.layer is not None for name in unit.parameters
        }
        assert set() < block & set(back.parameters) < block
        assert all(unit.layer is not None for unit in back.units)
        assert half == reset_selection(selection, catalog, sorted(trained.parameters))


def test_a_half_of_one_unit_is_all_or_nothing(catalog):
    selection = Selection(granularity="layer", ratio=0.25)
    trained = draw(catalog, selection, 0).parameters
    assert reset_selection(selection, catalog, trained).seed == 1_000_003


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_blend_is_the_average_of_the_two_models_to_the_bit(
    workspace, catalog, tiny_models, tmp_path, dtype
):
    base = Model(name=tiny_models["untied"])
    model = load_model(base, workspace.source(base), dtype)
    names = draw(catalog, Selection(), 0).parameters
    snapshot = BaseSnapshot(model, catalog, Ranks())
    snapshot.remember(names)
    generator = torch.Generator().manual_seed(1)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in names:
            noise = torch.randn(parameters[name].shape, generator=generator)
            parameters[name].add_((0.05 * noise).to(dtype))
    model.save_pretrained(tmp_path / "tuned")
    tuned = snapshot.tuned()
    for number, (a, b) in enumerate([(0.3, 0), (0.59375, 0), (1, 0), (0.9, -0.7), (0.1, 0.8)]):
        shares = depth_shares(a, b, catalog.depths) if b else average_shares(a)
        snapshot.blend(tuned, shares, names)
        average(tmp_path / "tuned", Path(base.name), a, tmp_path / f"{number}", b)
        for name, value in load_file(tmp_path / f"{number}" / "model.safetensors").items():
            assert value.dtype == dtype
            assert torch.equal(value, parameters[name]), name
    snapshot.put_back(names)
    fresh = load_model(base, workspace.source(base), dtype)
    assert all(torch.equal(x, parameters[name]) for name, x in fresh.named_parameters())


# What is kept.


@pytest.fixture
def small():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(300, 90), torch.nn.Linear(90, 40)).bfloat16()


def test_kept_weights_come_back_to_the_bit(small, tmp_path):
    names = ["0.weight", "1.bias"]
    keep(tmp_path / "t" / "final", small, names, "hash", Ranks())
    kept = read_kept(tmp_path / "t" / "final")
    assert (kept.base, kept.dtype) == ("hash", "bfloat16")
    assert sorted(kept_names(tmp_path / "t" / "final", kept)) == names
    other = torch.nn.Sequential(torch.nn.Linear(300, 90), torch.nn.Linear(90, 40)).bfloat16()
    before = {name: value.clone() for name, value in other.state_dict().items()}
    put_kept(other, tmp_path / "t" / "final", kept)
    for name, value in other.state_dict().items():
        assert torch.equal(value, (small.state_dict() if name in names else before)[name]), name


def test_the_bytes_that_are_asked_for_are_enough_and_not_many_more(small, tmp_path):
    for names in (["1.bias"], ["0.weight"], [name for name, _ in small.named_parameters()]):
        keep(tmp_path / "t" / "x", small, names, "0" * 64, Ranks())
        asked, taken = bytes_to_keep(small, names), size_of(tmp_path / "t" / "x")
        assert taken <= asked <= taken + 2048


def test_what_a_killed_process_left_is_replaced(small, tmp_path):
    folder = tmp_path / "t" / "final"
    (tmp_path / "t" / ".partial-abc").mkdir(parents=True)
    (tmp_path / "t" / ".partial-abc" / "state-00000.safetensors").write_bytes(b"half")
    for names in (["0.weight"], ["1.weight"]):
        keep(folder, small, names, "hash", Ranks())
    assert kept_names(folder, read_kept(folder)) == ["1.weight"]
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["final"]


@pytest.mark.parametrize("damage", ["cut", "bit", "lost", "manifest", "no manifest"])
def test_damaged_kept_weights_are_refused(small, tmp_path, damage):
    keep(tmp_path / "final", small, ["0.weight"], "hash", Ranks())
    file, manifest = tmp_path / "final" / "state-00000.safetensors", tmp_path / "final/kept.json"
    content = file.read_bytes()
    match damage:
        case "cut":
            file.write_bytes(content[:-1])
        case "bit":
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "lost":
            file.unlink()
        case "manifest":
            manifest.write_text(json.dumps({"format": 2, "base": "hash", "files": {}}))
        case "no manifest":
            manifest.unlink()
    with pytest.raises(ArtifactError, match="final"):
        read_kept(tmp_path / "final")


class Trial:
    """The intermediate models of one trial, of which a folder takes about ``size`` bytes."""

    def __init__(self, root, name, model, budget, steps=9):
        self.names = [name for name, _ in model.named_parameters()]
        self.size = bytes_to_keep(model, self.names)
        self.root, self.folder = root, root / name
        self.budget = DiskBudget(root, int(budget * self.size), 1)
        wanted = RunArtifacts(self.folder, TWO, Variants(steps=steps), self.budget)
        self.models = IntermediateModels(wanted, model, "hash", Ranks())

    def take(self, step, gain, lost):
        self.models.take(step, {"gain": gain, "lost": lost}, self.names)
        return self.there()

    def take_last(self, gain, lost):
        self.models.take_last({"gain": gain, "lost": lost}, self.names)
        return self.there()

    def there(self):
        assert size_of(self.root) <= self.budget.bytes
        return sorted(path.name for path in self.folder.glob("*"))


def test_what_a_later_model_dominates_is_deleted_at_once(small, tmp_path):
    trial = Trial(tmp_path / "weights", "t0", small, budget=9)
    assert trial.take(1, 0.1, 0.1) == ["step-1"]
    assert trial.take(2, 0.2, 0.2) == ["step-1", "step-2"]
    assert trial.take(3, 0.2, 0.3) == ["step-1", "step-2"], "dominated itself"
    assert trial.take(4, 0.3, 0.15) == ["step-1", "step-4"]
    assert trial.take_last(0.2, 0.4) == ["final", "step-1", "step-4"], "its averages may be better"
    assert [each.variant for each in trial.models.found] == ["step-1", "step-2", "step-4"]


def test_of_many_evaluations_a_few_are_kept(small, tmp_path):
    trial = Trial(tmp_path / "weights", "t0", small, budget=99, steps=3)
    for step in range(1, 40):
        there = trial.take(step, step / 40, (step / 40) ** 2)
        assert len(there) == min(step, 3)
        # The ends, and one between them.
        assert {"step-1", f"step-{step}"} <= set(there)
        assert sorted(each.variant for each in trial.models.found) == there
    none = Trial(tmp_path / "none", "t0", small, budget=99, steps=0)
    assert none.take(1, 0.5, 0.5) == []
    assert none.models.found == []


def test_the_last_model_has_the_first_claim_on_the_budget(small, tmp_path):
    trial = Trial(tmp_path / "weights", "t0", small, budget=3.2)
    assert trial.take(1, 0.1, 0.1) == ["step-1"]
    assert trial.take(2, 0.2, 0.2) == ["step-1", "step-2"]
    assert trial.take(3, 0.3, 0.3) == ["step-1", "step-2"], "room for the last one is left"
    other = Trial(tmp_path / "weights", "t1", small, budget=3.2)
    assert other.take(1, 0.1, 0.1) == []
    assert other.take_last(0.1, 0.1) == ["final"]
    assert trial.take_last(0.4, 0.4) == ["final", "step-2"], "one of its own gives way"
    third = Trial(tmp_path / "weights", "t2", small, budget=3.2)
    assert third.take_last(0.1, 0.1) == []


# Whole runs.

CASES = ["variants-0", "variants-3", "variants-bf16", "variants-again"]
MADE = ["alpha-0.3", "alpha-0.7", "reset-0.5"]


def found(runs, case):
    return {each["variant"]: each for each in runs.outcome(case)["variants"]}


@pytest.mark.parametrize("case", CASES)
def test_after_the_variants_the_model_is_the_trained_one_to_the_bit(runs, case):
    after = load_file(runs.folder / f"{case}-after" / "model.safetensors")
    trained = runs.weights(case)
    assert after.keys() == trained.keys()
    assert all(torch.equal(value, trained[name]) for name, value in after.items())


@pytest.mark.parametrize("case", ["lora-0", "half-2"])
def test_variants_are_scored_without_an_engine(engines, case):
    assert engines.codes("variants") == [0], engines.log("variants")
    found = engines.result("variants")[case]
    assert found["made"][-2:] == ["alpha-0.5", "reset-0.5"]
    for each in found["scored"][-2:]:
        # Of what trains nothing is left: the model and what is below its head are alive.
        assert (each["alive"], each["gradients"]) == (2, 0)


@pytest.mark.parametrize("case", ["lora-0", "half-3"])
def test_variants_take_no_more_memory_than_training(engines, case):
    assert engines.codes("variant-peaks") == [0], engines.log("variant-peaks")
    found = engines.result("variant-peaks")[case]
    assert found["made"] == 4
    assert found["variants"] <= found["training"]


@pytest.mark.parametrize("case", CASES)
def test_variants_are_what_their_names_say(runs, case):
    variants = found(runs, case)
    assert list(variants) == [*(v for v in variants if v.startswith("step-")), *MADE]
    assert set(variants) - set(MADE) <= {"step-4", "step-8"}
    values = runs.outcome(case)["values"]
    for name in MADE:
        assert variants[name]["step"] == 12
        made = variants[name]["values"]
        assert made.keys() <= values.keys()
        assert {key for key in values if "/" in key} - made.keys() <= {
            key for key in values if key.startswith("distance/")
        }
        # What is no score is the trained model's: a sweep may have it as an objective.
        for key in ("cost/peak_memory_bytes", "train/loss", "selection/touched_fraction"):
            assert made[key] == values[key]
        assert made["cost/device_seconds"] > values["cost/device_seconds"]
    # On the way from the base to the trained model, which knows the texts better.
    losses = [
        of["general/texts"]
        for of in (
            runs.outcome(case)["base"],
            variants["alpha-0.3"]["values"],
            variants["alpha-0.7"]["values"],
            values,
        )
    ]
    assert losses == sorted(losses, reverse=True)


def test_scores_of_variants_agree_across_stages_and_ranks(one_rank, two_ranks):
    expected = found(one_rank, "variants-0")
    assert "step-8" in expected
    for runs in (one_rank, two_ranks):
        for case in ("variants-0", "variants-3", "variants-again"):
            assert found(runs, case).keys() == expected.keys()
            for name, each in found(runs, case).items():
                for metric in ("general/texts", "general/questions", "task/answers"):
                    value = expected[name]["values"][metric]
                    assert each["values"][metric] == pytest.approx(value, rel=1e-4), (case, name)


def test_a_resumed_run_has_the_same_variants_to_the_bit(runs):
    again, straight = found(runs, "variants-again"), found(runs, "variants-0")
    assert again.keys() == straight.keys()
    for name in straight:
        for metric, value in straight[name]["values"].items():
            if not metric.startswith(TIMED):
                assert again[name]["values"][metric] == value, (name, metric)


@pytest.mark.parametrize("case", CASES)
def test_the_kept_weights_are_the_trained_ones(runs, workspace, tiny_models, case):
    folder = runs.folder / f"{case}-kept"
    steps = {name for name in found(runs, case) if name.startswith("step-")}
    assert {path.name for path in folder.iterdir()} <= {"final", *steps}
    kept = read_kept(folder / "final")
    base = Model(name=tiny_models["untied"])
    model = load_model(base, workspace.source(base), getattr(torch, kept.dtype))
    put_kept(model, folder / "final", kept)
    trained = runs.weights(case)
    assert all(torch.equal(x, trained[name]) for name, x in model.named_parameters())
    # Of two draws of a half not everything: what no draw has trained is not kept.
    assert len(kept_names(folder / "final", kept)) < len(trained)
