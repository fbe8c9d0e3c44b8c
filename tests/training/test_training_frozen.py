"""What a draw leaves out stays as it was to the bit; what it selects moves; nothing else is told.

The seen changes alone say which parameters were trained: the SHA-256 of their sorted names must be
the hash that the run recorded for the round.
"""

from hashlib import sha256

import pytest
import torch
from safetensors.torch import load_file
from training_cases import FULL, HALF, STAGES

from hft_ray.config import Model, Selection
from hft_ray.ranks import Ranks
from hft_ray.selection import draw
from hft_ray.training import Workspace


def moved(before, after):
    """The names of the tensors that differ in any bit."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(bits(before[name]), bits(after[name]))}


def bits(tensor):
    return tensor.contiguous().view(torch.uint8)


def hash_of(names):
    return sha256("\n".join(sorted(names)).encode()).hexdigest()


@pytest.mark.parametrize("stage", STAGES)
def test_only_the_selected_parameters_move_in_each_round(runs, base_weights, stage):
    first, second = runs.outcome(f"zero{stage}")["selection"]
    assert (first["step"], second["step"]) == (0, HALF)
    half, full = runs.weights(f"zero{stage}-half"), runs.weights(f"zero{stage}")
    in_first, in_second = moved(base_weights, half), moved(half, full)
    assert hash_of(in_first) == first["hash"]
    assert hash_of(in_second) == second["hash"]
    assert in_first != in_second
    # Half of the matrices: neither all nor none, so that both parts of the claim were tested.
    assert 0 < len(in_first) < len(base_weights)
    assert moved(base_weights, full) == in_first | in_second


@pytest.mark.parametrize("stage", STAGES)
def test_carried_moments_move_nothing_else(runs, base_weights, stage):
    drawn = {each["hash"] for each in runs.outcome(f"zero{stage}-carry")["selection"]}
    assert drawn == {each["hash"] for each in runs.outcome(f"zero{stage}")["selection"]}
    # The first round is the same as without; whatever differs since is of the second draw.
    half, full = runs.weights(f"zero{stage}-half"), runs.weights(f"zero{stage}-carry")
    assert hash_of(moved(half, full)) in drawn


@pytest.mark.parametrize("case", ["bf16-1", "bf16-3", *(f"lean-{stage}" for stage in STAGES)])
def test_bf16_keeps_what_is_frozen(runs, base_weights, case):
    after = runs.weights(case)
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    before = {name: tensor.to(torch.bfloat16) for name, tensor in base_weights.items()}
    (only,) = runs.outcome(case)["selection"]
    changed = moved(before, after)
    # A small step can be lost in bf16's rounding: nothing but selected ones, and most of those.
    untied = Workspace(runs.folder, Ranks(), torch.device("cpu"))
    catalog = untied.catalog(Model(name=str(runs.folder / case)))
    drawn = draw(catalog, Selection(), 0)
    assert drawn.hash == only["hash"]
    assert changed <= set(drawn.parameters)
    assert len(changed) > 0.8 * len(drawn.parameters)


def test_everything_moves_at_ratio_1(one_rank, base_weights):
    assert moved(base_weights, one_rank.weights("everything")) == set(base_weights)


def test_blocks_train_below_frozen_embeddings_with_and_without_checkpointing(
    one_rank, base_weights
):
    changed = moved(base_weights, one_rank.weights("checkpointing-on"))
    assert changed == moved(base_weights, one_rank.weights("checkpointing-off"))
    assert not {name for name in changed if not name.startswith("model.layers.")}
    assert {name.split(".")[2] for name in changed} == {"0", "1", "2", "3"}
    (only,) = one_rank.outcome("checkpointing-on")["selection"]
    assert hash_of(changed) == only["hash"]


def test_tied_weights_move_once_and_stay_tied(runs, tiny_models):
    before = load_file(f"{tiny_models['tied']}/model.safetensors")
    after = runs.weights("tied")
    assert "lm_head.weight" not in after
    (only,) = runs.outcome("tied")["selection"]
    assert hash_of(moved(before, after)) == only["hash"]


def test_weight_decay_was_on(tiny_file):
    assert tiny_file["training"]["weight_decay"] > 0
    assert FULL == 2 * HALF
