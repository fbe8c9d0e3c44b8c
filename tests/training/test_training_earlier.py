"""Averages with an earlier checkpoint while training goes on (SFA)."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn
from training_cases import STAGED, UNASKED, merged, start

from hft_ray.config import Config, ConfigError
from hft_ray.config.keys import with_settings
from hft_ray.config.load import validate
from hft_ray.data import batch_indices, collate
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace
from hft_ray.training.earlier_checkpoint import EarlierCheckpoint
from hft_ray.training.loss import answer_loss
from hft_ray.training.models import load_model
from hft_ray.training.stage import Stage

BETA, STEPS = 0.3, 6
SFA = {
    "selection.ratio": 1.0,
    "training.average": "sfa",
    "training.sfa_weight": BETA,
    "training.sfa_interval": 0.3,  # after steps 2, 4 and 6
    "training.steps": STEPS,
    "training.max_grad_norm": 0.5,
}


def cases(file):
    saved = {"training.checkpoint_every": 2, "stop_at": 5, "again": True}
    changes = {f"sfa-{stage}": SFA | {"training.zero_stage": stage} for stage in (0, 2)}
    half = {"selection.ratio": 0.5, "selection.reselect": 3, "training.zero_stage": 2}
    bf16 = {"training.precision": "bf16", "training.zero_stage": 1}
    lean = {"training.optimizer_states": "bf16", "training.adam_betas": [0.9, 0.99]}
    staged = {"training.average": "sfa", "training.steps": 4, "training.zero_stage": 0}
    resumed = {
        "rounds": SFA | half | {"selection.on_deselect": "reset"},
        "bf16": SFA | bf16,
        "lean": SFA | lean | bf16 | {"training.zero_stage": 0},
        "stages": STAGED | staged,
    }
    for name, each in resumed.items():
        changes[name] = each
        later = {"training.checkpoint_every": 6, "stop_at": 7} if name == "stages" else {}
        changes[f"{name}-again"] = each | saved | later
    for name in ("bf16", "lean"):
        changes[f"{name}-once"] = resumed[name] | {"training.sfa_interval": 1.0}
        plain = changes[f"{name}-once"] | {"training.average": "none"}
        changes[f"{name}-never"] = {
            key: x for key, x in plain.items() if not key.startswith("training.sfa")
        }
    return {name: merged(file, UNASKED | each) for name, each in changes.items()}


@pytest.fixture(scope="module")
def runs(jobs, tiny_file, tmp_path_factory):
    torch.set_num_threads(1)
    return start(jobs, tmp_path_factory.mktemp("sfa"), cases(tiny_file), ranks=2)


def by_torch(runs, case):
    """Train as the case does, by torch alone."""
    config, root = Config.model_validate(runs.files[case]), runs.folder / "root"
    workspace, training = Workspace(root, Ranks(), torch.device("cpu")), config.training
    (data,) = workspace.training_sets(config.model, config.training_data)
    model = load_model(config.model, workspace.source(config.model), torch.float32)
    before = [each.detach().clone() for each in model.parameters()]
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
        if step % 2:
            with torch.no_grad():
                for theta, theta_o in zip(model.parameters(), before, strict=True):
                    theta.copy_((1 - BETA) * theta + BETA * theta_o)
    return model


@pytest.mark.parametrize("stage", [0, 2])
def test_a_run_averages_and_goes_on_with_adams_moments(runs, stage):
    expected, found = by_torch(runs, f"sfa-{stage}"), runs.weights(f"sfa-{stage}")
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(found[name], parameter.detach(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", ["rounds", "bf16", "lean", "stages"])
def test_a_resume_is_exact(runs, case):
    whole, again = runs.weights(case), runs.weights(f"{case}-again")
    assert all(torch.equal(each, again[name]) for name, each in whole.items())


@pytest.mark.parametrize("case", ["bf16", "lean"])
def test_once_at_the_end_it_is_the_average_with_the_base(runs, base_weights, case):
    once, never = runs.weights(f"{case}-once"), runs.weights(f"{case}-never")
    for name, found in once.items():
        expected = (1 - BETA) * never[name].float() + BETA * base_weights[name].float()
        # What is compared is rounded to the 8 bits of bf16; its weights are some hundredths.
        torch.testing.assert_close(found.float(), expected, rtol=2**-7, atol=1e-4)
    assert any(not torch.equal(found, never[name]) for name, found in once.items())


def test_what_left_the_selection_has_the_bases_weights(runs, base_weights):
    found = runs.weights("rounds")
    same = [name for name, x in found.items() if torch.equal(x, base_weights[name])]
    assert 0 < len(same) < len(found)


def small(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2)).to(dtype)


def test_an_average_is_between_the_stages_beginning_and_now():
    model = small()
    earlier = EarlierCheckpoint(model, 0.25, 0.5, Ranks())
    for _ in range(2):  # two stages
        earlier.renew()
        earlier.follow(["0.weight"])
        theta_o = model[0].weight.detach().clone()
        with torch.no_grad():
            model[0].weight += 1.0
        earlier.follow(["0.weight"])  # drawn again: the first values stay
        found = earlier.averaged("0.weight", model[0].weight.data)
        torch.testing.assert_close(found, theta_o + 0.75)


@pytest.mark.parametrize(
    ("interval", "steps", "due"),
    [
        (0.5, 8, [4, 8]),
        (0.3, 10, [4, 7, 10]),
        (0.25, 101, [26, 51, 76, 101]),
        (0.25, 98, [25, 49, 74, 98]),
        (1.0, 5, [5]),
        (0.01, 3, [1, 2, 3]),
    ],
)
def test_it_is_due_within_a_stage_and_at_its_end(interval, steps, due):
    stage = Stage("sft", None, 7, steps, Fraction(1), None)
    earlier = EarlierCheckpoint(small(), 0.5, interval, Ranks())
    assert [n for n in range(1, steps + 1) if earlier.due(stage, 7 + n)] == due


def test_under_zero_3_it_is_refused(tiny_file):
    with pytest.raises(ValueError, match="average sfa needs a zero_stage of 0, 1 or 2"):
        with_settings(Config.model_validate(tiny_file), {**SFA, "training.zero_stage": 3})


def test_its_settings_are_refused_without_it(tiny_file):
    file = merged(tiny_file, {"training.sfa_weight": 0.5})
    with pytest.raises(ConfigError, match=r"is read with training.average: sfa alone"):
        validate(file, "FILE")
