"""The arithmetic of a plan: memory, fractions at the corners, steps and time."""

import pytest
import torch

from hft_ray.config import Config, Model, Training
from hft_ray.ranks import Ranks
from hft_ray.selection import draw
from hft_ray.training import Workspace
from hft_ray.training.memory import MemoryPerWorker, memory_per_worker
from hft_ray.training.methods import known_sequences, make_stages
from hft_ray.training.plan import plan

PASSES = 10_000
"""Most bytes of activations and gradients in the passes of a step."""


def memory(stage, *, bf16=False, workers=4, **training):
    return memory_per_worker(
        Training(zero_stage=stage, **training),
        parameters=1000,
        trainable=400,
        bf16=bf16,
        workers=workers,
        rows=2,
        length=5,
        summed=True,
        peak=lambda step: PASSES,
    )


# fp32: 4 bytes a weight and a gradient, 8 of moments, 4 of a second copy under ZeRO 1 to 3. What
# passes hold beside the gradients; ZeRO-3 gathers the weights and has room for gradients ready.
@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (0, (4000, 1600, 3200, PASSES - 1600)),
        (1, (4000, 400, 1200, PASSES - 400)),
        (2, (4000, 400, 1200, PASSES - 400)),
        (3, (1000, 400, 1200, PASSES + 4000)),
    ],
)
def test_memory_of_four_workers_in_fp32(stage, expected):
    assert memory(stage) == MemoryPerWorker(*expected)


def test_memory_in_bf16_holds_master_copies_of_what_is_trained():
    # 2 bytes a weight and a gradient, 4 + 8 for master copy and moments.
    assert memory(0, bf16=True) == MemoryPerWorker(2000, 800, 4800, PASSES - 800)
    assert memory(3, bf16=True) == MemoryPerWorker(500, 200, 1200, PASSES + 2000)


def test_lean_states_take_8_bytes_with_the_gradient():
    def held(stage, workers):
        lean = {"optimizer_states": "bf16", "adam_betas": (0.9, 0.99)}
        found = memory(stage, bf16=True, workers=workers, **lean)
        return found.model, found.gradients, found.optimizer

    assert held(0, workers=4) == (2000, 800, 2400)
    # ZeRO steps on a copy in bf16; alone a worker has no use for it.
    assert held(2, workers=4) == (2000, 200, 800)
    assert held(3, workers=4) == (500, 200, 800)
    assert held(2, workers=1) == (2000, 800, 2400)


def test_precision_is_bf16_on_a_gpu_and_with_lean_states():
    lean = Training(optimizer_states="bf16", adam_betas=(0.9, 0.99))
    assert [Training().bf16(gpu) for gpu in (False, True)] == [False, True]
    assert [lean.bf16(gpu) for gpu in (False, True)] == [True, True]
    assert not Training(precision="fp32").bf16(gpu=True)


def test_an_offloaded_optimizer_needs_no_memory_of_the_device():
    assert memory(2, offload="optimizer") == MemoryPerWorker(4000, 400, 0, PASSES - 400)


def test_one_worker_divides_nothing():
    alone, plain = (memory(stage, workers=1, bf16=True) for stage in (3, 0))
    assert (alone.model, alone.gradients) == (plain.model, plain.gradients)
    assert alone.optimizer == plain.optimizer


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path, Ranks(), torch.device("cpu"))


def searching(tiny_file, **more):
    space = {
        "selection.ratio": {"low": 0.25, "high": 1.0},
        "selection.granularity": ["layer", "category"],
        "selection.reselect": ["never", 2],
    }
    return Config.model_validate(tiny_file | {"search": {"space": space, "trials": 6}} | more)


def test_fractions_at_every_corner_of_the_space(tiny_file, workspace):
    config = searching(tiny_file)
    catalog = workspace.catalog(config.model)
    rows = plan(config, workspace, sequences=None)["selection"]
    assert [(row["granularity"], row["ratio"]) for row in rows] == [
        ("layer", 0.25),
        ("layer", 1.0),
        ("category", 0.25),
        ("category", 1.0),
    ]
    for row in rows:
        selection = config.selection.model_copy(
            update={"granularity": row["granularity"], "ratio": row["ratio"]}
        )
        fractions = draw(catalog, selection, 0).fractions
        assert row["fractions"]["block_parameters"] == fractions.block_parameters
    assert rows[0]["fractions"]["matrices"] == 0.25
    assert rows[1]["fractions"] == {
        "matrices": 1,
        "block_parameters": 1,
        "model_parameters": 1,
    }


