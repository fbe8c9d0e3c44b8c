"""A training that stops and goes on is the training that never stopped, to the bit."""

import pytest
import torch
from integration_cases import SELECTION, STEPS, StopAfter, half, losses, make_trainer, weights_of

from hft_ray.config import ConfigError
from hft_ray.integrations.transformers import HalfFineTuningCallback

SAVING = {"save_strategy": "steps", "save_steps": 1}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def whole(tiny_models, items, tmp_path_factory):
    """The uninterrupted training by moments and strategy: losses and weights."""
    kept = {}

    def make(moments, strategy):
        if (moments, strategy) not in kept:
            folder = tmp_path_factory.mktemp("whole")
            one = make_trainer(
                tiny_models["untied"], items, folder, half(moments, strategy=strategy)
            )
            one.train()
            kept[moments, strategy] = losses(one), weights_of(one.model)
        return kept[moments, strategy]

    return make


# Step 2 is the last of a round, step 3 in the middle of one, step 5 in that of the third.
@pytest.mark.parametrize(
    ("moments", "strategy", "step"),
    [
        ("reset", "random", 2),
        ("reset", "cyclic", 5),
        ("keep_selected", "random", 3),
        ("keep_all", "cyclic", 5),
    ],
)
def test_a_resumed_training_ends_like_one_that_never_stopped(
    trainer, whole, moments, strategy, step
):
    trainer(half(moments, strategy=strategy), StopAfter(step), **SAVING).train()
    resumed = trainer(half(moments, strategy=strategy), **SAVING)
    resumed.train(resume_from_checkpoint=True)
    expected, weights = whole(moments, strategy)
    assert losses(resumed) == expected
    assert same(weights_of(resumed.model), weights)
    logs = resumed.state.log_history[:STEPS]
    touched = [each["selection/touched_fraction"] for each in logs]
    assert touched == sorted(touched)
    assert len(set(touched)) == (3 if strategy == "random" else 2)


def test_callbacks_that_the_trainer_restores_itself_go_on_too(trainer, whole):
    trainer(half("keep_all"), StopAfter(3), **SAVING).train()
    resumed = trainer(half("keep_all"), **SAVING, restore_callback_states_from_checkpoint=True)
    resumed.train(resume_from_checkpoint=True)
    assert losses(resumed) == whole("keep_all", "random")[0]


@pytest.mark.parametrize("moments", ["reset", "keep_all"])
def test_the_same_trainer_goes_on_after_it_broke_off(trainer, whole, moments):
    one = trainer(half(moments), StopAfter(5, error=True), **SAVING)
    with pytest.raises(KeyboardInterrupt):
        one.train()
    one.pop_callback(StopAfter)
    one.train(resume_from_checkpoint=True)
    assert losses(one) == whole(moments, "random")[0]
    assert same(weights_of(one.model), whole(moments, "random")[1])


def test_a_checkpoint_of_another_selection_is_refused(trainer):
    trainer(half(), StopAfter(3), **SAVING).train()
    others = {
        "selection": half(seed=4),
        "moments": half("keep_selected"),
        "round": half(round=1),
    }
    for path, other in others.items():
        with pytest.raises(ConfigError, match=f"{path}: is not that of the checkpoint"):
            trainer(other, **SAVING).train(resume_from_checkpoint=True)


def test_a_checkpoint_of_epochs_of_another_length_is_refused(trainer, items):
    epochs = {"max_steps": -1, "num_train_epochs": 3}
    one = trainer(half(reselect="epoch"), StopAfter(4), **SAVING, **epochs)
    one.train_dataset = items[:24]
    one.train()
    other = trainer(half(reselect="epoch"), **SAVING, **epochs)
    with pytest.raises(ConfigError, match="epochs of another length"):
        other.train(resume_from_checkpoint=True)


def test_a_checkpoint_without_the_callback_is_refused(trainer):
    trainer(StopAfter(3), **SAVING).train()
    with pytest.raises(ConfigError, match="a training without this callback"):
        trainer(half(), **SAVING).train(resume_from_checkpoint=True)


def test_the_settings_survive_json():
    one = HalfFineTuningCallback(SELECTION | {"ratio": 0.25}, moments="keep_selected", round=2)
    again = HalfFineTuningCallback.from_state(one.state())
    assert again.state() == one.state()
