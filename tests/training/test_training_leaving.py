"""What leaves the choice, what is measured of what moved, and draws that depend on it."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from hft_ray.config import Model, Selection
from hft_ray.ranks import Ranks
from hft_ray.selection import FrozenChangedError, draw
from hft_ray.selection.checksums import checksum
from hft_ray.training import Workspace
from hft_ray.training.audit import Audit

STAGES = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def catalog(one_rank, tiny_models):
    workspace = Workspace(one_rank.folder, Ranks(), torch.device("cpu"))
    return workspace.catalog(Model(name=tiny_models["untied"]))


@pytest.mark.parametrize("case", [*(f"zero{stage}-leaving" for stage in STAGES), "bf16-leaving"])
def test_what_left_is_the_base_again_to_the_bit(runs, base_weights, catalog, case):
    rounds = runs.outcome(case)["selection"]
    assert len(rounds) == 3
    last = draw(catalog, Selection(), 2)
    assert rounds[-1]["hash"] == last.hash
    weights = runs.weights(case)
    before = {name for number in (0, 1) for name in draw(catalog, Selection(), number).parameters}
    left = before - set(last.parameters)
    assert left
    for name, base in base_weights.items():
        same = torch.equal(weights[name].float(), base.to(weights[name].dtype).float())
        assert same == (name not in last.parameters), name


def test_what_leaves_keeps_its_value_by_default(runs, base_weights, catalog):
    weights = runs.weights("zero2")
    first, second = (set(draw(catalog, Selection(), number).parameters) for number in (0, 1))
    for name in first - second:
        assert not torch.equal(weights[name], base_weights[name]), name


@pytest.mark.parametrize("stage", STAGES)
def test_distances_are_those_of_the_weights(runs, base_weights, catalog, stage):
    case = f"zero{stage}-leaving"
    weights = runs.weights(case)
    told = runs.outcome(case)["selection"][-1]["distances"]
    assert told == {
        key.removeprefix("distance/"): value
        for key, value in runs.outcome(case)["values"].items()
        if key.startswith("distance/")
    }
    parts = {unit.category for unit in catalog.units}
    assert set(told) == parts | {"all"}
    for part in told:
        names = [
            name
            for unit in catalog.units
            if part in ("all", unit.category)
            for name in unit.parameters
        ]
        moved = math.sqrt(sum(float((weights[n] - base_weights[n]).norm()) ** 2 for n in names))
        whole = math.sqrt(sum(float(base_weights[n].norm()) ** 2 for n in names))
        assert told[part] == pytest.approx(moved / whole, rel=1e-4), part


@pytest.mark.parametrize("strategy", ["drift", "gradient"])
def test_measured_draws_agree_across_stages_and_ranks(one_rank, two_ranks, strategy):
    cases = [f"zero{s}-{strategy}" for s in STAGES if strategy == "drift" or s < 3]
    hashes = [
        [each["hash"] for each in runs.outcome(case)["selection"]]
        for runs in (one_rank, two_ranks)
        for case in cases
    ]
    assert all(each == hashes[0] for each in hashes), hashes
    # The measures decide: the seed alone draws others.
    random = [each["hash"] for each in one_rank.outcome("zero2-leaving")["selection"]]
    assert hashes[0][1:] != random[1:]


def test_drift_keeps_away_from_what_has_moved(one_rank):
    """At ratio 1/2 what was trained in the first round has moved: the second trains the rest."""
    moved = one_rank.outcome("zero2-drift")["selection"]
    still = one_rank.outcome("zero2-leaving")["selection"]
    assert moved[1]["touched_fraction"] > still[1]["touched_fraction"]
    assert moved[1]["touched_fraction"] > 0.9


def test_the_gradient_strategy_trains_what_has_the_largest_gradient(one_rank, catalog, tiny_file):
    from transformers import AutoModelForCausalLM

    from hft_ray.config import Config
    from hft_ray.data import batch_indices, collate
    from hft_ray.training.gradient_norms import gradient_norms

    config = Config.model_validate(tiny_file)
    workspace = Workspace(one_rank.folder, Ranks(), torch.device("cpu"))
    model = AutoModelForCausalLM.from_pretrained(config.model.name)
    (data,) = workspace.training_sets(config.model, config.training_data)
    one, other = (collate([data[index]], 0) for index in batch_indices(0, len(data), 2, 0))
    expected = [square_norms(model, catalog.block, batch) for batch in (one, other)]
    model.train()
    losses = [partial(mean_loss, batch) for batch in (one, other)]
    found = gradient_norms(model, catalog.block, losses, Ranks())
    for name, norm in found.items():
        mean = (expected[0][name] + expected[1][name]) / 2
        assert norm == pytest.approx(math.sqrt(mean), rel=1e-5), name
    assert model.training
    assert all(each.grad is None and each.requires_grad for each in model.parameters())


def mean_loss(batch, model):
    from hft_ray.training.loss import answer_loss

    return answer_loss(model, batch) / int((batch["labels"][:, 1:] != -100).sum())


def square_norms(model, units, batch):
    mean_loss(batch, model).backward()
    squares = {
        unit.name: sum(float(model.get_parameter(n).grad.norm()) ** 2 for n in unit.parameters)
        for unit in units
    }
    model.zero_grad()
    return squares


def test_a_rewarmed_round_starts_slower(one_rank):
    plain, rewarmed = one_rank.losses("every-3"), one_rank.losses("rewarmed")
    assert plain[:4] == rewarmed[:4]
    assert plain[4:] != rewarmed[4:]


def test_without_the_audit_nothing_is_measured_and_nothing_else_changes(one_rank):
    values = one_rank.outcome("unaudited")["values"]
    assert not any(name.startswith("distance/") for name in values)
    assert one_rank.losses("unaudited") == one_rank.losses("every-3")


def test_the_audit_finds_a_frozen_parameter_that_changed():
    model = nn.Sequential(nn.Linear(70, 70), nn.Linear(3, 3))
    audit = Audit(model, Ranks())
    audit.start(["0.weight"])
    with torch.no_grad():
        model[0].weight += 1
    audit.prove()
    with torch.no_grad():
        model[1].weight[2, 1] = torch.nextafter(model[1].weight[2, 1], torch.tensor(9.0))
    with pytest.raises(FrozenChangedError, match=r"1 frozen parameters changed .*: 1\.weight"):
        audit.prove()


def test_the_audit_follows_the_draws():
    """What was trained in one round and is frozen in the next is noted anew, with its new value."""
    model = nn.Linear(2, 2)
    audit = Audit(model, Ranks())
    audit.start(["weight"])
    with torch.no_grad():
        model.weight += 1
    audit.prove()
    audit.start(["bias"])
    with torch.no_grad():
        model.bias += 1
    audit.prove()
    with torch.no_grad():
        model.weight += 1
    with pytest.raises(FrozenChangedError, match="weight"):
        audit.prove()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 9000])
def test_a_checksum_sees_one_changed_bit_anywhere(dtype, size):
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(dtype)
    before = checksum(tensor)
    assert torch.equal(before, checksum(tensor.clone()))
    for place in {0, size // 2, size - 1} if size else ():
        changed = tensor.clone()
        changed[place] = -changed[place]
        assert not torch.equal(before, checksum(changed))