def test_a_plan_counts_the_real_model(tiny_file, workspace, base_weights):
    cluster = {"groups": 2, "workers": 4}
    planned = plan(searching(tiny_file, cluster=cluster), workspace, sequences=4 * 8)
    parameters = sum(tensor.numel() for tensor in base_weights.values())
    assert planned["model"] == {"parameters": parameters, "matrices": 4 * 9}
    assert (planned["trials"], planned["groups"], planned["workers"]) == (6, 2, 4)
    # ZeRO-0 in fp32 at ratio 1: weights and gradients whole, two moments.
    held = planned["memory_per_worker_bytes"]
    assert (held["model"], held["gradients"], held["optimizer"]) == (
        4 * parameters,
        4 * parameters,
        8 * parameters,
    )
    # 4 steps of 8 sequences of 48 tokens, 6 operations per token and parameter, 6 trials on 2
    # groups of 4 workers of 50 GFLOP/s.
    expected = 4 * 8 * 48 * parameters * 6 / (4 * 5e10) * 6 / 2
    assert planned["seconds_estimate"] == pytest.approx(expected)
    assert planned["problems"] == []


def test_memory_is_that_of_the_largest_searched_settings(tiny_file, workspace, base_weights):
    """Among them a penalty towards the base, which holds the base's values."""
    parameters = sum(tensor.numel() for tensor in base_weights.values())
    space = {
        "selection.ratio": [0.5, 1.0],
        "training.l2_to_base": [0.0, 0.01],
        "training.zero_stage": {"choices": [0, 2], "when": {"training.l2_to_base": 0.0}},
        "training.batch_size": [2, 8],
    }

    def held(**changes):
        given = [f"training.{key}" for key in changes]
        space_now = {key: entry for key, entry in space.items() if key not in given}
        file = tiny_file | {"training": tiny_file["training"] | changes}
        search = {"search": {"space": space_now, "trials": 6}}
        return plan(Config.model_validate(file | search), workspace, 1)["memory_per_worker_bytes"]

    assert held()["model"] == 2 * 4 * parameters
    assert held(l2_to_base=0.0)["model"] == 4 * parameters
    assert held(l2_to_base=0.0, average="ema")["model"] == 2 * 4 * parameters
    # A second fp32 copy under ZeRO-2; what a step holds grows with its sequences.
    assert held()["optimizer"] == 12 * parameters
    assert held(batch_size=2)["activations"] < held(batch_size=8)["activations"]


def test_steps_follow_from_the_examples_where_they_are_known(tiny_file, workspace):
    epochs = {**tiny_file["training"], "steps": None, "epochs": 2}
    config = Config.model_validate(tiny_file | {"training": epochs})
    assert known_sequences(config) is None
    assert make_stages(config, workspace)[-1].end == 5  # 20 examples, twice, 8 a step
    known = plan(config, workspace, sequences=5 * 8)["seconds_estimate"]
    assert known is not None
    assert plan(config, workspace, sequences=10 * 8)["seconds_estimate"] == pytest.approx(2 * known)
    assert plan(config, workspace, sequences=None)["seconds_estimate"] is None


def test_a_pair_is_two_sequences(tiny_file, workspace):
    pairs = "package:hft_ray/demo/data/preference_test.jsonl"
    data = {"train": pairs, "max_length": 48}
    config = Config.model_validate(tiny_file | {"method": "dpo", "data": data})
    assert known_sequences(config) == 2 * 4 * 8
    assert make_stages(config, workspace)[0].sequences == 2 * 4 * 8
    stages = ["sft", {"kind": "dpo", "steps": 3}]
    both = tiny_file | {"stages": stages, "data": tiny_file["data"] | {"preferences": pairs}}
    assert known_sequences(Config.model_validate(both)) == (4 + 2 * 3) * 8


def test_a_shape_is_enough_for_a_plan(tiny_file, workspace):
    shape = {
        "model_type": "llama",
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    config = Config.model_validate(
        tiny_file | {"model": {"name": "not/here", "architecture": shape}}
    )
    planned = plan(config, workspace, sequences=3 * 8)
    layer = 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24 + 2 * 16
    assert planned["model"] == {"parameters": 2 * layer + 2 * 64 * 16 + 16, "matrices": 18}


def test_a_model_is_loaded_from_its_directory_alone(tiny_models, workspace):
    assert workspace.source(Model(name=tiny_models["untied"])) == tiny_models["untied"]
