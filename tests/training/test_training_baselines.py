"""LoRA, the penalty of L2-SP, and LISA: what they train, and that scores are of a plain model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_cases import start
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from hft_ray.config import Adapter, Config, ConfigError
from hft_ray.config.keys import with_settings
from hft_ray.config.sections.arms import BUILT_IN
from hft_ray.data import batch_indices, collate
from hft_ray.evaluation import metric_values
from hft_ray.ranks import Ranks
from hft_ray.selection import build_catalog, draw
from hft_ray.training import Workspace
from hft_ray.training.architecture import load_shape
from hft_ray.training.kept import put_kept, read_kept
from hft_ray.training.lora import Lora
from hft_ray.training.loss import answer_loss
from hft_ray.training.models import load_model
from hft_ray.training.penalty import half_square
from hft_ray.training.plan import plan
from hft_ray.weights.export import export

LORA = {"adapter.kind": "lora", "adapter.rank": 2, "adapter.alpha": 8.0, "training.steps": 6}
L2 = {
    "selection.ratio": 1.0,
    "training.l2_to_base": 0.3,
    "training.steps": 6,
    "training.max_grad_norm": 0.5,
}
# The tiny model by hand: 4 layers of 32 hidden, 16 of keys and values, 45 of feed-forward units.
LAYER = 2 * 32 * 32 + 2 * 16 * 32 + 3 * 45 * 32 + 2 * 32
OUTSIDE = 2 * 320 * 32 + 32
MODEL = 4 * LAYER + OUTSIDE
ADAPTERS = 4 * 2 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 45))


def cases():
    """Return what runs on one rank and on two."""
    found = {}
    for stage in (0, 1, 2):
        found[f"lora-{stage}"] = LORA | {"training.zero_stage": stage}
        found[f"l2-{stage}"] = L2 | {
            "training.zero_stage": stage,
            "training.micro_batch_size": 4 if stage < 2 else 2,
        }
    saved = {"training.checkpoint_every": 2, "stop_at": 5, "again": True}
    found["lora-again"] = found["lora-2"] | saved
    rounds = {"selection.ratio": 0.5, "selection.reselect": 2}
    found["l2-rounds"] = found["l2-2"] | rounds
    found["l2-rounds-again"] = found["l2-rounds"] | saved
    found["lora-variants"] = found["lora-1"] | {
        "training.micro_batch_size": 2,
        "extras": {"averages": [0.5]},
        "evaluation.every": 3,
    }
    return found


@pytest.fixture(scope="module", params=[1, 2])
def runs(request, jobs, make_cases, tmp_path_factory):
    # As in the runs: sums of floats hang on the number of threads.
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(f"baselines-{request.param}")
    return start(jobs, folder, make_cases(cases()), ranks=request.param)


@pytest.fixture(scope="module")
def lora(runs):
    return runs.outcome("lora-0")


def workspace_of(runs):
    return Workspace(runs.folder / "root", Ranks(), torch.device("cpu"))


def config_of(runs, case):
    file = runs.files[case]
    return Config.model_validate({key: file[key] for key in Config.model_fields if key in file})


def base_weights(runs):
    return load_file(Path(runs.files["lora-0"]["model"], "model.safetensors"))


def test_lora_trains_a_and_b_alone_as_its_paper_counts(lora):
    (round_,) = lora["selection"]
    assert round_["fractions"] == {
        "matrices": 0.0,
        "block_parameters": pytest.approx(ADAPTERS / (4 * LAYER)),
        "model_parameters": pytest.approx(ADAPTERS / MODEL),
    }
    assert lora["values"]["selection/trainable_fraction"] == pytest.approx(ADAPTERS / MODEL)


def test_lora_changes_the_adapted_matrices_alone_and_by_its_rank(runs):
    base, tuned = base_weights(runs), runs.weights("lora-0")
    assert base.keys() == tuned.keys()
    for name, weight in tuned.items():
        adapted = name.endswith("proj.weight")
        assert torch.equal(weight, base[name]) == (not adapted), name
        if adapted:
            change = torch.linalg.svdvals((weight - base[name]).double())
            assert change[2] < 1e-4 * change[0], name


def test_lora_agrees_across_stages_ranks_and_micro_batches(runs):
    for case in ("lora-1", "lora-2", "lora-variants"):
        assert runs.losses(case) == pytest.approx(runs.losses("lora-0"), rel=1e-4)
    losses = runs.losses("lora-0")
    assert losses[-1] < losses[0]


def test_lora_goes_on_from_a_checkpoint_to_the_bit(runs):
    assert runs.outcome("lora-again")["selection"] == runs.outcome("lora-2")["selection"]
    whole, again = runs.weights("lora-2"), runs.weights("lora-again")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_merged_model_loads_in_transformers_and_has_the_scores_of_its_trial(runs, lora):
    config, workspace = config_of(runs, "lora-0"), workspace_of(runs)
    model = AutoModelForCausalLM.from_pretrained(runs.folder / "lora-0", dtype=torch.float32)
    scores = workspace.suite(config.model, config.evaluation).score(model, Ranks())
    for name, value in metric_values(scores, None).items():
        assert lora["values"][name] == value, name


def test_an_exported_adapter_is_a_plain_model_with_the_scores_of_its_trial(runs, tmp_path):
    case, config = "lora-variants", config_of(runs, "lora-variants")
    root, kept = runs.folder / "root", runs.folder / f"{case}-kept"
    scores = {}
    for variant in (None, "alpha-0.5"):
        out = tmp_path / f"model-{variant}"
        export(config, kept / "final", variant, out, root, delta=False)
        model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
        suite = workspace_of(runs).suite(config.model, config.evaluation)
        scores[variant] = metric_values(suite.score(model, Ranks()), None)
    outcome = runs.outcome(case)
    trained = {None: outcome["values"]}
    trained |= {each["variant"]: each["values"] for each in outcome["variants"]}
    for variant, found in scores.items():
        assert found == {name: trained[variant][name] for name in found}


def test_kept_weights_and_variants_of_lora_are_of_the_merged_model(runs):
    case, config = "lora-variants", config_of(runs, "lora-variants")
    kept = runs.folder / f"{case}-kept" / "final"
    base = load_model(config.model, str(runs.files[case]["model"]), torch.float32)
    put_kept(base, kept, read_kept(kept))
    tuned = runs.weights(case)
    assert all(torch.equal(weight, tuned[name]) for name, weight in base.state_dict().items())
    after = load_file(runs.folder / f"{case}-after" / "model.safetensors")
    assert all(torch.equal(weight, tuned[name]) for name, weight in after.items())
    made = [each["variant"] for each in runs.outcome(case)["variants"]]
    assert {"step-3", "alpha-0.5", "reset-0.5"} >= set(made) >= {"alpha-0.5", "reset-0.5"}


def test_merging_is_taken_back_to_the_bit(tiny_file, tiny_models):
    config = Config.model_validate(tiny_file)
    model = load_model(config.model, tiny_models["untied"], torch.bfloat16)
    catalog = build_catalog(model)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    adapters = Lora(model, Adapter(kind="lora"), catalog, seed=3)
    inside = dict(model.named_parameters())
    assert set(adapters.draw.parameters) <= inside.keys()
    with torch.no_grad():
        for name in adapters.draw.parameters:
            inside[name].add_(0.1)
    ids = torch.arange(6)[None]
    wrapped = model(input_ids=ids).logits
    with adapters.merged():
        assert model.state_dict().keys() == before.keys()
        torch.testing.assert_close(model(input_ids=ids).logits, wrapped, rtol=0.1, atol=0.2)
        assert not torch.equal(model.lm_head.weight.new_zeros(1), wrapped.flatten()[:1])
    with torch.no_grad():
        for name in adapters.draw.parameters:
            inside[name].zero_()
    with adapters.merged():
        assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


@pytest.mark.parametrize(
    ("targets", "count"),
    [
        (["attention"], 4 * 2 * (2 * 64 + 2 * 48)),
        (["q_proj", "v_proj"], 4 * 2 * (64 + 48)),
        (["feed_forward", "q_proj"], 4 * 2 * (3 * 77 + 64)),
    ],
)
def test_targets_are_categories_or_names(tiny_file, targets, count):
    shape = load_shape(Config.model_validate(tiny_file).model, tiny_file["model"])
    catalog = build_catalog(shape)
    adapters = Lora(shape, Adapter(kind="lora", rank=2, targets=targets), catalog, seed=0)
    assert adapters.draw.fractions.model_parameters == pytest.approx(count / MODEL)


def test_targets_that_name_nothing_are_refused(tiny_file):
    shape = load_shape(Config.model_validate(tiny_file).model, tiny_file["model"])
    with pytest.raises(ConfigError, match="names no linear map"):
        Lora(shape, Adapter(kind="lora", targets=["norm"]), build_catalog(shape), seed=0)


def test_lisa_trains_n_layers_and_what_lies_outside_them(tiny_file):
    config = Config.model_validate(tiny_file)
    lisa = with_settings(config, BUILT_IN["lisa"] | {"selection.ratio": 0.25})
    catalog = build_catalog(load_shape(config.model, tiny_file["model"]))
    rounds = [draw(catalog, lisa.selection, number) for number in range(8)]
    layers = [{unit.layer for unit in each.units} for each in rounds]
    assert all(len(each - {None}) == 1 and None in each for each in layers)
    assert len(set(map(frozenset, layers))) > 1
    assert {each.fractions.model_parameters for each in rounds} == {(LAYER + OUTSIDE) / MODEL}


def test_lisa_of_the_paper_is_two_layers_of_thirty_two():
    shape = LlamaConfig(
        vocab_size=64,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=32,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    with torch.device("meta"):
        catalog = build_catalog(LlamaForCausalLM(shape))
    lisa = with_settings(
        Config.model_validate({"name": "x", "model": "m", "data": {"train": "t"}}),
        BUILT_IN["lisa"],
    )
    drawn = draw(catalog, lisa.selection, 0)
    assert len({unit.layer for unit in drawn.units} - {None}) == 2


@pytest.mark.parametrize(
    ("arm", "trained"),
    [
        ({"adapter": {"kind": "lora", "rank": 2}}, ADAPTERS),
        ({"selection": {"ratio": 0.25, "granularity": "layer"}}, LAYER + OUTSIDE),
        ({"selection": {"ratio": 1.0}}, MODEL),
    ],
)
def test_the_plan_counts_gradients_and_moments_of_what_is_trained(
    tiny_file, tmp_path, arm, trained
):
    config = Config.model_validate(tiny_file | arm)
    memory = plan(config, Workspace(tmp_path, Ranks(), torch.device("cpu")), 20)
    held = memory["memory_per_worker_bytes"]
    assert held["gradients"] == 4 * trained
    assert held["optimizer"] == 8 * trained
    extra = trained if "adapter" in arm else 0
    assert held["model"] == 4 * (MODEL + extra)


def full_objective(runs, case, steps):
    """Train as the case does, by torch alone: the whole batch, autograd of the whole objective."""
    config, workspace = config_of(runs, case), workspace_of(runs)
    training = config.training
    (data,) = workspace.training_sets(config.model, config.training_data)
    pad = workspace.tokenizer(config.model).pad_token_id
    model = load_model(config.model, workspace.source(config.model), torch.float32)
    base = [parameter.detach().clone() for parameter in model.parameters()]
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate, betas=training.adam_betas)
    losses, penalties = [], []
    for step in range(steps):
        indices = batch_indices(step, len(data), training.batch_size, training.seed)
        tokens = int(data.answer_tokens[indices].sum())
        loss = answer_loss(model, collate([data[index] for index in indices], pad)) / tokens
        squares = ((p - p0) ** 2 for p, p0 in zip(model.parameters(), base, strict=True))
        penalty = training.l2_to_base / 2 * sum(each.sum() for each in squares)
        optimizer.zero_grad()
        (loss + penalty).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
        optimizer.step()
        losses.append(loss.item())
        penalties.append(penalty.item())
    return model, losses, penalties


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_penalty_is_that_of_the_full_objective(runs, stage):
    case = f"l2-{stage}"
    model, losses, penalties = full_objective(runs, case, 6)
    assert runs.losses(case) == pytest.approx(losses, rel=1e-4)
    assert penalties[-1] > 0.05 * losses[-1]
    assert runs.outcome(case)["values"]["train/l2_to_base"] == pytest.approx(
        penalties[-1], rel=1e-3
    )
    weights = runs.weights(case)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(weights[name], parameter.detach(), rtol=0, atol=2e-5)


def test_the_penalty_draws_to_the_base_across_rounds_and_a_resume(runs):
    whole, again = runs.weights("l2-rounds"), runs.weights("l2-rounds-again")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_half_square_is_what_autograd_makes_of_it():
    torch.manual_seed(0)
    theta, base = torch.nn.Parameter(torch.randn(3, 4)), torch.randn(3, 4)
    value = 0.7 * half_square([(theta, base), (theta, base + 1)])
    value.backward()
    ours, theta.grad = theta.grad, None
    plain = 0.7 / 2 * (((theta - base) ** 2).sum() + ((theta - base - 1) ** 2).sum())
    plain.backward()
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(ours, theta.grad)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"adapter.kind": "lora", "training.zero_stage": 3}, "zero_stage 0, 1 or 2"),
        ({"adapter.kind": "lora", "training.l2_to_base": 0.1}, "have no base"),
        ({"adapter.kind": "lora", "selection.reselect": 5}, "nothing is drawn"),
        ({"training.l2_to_base": 0.1, "training.zero_stage": 3}, "zero_stage of 0, 1 or 2"),
    ],
)
def test_what_cannot_be_is_refused(tiny_file, changes, told):
    with pytest.raises(ValueError, match=told):
        with_settings(Config.model_validate(tiny_file), changes)
