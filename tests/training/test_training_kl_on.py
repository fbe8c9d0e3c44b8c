"""Which trained tokens are held to the base: all, the task's own, or those of general data."""

from __future__ import annotations

import pytest
import torch
from training_cases import UNASKED, merged, start

from hft_ray.config import Config, ConfigError
from hft_ray.config.load import validate
from hft_ray.data import collate
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace
from hft_ray.training.checks import check_settings
from hft_ray.training.methods import make_stages
from hft_ray.training.models import load_model

LAMBDA = 0.5
GENERAL = "package:hft_ray/demo/data/general.jsonl"
REPLAY = UNASKED | {
    "data.replay": {"train": GENERAL, "share": 0.5},
    "training.kl_to_base": LAMBDA,
    "training.kl_top": 10**6,
    "training.steps": 4,
}
PARTS = ("all", "task", "general")


def cases(file):
    changes = {on: REPLAY | {"training.kl_on": on, "training.zero_stage": 0} for on in PARTS}
    micro = {"training.micro_batch_size": 2, "data.packing": False, "training.zero_stage": 2}
    changes["general-2"] = changes["general"] | micro
    saved = {"training.checkpoint_every": 2, "stop_at": 3, "again": True}
    changes["again"] = changes["general"] | saved
    return {name: merged(file, each) for name, each in changes.items()}


@pytest.fixture(scope="module")
def runs(jobs, tiny_file, tmp_path_factory):
    torch.set_num_threads(1)
    return start(jobs, tmp_path_factory.mktemp("on"), cases(tiny_file), ranks=2)


def test_losses_agree_across_stages_and_passes(runs):
    assert runs.losses("general-2") == pytest.approx(runs.losses("general"), rel=1e-4)
    ends = [runs.weights(on)["lm_head.weight"] for on in PARTS]
    assert not any(torch.equal(ends[n], ends[n - 1]) for n in range(3))


def test_a_resume_is_exact(runs):
    whole, again = runs.weights("general"), runs.weights("again")
    assert all(torch.equal(each, again[name]) for name, each in whole.items())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("root"), Ranks(), torch.device("cpu"))


def moved(config, workspace):
    """Return the base, and it with other weights."""
    base, model = (
        load_model(config.model, workspace.source(config.model), torch.float32) for _ in range(2)
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return base, model


def loss_of(file, workspace, on, indices, packed):
    """Return value and gradient of the head of the summed loss of some examples."""
    changes = {"training.kl_on": on} if on else {"training.kl_to_base": 0.0}
    config = Config.model_validate(merged(file, REPLAY | changes))
    (stage,) = make_stages(config, workspace)
    base, model = moved(config, workspace)
    stage.objective.begin(base, Ranks(), "base", packed=False)
    loss = stage.objective.loss(model, stage.objective.batch(indices, packed))
    loss.value.backward()
    return loss.value.detach(), model.lm_head.weight.grad, stage


def test_the_penalty_is_on_the_part_that_is_asked_for(tiny_file, workspace):
    indices = list(range(8))
    found = {on: loss_of(tiny_file, workspace, on, indices, packed=False) for on in (None, *PARTS)}
    plain, gradient, stage = found[None]
    data = stage.objective.data
    base, model = (
        each.double() for each in moved(Config.model_validate(merged(tiny_file, REPLAY)), workspace)
    )
    sums = {"task": 0.0, "general": 0.0}
    for index in indices:
        batch = collate([data[index]], 0)
        trained = batch["labels"][0, 1:] != -100
        with torch.no_grad():
            p, q = (
                each(batch["input_ids"]).logits[0, :-1][trained].log_softmax(-1)
                for each in (base, model)
            )
        sums["general" if data.members[index] else "task"] += float((p.exp() * (p - q)).sum())
    assert min(sums.values()) > 0
    for on in PARTS:
        expected = LAMBDA * (sum(sums.values()) if on == "all" else sums[on])
        value, _, _ = found[on]
        assert float(value - plain) == pytest.approx(expected, rel=1e-4), on
    slopes = {on: found[on][1] - gradient for on in PARTS}
    torch.testing.assert_close(
        slopes["all"], slopes["task"] + slopes["general"], rtol=1e-4, atol=1e-5
    )
    assert all(slopes[on].abs().max() > 1e-3 for on in PARTS)


@pytest.mark.parametrize("on", ["general", "task"])
def test_the_base_is_asked_about_that_part_alone(tiny_file, tmp_path, on):
    workspace = Workspace(tmp_path, Ranks(), torch.device("cpu"))
    loss_of(tiny_file, workspace, on, [0, 1], packed=False)
    lines = (workspace.cache / "reference" / "computed.jsonl").read_text().splitlines()
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("search", "wrong"),
    [
        # A trial with a share of 0 would have a penalty on nothing.
        ({"space": {"data.replay.share": [0.0, 0.2]}}, True),
        ({"space": {"data.replay.share": [0.1, 0.2]}}, False),
        # An arm without the penalty needs no general data.
        (
            {
                "space": {"training.learning_rate": [1e-3, 1e-4]},
                "arms": {
                    "full": {},
                    "general": {"set": {"training.kl_to_base": 0.1, "data.replay.share": 0.1}},
                },
            },
            False,
        ),
    ],
)
def test_every_trial_with_the_penalty_has_general_data(tiny_file, search, wrong):
    changes = {"data.replay": {"train": GENERAL, "share": 0.0}, "training.kl_on": "general"}
    if "arms" in search:
        changes["training.kl_to_base"] = 0.0
    file = merged(tiny_file, REPLAY | changes) | {"search": {"trials": 2, **search}}
    messages = [each.message for each in check_settings(validate(file, "FILE"))]
    assert any("trains on no general data" in message for message in messages) == wrong, messages


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data.replay": {"train": GENERAL, "share": 0.0}}, "trains on no general data"),
        ({"training.kl_to_base": 0.0, "training.kl_top": 64}, "kl_to_base: above 0 alone"),
    ],
)
def test_general_needs_general_data_and_a_penalty(tiny_file, changes, told):
    file = merged(tiny_file, REPLAY | {"training.kl_on": "general"} | changes)
    try:
        messages = [each.message for each in check_settings(validate(file, "FILE"))]
    except ConfigError as error:
        messages = [each.message for each in error.problems]
    assert any(told in message for message in messages), messages
