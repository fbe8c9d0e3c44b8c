"""Padding, position ids and caches differ between model families: batches must not show it."""

import pytest
import torch
from evaluation_models import greedy, hf_loss, make_section, make_tokenizer, with_batch_size
from transformers import AutoConfig, AutoModelForCausalLM

from hft_ray.evaluation import Suite
from hft_ray.evaluation.generation import GenerationScorer
from hft_ray.evaluation.items import load_passages, load_prompts
from hft_ray.ranks import Ranks

SMALL = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "initializer_range": 0.4,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
EXPERTS = {
    "num_experts_per_tok": 2,
    "num_local_experts": 4,
    "num_experts": 4,
    "moe_intermediate_size": 24,
}
FAMILIES = {
    "mistral": {"sliding_window": 8},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 8},
    "phi3": {},
    "gpt_neox": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "olmo2": {},
    "mixtral": EXPERTS,
    "qwen3_moe": {**EXPERTS, "head_dim": 8},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_equal_one_item_at_a_time(family, tmp_path):
    torch.manual_seed(1)
    config = AutoConfig.for_model(family, **{**SMALL, **FAMILIES[family]})
    model = AutoModelForCausalLM.from_config(config).eval()
    tokenizer = make_tokenizer(bos=True)
    section = with_batch_size(make_section(tmp_path, model, tokenizer), 4)

    texts = [each.text for each in load_passages(section.general[0], "x")]
    losses = [hf_loss(model, tokenizer(text).input_ids) for text in texts]
    scores = Suite(section, tokenizer).score(model)
    assert scores.general["texts"].items == pytest.approx(losses, rel=1e-5)
    one = Suite(with_batch_size(section, 1), tokenizer).score(model)
    assert one.general["questions"] == scores.general["questions"]

    entry = section.task[0]
    prompts = load_prompts(entry, "x")
    found = GenerationScorer(entry, prompts, tokenizer, "x").continuations(model, 4, Ranks())
    whole = [
        tokenizer.decode(greedy(model, tokenizer(each.prompt).input_ids, 6)) for each in prompts
    ]
    # A line break before the first letter does not end an answer.
    blanks = [len(text) - len(text.lstrip()) for text in whole]
    assert found == [
        text[:count] + text[count:].partition("\n")[0]
        for text, count in zip(whole, blanks, strict=True)
    ]
