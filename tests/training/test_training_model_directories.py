"""A model directory is refused with what to do, or its model is loaded whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from model_directories import ACCEPTED, LAYER, REFUSED, family, weights, with_token
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from hft_ray.config import Config, ConfigError
from hft_ray.data import collate, collate_pairs
from hft_ray.ranks import Ranks
from hft_ray.training import Workspace, check
from hft_ray.training.causal import require_causal
from hft_ray.training.dpo import DirectPreference
from hft_ray.training.loss import answer_loss
from hft_ray.training.models import load_model

RECORDS = [
    {"prompt": "the capital of France is", "completion": " Paris and Rome"},
    {"prompt": "gold has", "completion": " symbol Au"},
]
USED = {"prompt": "a <call> b", "completion": " c <call>"}


@pytest.fixture
def folder(tiny_models, tmp_path):
    """A good model directory, to be changed."""
    return Path(shutil.copytree(tiny_models["untied"], tmp_path / "model"))


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "root", Ranks(), torch.device("cpu"))


def file_of(folder, *records, **sections):
    data = folder.parent / "data.jsonl"
    data.write_text("".join(json.dumps(each) + "\n" for each in (*RECORDS, *records)))
    training = {"steps": 1, "batch_size": 2, "learning_rate": 1e-3}
    file = {"name": "x", "model": str(folder), "data": {"train": str(data)}, "training": training}
    return file | sections


def problems_of(workspace, file):
    with pytest.raises(ConfigError) as caught:
        check(Config.model_validate(file), workspace, "run.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("kind", REFUSED)
def test_a_wrong_directory_is_refused_with_what_to_do(kind, folder, workspace):
    change, expected = REFUSED[kind]
    change(folder)
    (problem,) = problems_of(workspace, file_of(folder, USED))
    for part in expected:
        assert part in problem
    assert problem.startswith(("model.name: ", "data."))


@pytest.mark.parametrize("kind", ACCEPTED)
def test_an_odd_directory_is_loaded_whole(kind, folder, workspace):
    ACCEPTED[kind](folder)
    config = Config.model_validate(file_of(folder))
    assert check(config, workspace, "run.yaml") == []
    tokenizer = workspace.tokenizer(config.model)
    assert tokenizer.pad_token_id < 320
    model = load_model(config.model, workspace.source(config.model), torch.float32).eval()
    ids = torch.tensor([tokenizer("the capital of France").input_ids])
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits
    assert torch.equal(model(ids).logits, expected)
    stored = {each.name for each in folder.glob("model*.safetensors")}
    tensors = [each for name in stored for each in load_file(folder / name).values()]
    largest = max(tensors, key=torch.Tensor.numel).float()
    assert any(torch.equal(largest, each) for each in model.parameters() if each.dim() == 2)


def test_weights_that_are_no_numbers_are_refused_by_name(folder, workspace):
    weights(lambda found: found | {LAYER: torch.full_like(found[LAYER], torch.nan)})(folder)
    config = Config.model_validate(file_of(folder))
    with pytest.raises(ConfigError, match="NaN or infinite, in 1 parameters") as caught:
        load_model(config.model, workspace.source(config.model), torch.float32)
    assert LAYER in str(caught.value)


def test_a_head_that_is_tied_and_stored_with_other_values_is_refused(folder, workspace):
    described = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(described))
    config = Config.model_validate(file_of(folder))
    with pytest.raises(ConfigError, match="their weights differ; set tie_word_embeddings to false"):
        load_model(config.model, workspace.source(config.model), torch.float32)


def test_what_a_load_leaves_at_random_is_refused(folder, workspace):
    """A hub model is not looked at before it is loaded."""
    REFUSED["weight missing"][0](folder)
    config = Config.model_validate(file_of(folder))
    with pytest.raises(ConfigError, match="no weights for 1 parameters"):
        load_model(config.model, str(folder), torch.float32)


LONG = {"prompt": "the capital of France is Paris " * 4, "completion": " Rome"}


@pytest.mark.parametrize(
    ("records", "data", "refused"),
    [
        ([], {}, False),
        ([LONG], {}, True),
        ([LONG], {"packing": False}, True),
        ([LONG], {"max_length": 24}, False),
    ],
)
def test_the_longest_example_fits_the_positions(records, data, refused, folder, workspace):
    family("gpt2", n_inner=48, max_position_embeddings=24)(folder)
    file = file_of(folder, *records)
    file["data"] |= data
    if not refused:
        assert check(Config.model_validate(file), workspace, "x") == []
        return
    (problem,) = problems_of(workspace, file)
    assert problem.startswith("data.max_length: the longest example has")
    assert "set it to 24 at most" in problem


def test_a_searched_length_is_looked_at(folder, workspace):
    family("gpt2", n_inner=48, max_position_embeddings=24)(folder)
    search = {"space": {"data.max_length": [16, 64]}, "objectives": {"train/loss": "min"}}
    search["reference_point"] = {"train/loss": 10}
    file = file_of(folder, LONG, search=search)
    file["data"]["max_length"] = 16
    (problem,) = problems_of(workspace, file)
    assert problem.endswith("(given: 64)")


def test_what_evaluations_read_and_write_lies_within_the_model(folder, workspace):
    with_token("<call>")(folder)
    path = folder.parent / "eval.jsonl"
    path.write_text(json.dumps({"prompt": "x <call>", "answer": "y"}))
    texts = folder.parent / "texts.jsonl"
    texts.write_text(json.dumps({"text": "<call> z"}))
    item = {"name": "a", "kind": "generation", "data": str(path)}
    kl = {"name": "b", "kind": "perplexity", "data": str(texts)}
    evaluation = {"task": [item | {"max_new_tokens": 96}], "general": [kl]}
    problems = problems_of(workspace, file_of(folder, evaluation=evaluation))
    assert [each.split(":")[0] for each in problems] == [
        "evaluation.task.0.max_new_tokens",
        "evaluation.task.0.data",
        "evaluation.general.0.data",
    ]
    assert "the model has 96 positions" in problems[0]
    assert all("'<call>' (id 320)" in each for each in problems[1:])


def test_padding_that_the_model_lacks_is_told(folder, workspace, caplog):
    with_token("[PAD]", pads=True)(folder)
    tokenizer = workspace.tokenizer(Config.model_validate(file_of(folder)).model)
    assert tokenizer.pad_token == "</s>"
    assert "'[PAD]' (id 320) lies beyond the model's 320 embeddings" in caplog.text


def test_a_mask_that_is_not_causal_is_noticed(tiny_models):
    model = AutoModelForCausalLM.from_pretrained(tiny_models["untied"], attn_implementation="eager")
    require_causal(model, "x")
    plain = model.model.forward

    def seeing(**given):
        return plain(**given | {"attention_mask": torch.zeros(1, 1, 5, 5)})

    model.model.forward = seeing
    with pytest.raises(ConfigError, match="not a causal language model"):
        require_causal(model, "x")


@pytest.mark.parametrize("kind", ["mixtral", "qwen2_moe"])
@pytest.mark.parametrize("recompute", [False, True])
def test_the_routers_loss_is_that_of_transformers(kind, recompute, folder):
    """Of one forward pass with padding: loss and gradients."""
    experts = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
    own = {"moe_intermediate_size": 24, "shared_expert_intermediate_size": 24}
    router = {"output_router_logits": True, "router_aux_loss_coef": 0.5}
    family(kind, **experts | own | router)(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if recompute:
        model.train().gradient_checkpointing_enable({"use_reentrant": False})
    items = [
        {"input_ids": [5, 6, 7, 8, 9, 10], "labels": [-100, -100, 7, 8, 9, 10]},
        {"input_ids": [11, 12, 13], "labels": [-100, 12, 13]},
    ]
    batch = collate(items, pad_id=2)
    loss = answer_loss(model, batch) / 6
    loss.backward()
    found = {name: each.grad.clone() for name, each in model.named_parameters()}
    model.zero_grad()
    whole = model(**batch)
    whole.loss.backward()
    assert loss.item() == pytest.approx(whole.loss.item(), rel=1e-5)
    assert whole.aux_loss > 0.1
    for name, each in model.named_parameters():
        torch.testing.assert_close(found[name], each.grad, rtol=1e-4, atol=1e-6)
    model.config.output_router_logits = False
    assert answer_loss(model, batch).item() / 6 < loss.item() - 0.05


def test_preferences_balance_experts_too(folder):
    """As TRL: the mean over pairs, and the weight times the loss of the forward pass."""
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    router = {"output_router_logits": True, "router_aux_loss_coef": 0.5}
    family("mixtral", **experts | router)(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rows = [
        {"input_ids": np.array([5, 6, *answer]), "labels": np.array([-100, -100, *answer])}
        for answer in ([7, 8, 9], [10], [11, 12], [13, 14])
    ]
    batch = collate_pairs([(rows[0], rows[1]), (rows[2], rows[3])], 2, None)
    batch |= {"reference": torch.zeros(2, 2)}
    method = Config.model_validate(file_of(folder, method="dpo")).method
    objective = DirectPreference(method, SimpleNamespace(identity=""), 2, None, 1)
    found = objective.loss(model, batch).value
    aux = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).aux_loss
    model.config.output_router_logits = False
    plain = objective.loss(model, batch).value
    assert found.item() == pytest.approx(plain.item() + 2 * 0.5 * aux.item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["names of torch.compile", "too few positions"])
def test_plan_refuses_on_the_command_line(kind, jobs, folder):
    REFUSED[kind][0](folder)
    file = folder.parent / "run.yaml"
    file.write_text(yaml.safe_dump(file_of(folder)))
    storage = str(folder.parent / "s")
    done = jobs.command(folder.parent, "plan", str(file), "--storage", storage)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for part in REFUSED[kind][1]:
        assert part in done.stderr
