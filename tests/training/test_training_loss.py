"""The losses of whole models are those of their own logits, whatever they do to them."""

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

from hft_ray.evaluation import linear
from hft_ray.training.loss import IGNORED, answer_logprobs, answer_loss

VOCABULARY = 131
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
FAMILIES = {
    "llama": {},
    "llama, tied": {"tie_word_embeddings": True},
    "phi": {},  # a bias
    "gptj": {**GPT, "rotary_dim": 4},
    "gpt2": GPT,
    "gemma2": {"final_logit_softcapping": 4.0},
    "granite": {"logits_scaling": 3.0},
    "cohere": {"logit_scale": 0.25},
    "qwen3_moe": {**EXPERTS, "output_router_logits": True},
}


class Cut(LlamaForCausalLM):
    """A model that has fewer tokens than rows."""

    __module__ = "transformers.models.cut"

    def forward(self, *args, **kwargs):
        outputs = super().forward(*args, **kwargs)
        outputs.logits = outputs.logits[..., : VOCABULARY - 11]
        return outputs


class Sorted(LlamaForCausalLM):
    """A model that does to its logits what cannot be known from some of them."""

    __module__ = "transformers.models.sorted"

    def forward(self, *args, **kwargs):
        outputs = super().forward(*args, **kwargs)
        outputs.logits = outputs.logits - outputs.logits.mean(dim=-1, keepdim=True) ** 2
        return outputs


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(linear, "PART_BYTES", 5 * VOCABULARY * 4)
    monkeypatch.setattr(linear, "TRAINED_PART", 1)


@pytest.fixture
def batch():
    ids = torch.randint(3, VOCABULARY - 20, (3, 9), generator=torch.Generator().manual_seed(3))
    labels = ids.clone()
    labels[0, :4], labels[1, :7] = IGNORED, IGNORED
    return {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)}


def spread(model):
    """Give a model weights that are far from zero, and no dropout."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def make(family):
    config = AutoConfig.for_model(family.split(",")[0], **{**SMALL, **FAMILIES[family]})
    return spread(AutoModelForCausalLM.from_config(config))


def outputs(model, batch):
    return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])


def expected_loss(model, batch):
    found = outputs(model, batch)
    targets = batch["labels"][:, 1:].flatten()
    loss = F.cross_entropy(found.logits[:, :-1].flatten(0, 1), targets, reduction="sum")
    if getattr(found, "aux_loss", None) is not None:
        loss = loss + found.aux_loss * model.config.router_aux_loss_coef * (targets >= 0).sum()
    return loss


def expected_logprobs(model, batch):
    logits, targets = outputs(model, batch).logits[:, :-1], batch["labels"][:, 1:]
    return -F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").sum(dim=1)


def logprobs(model, batch):
    documents = torch.arange(3)[:, None].expand(3, 9)
    return answer_logprobs(model, batch | {"documents": documents}, 3)[0]


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: x.grad.clone() for name, x in model.named_parameters() if x.grad is not None}


def check(model, batch):
    """Compare values and gradients, of fine-tuning and of what preferences train with."""

    def preference(values):
        return F.logsigmoid(values * 0.1).sum()

    for mine, theirs, loss in (
        (answer_loss, expected_loss, lambda value: value / 7),
        (logprobs, expected_logprobs, preference),
    ):
        found, expected = mine(model, batch), theirs(model, batch)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)
        ours, others = gradients(model, loss(found)), gradients(model, loss(expected))
        assert ours.keys() == others.keys()
        for name, gradient in others.items():
            # Where a gradient passes through the layers, their rounding is in it too.
            assert (ours[name] - gradient).norm() <= 2e-6 * gradient.norm(), name


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_the_models_logits(family, frozen, batch):
    model = make(family)
    head = model.get_output_embeddings()
    head.requires_grad_(not frozen)
    check(model, batch)
    assert (head.weight.grad is None) == frozen


@pytest.mark.parametrize("kind", [Cut, Sorted])
def test_a_model_that_does_something_else_to_its_logits_keeps_them(kind, batch):
    model = spread(kind(AutoConfig.for_model("llama", **SMALL)))
    check(model, batch)


def test_an_adapter_on_the_head(batch):
    from peft import LoraConfig, inject_adapter_in_model

    model = make("llama")
    inject_adapter_in_model(LoraConfig(target_modules=["lm_head"], init_lora_weights=False), model)
    check(model, batch)
    assert {name for name, x in model.named_parameters() if x.grad is not None} == {
        "lm_head.lora_A.default.weight",
        "lm_head.lora_B.default.weight",
    }


def test_the_model_is_as_before_afterwards(batch):
    model = make("gemma2").train()
    before = outputs(model, batch).logits
    answer_loss(model, batch)
    assert model.training
    assert torch.equal(outputs(model, batch).logits, before)
    assert not model.lm_head._forward_hooks
