"""The moving average of the weights: what it is, that runs give it, and that training goes on."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from training_cases import UNASKED, merged, start
from transformers import AutoModelForCausalLM

from hft_ray.config import Config
from hft_ray.config.keys import with_settings
from hft_ray.data import batch_indices, collate
from hft_ray.evaluation import metric_values
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace
from hft_ray.training.loss import answer_loss
from hft_ray.training.models import load_model
from hft_ray.training.moving_average import MovingAverage
from hft_ray.training.tensor_parts import joined
from hft_ray.training.weight_shares import KIND

DECAY, STEPS = 0.7, 6
EMA = {
    "selection.ratio": 1.0,
    "training.average": "ema",
    "training.ema_decay": DECAY,
    "training.steps": STEPS,
    "training.max_grad_norm": 0.5,
}


def cases(file):
    changes = {"plain": {key: x for key, x in EMA.items() if "average" not in key}}
    del changes["plain"]["training.ema_decay"]
    for stage in (0, 1, 2):
        changes[f"ema-{stage}"] = EMA | {"training.zero_stage": stage}
    saved = {"training.checkpoint_every": 2, "stop_at": 5, "again": True}
    rounds = {"selection.ratio": 0.5, "selection.reselect": 2, "training.zero_stage": 2}
    changes["rounds"] = EMA | rounds | {"selection.on_deselect": "reset"}
    changes["rounds-again"] = changes["rounds"] | saved
    changes["bf16"] = EMA | {"training.precision": "bf16", "training.zero_stage": 1}
    changes["bf16-again"] = changes["bf16"] | saved
    changes["lora"] = EMA | {"adapter.kind": "lora", "training.zero_stage": 1}
    changes["lora-again"] = changes["lora"] | saved
    found = {name: merged(file, UNASKED | each) for name, each in changes.items()}
    extras = {"extras": {"averages": [0.5]}, "evaluation.every": 3}
    return found | {"variants": merged(file, EMA | {"training.zero_stage": 2} | extras)}


@pytest.fixture(scope="module", params=[1, 2])
def runs(request, jobs, tiny_file, tmp_path_factory):
    # As in the runs: sums of floats hang on the number of threads.
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(f"average-{request.param}")
    return start(jobs, folder, cases(tiny_file), ranks=request.param)


def config_of(runs, case):
    file = {key: x for key, x in runs.files[case].items() if key != "extras"}
    return Config.model_validate(file)


def by_torch(runs, case):
    """Train as the case does, by torch alone; return the averaged model."""
    config = config_of(runs, case)
    workspace, training = (
        Workspace(runs.folder / "root", Ranks(), torch.device("cpu")),
        config.training,
    )
    (data,) = workspace.training_sets(config.model, config.training_data)
    model = load_model(config.model, workspace.source(config.model), torch.float32)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    average.update_parameters(model)  # the first one is taken as it is: the base
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, betas=training.adam_betas)
    for step in range(STEPS):
        indices = batch_indices(step, len(data), training.batch_size, training.seed)
        units = int(data.answer_tokens[indices].sum())
        optimizer.zero_grad()
        (answer_loss(model, collate([data[index] for index in indices], 2)) / units).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
        optimizer.step()
        average.update_parameters(model)
    return average.module, model


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_run_gives_the_average_of_its_weights(runs, stage):
    expected, last = by_torch(runs, f"ema-{stage}")
    found, apart = runs.weights(f"ema-{stage}"), 0.0
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(found[name], parameter.detach(), rtol=0, atol=2e-5)
        apart = max(apart, (last.get_parameter(name) - parameter).abs().max().item())
    assert apart > 1e-3


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_training_is_that_of_a_run_without_it(runs, stage):
    assert runs.losses(f"ema-{stage}") == pytest.approx(runs.losses("plain"), rel=1e-4)
    if stage == 0:
        assert runs.losses("ema-0") == runs.losses("plain")


def test_scores_are_those_of_the_average(runs):
    config = config_of(runs, "variants")
    workspace = Workspace(runs.folder / "root", Ranks(), torch.device("cpu"))
    model = AutoModelForCausalLM.from_pretrained(runs.folder / "variants", dtype=torch.float32)
    scores = workspace.suite(config.model, config.evaluation).score(model, Ranks())
    outcome = runs.outcome("variants")
    for name, value in metric_values(scores, None).items():
        assert outcome["values"][name] == value, name
    assert "alpha-0.5" in [each["variant"] for each in outcome["variants"]]


@pytest.mark.parametrize("case", ["rounds", "bf16", "lora"])
def test_a_resume_is_exact(runs, case):
    whole, again = runs.weights(case), runs.weights(f"{case}-again")
    assert all(torch.equal(each, again[name]) for name, each in whole.items())


def test_what_left_the_selection_has_the_bases_weights(runs, base_weights):
    found = runs.weights("rounds")
    same = [name for name, x in found.items() if torch.equal(x, base_weights[name])]
    assert 0 < len(same) < len(found)


def small(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2)).to(dtype)


def moved(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)


def test_the_average_is_torchs_and_is_taken_back_to_the_bit():
    model = small()
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    theirs.update_parameters(model)
    average = MovingAverage(model, 0.9, Ranks())
    average.follow(name for name, _ in model.named_parameters())
    for _ in range(4):
        moved(model)
        average.update()
        theirs.update_parameters(model)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    with average.in_place():
        for name, x in theirs.module.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], x, rtol=1e-6, atol=1e-7)
            assert not torch.equal(before[name], x)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_of_bf16_weights_it_is_held_in_fp32():
    model, exact = small(torch.bfloat16), None
    average = MovingAverage(model, 0.999, Ranks())
    average.follow(["0.weight"])
    exact = model[0].weight.double()
    with torch.no_grad():
        model[0].weight += 1.0
    now = model[0].weight.double()
    for _ in range(500):
        average.update()
        exact = 0.999 * exact + 0.001 * now
    (held,) = joined(average.parts()).values()
    torch.testing.assert_close(held.view(3, 5).double(), exact, rtol=1e-4, atol=1e-5)
    with average.in_place():
        assert torch.equal(model[0].weight.data, held.view(3, 5).bfloat16())


def test_shares_of_several_ranks_are_the_average_of_one():
    models = {size: small() for size in (1, 2, 4)}
    wholes = {}
    for size, model in models.items():
        shares = [MovingAverage(model, 0.5, Ranks(rank, size)) for rank in range(size)]
        for each in shares:
            each.follow(["0.bias", "1.bias"])  # three numbers, and two: fewer than ranks
        torch.manual_seed(3)
        moved(model)
        for each in shares:
            each.update()
        wholes[size] = joined(part for each in shares for part in each.parts())
    for whole in wholes.values():
        assert whole.keys() == {f"{KIND}/0.bias", f"{KIND}/1.bias"}
        assert all(torch.equal(x, wholes[1][name]) for name, x in whole.items())
    again = [MovingAverage(small(), 0.5, Ranks(rank, 2)) for rank in range(2)]
    for each in again:
        each.restore(wholes[4])
    restored = joined(part for each in again for part in each.parts())
    assert all(torch.equal(x, wholes[1][name]) for name, x in restored.items())


def test_under_zero_3_it_is_refused(tiny_file):
    with pytest.raises(ValueError, match="zero_stage of 0, 1 or 2"):
        with_settings(Config.model_validate(tiny_file), {**EMA, "training.zero_stage": 3})
