"""What a rehearsal of a step counts, and the peaks that were measured on a GPU."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from hft_ray.config import Selection, Training
from hft_ray.selection import build_catalog, draw
from hft_ray.training.alive import AliveBytes
from hft_ray.training.memory import memory_per_worker
from hft_ray.training.rehearsal import Step, peak_of_passes

LLAMA_1B = LlamaConfig(
    vocab_size=128256,
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    tie_word_embeddings=True,
)
QWEN_7B = Qwen2Config(
    vocab_size=152064,
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    tie_word_embeddings=False,
)
SMALL = LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=4,
    num_attention_heads=2,
    num_key_value_heads=1,
    tie_word_embeddings=False,
)
LEAN = {"optimizer_states": "bf16", "adam_betas": (0.9, 0.99)}
H100 = {
    "full": (LLAMA_1B, 1.0, 4, {}, 45.0),
    "half": (LLAMA_1B, 0.5, 4, {}, 35.9),
    "lean full": (LLAMA_1B, 1.0, 4, LEAN, 38.1),
    "lean half": (LLAMA_1B, 0.5, 4, LEAN, 31.7),
    "7B lean half": (QWEN_7B, 0.5, 2, LEAN | {"gradient_checkpointing": True}, 48.8),
}
"""Name -> shape, ratio by category, sequences of 4096 tokens, settings, GiB at the peak.

Of an H100, in bf16 with ZeRO-0: see benchmarks/RESULTS.md.
"""
STEP = Step(torch.float32, rows=2, length=16)


def on_meta(shape):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape)
    model.tie_weights()
    return model


@pytest.mark.parametrize("name", H100)
def test_the_plan_is_within_a_tenth_of_the_peak_on_a_gpu(name):
    shape, ratio, rows, settings, measured = H100[name]
    model = on_meta(shape)
    catalog = build_catalog(model)
    drawn = draw(catalog, Selection(ratio=ratio, granularity="category"), 1)
    planned = memory_per_worker(
        Training(zero_stage=0, batch_size=rows, **settings),
        parameters=catalog.parameters,
        trainable=round(drawn.fractions.model_parameters * catalog.parameters),
        bf16=True,
        workers=1,
        rows=rows,
        length=4096,
        summed=True,
        peak=partial(peak_of_passes, model, drawn.parameters),
    )
    assert planned.total / 2**30 == pytest.approx(measured, rel=0.1)


def peak(trained, step=STEP, **changes):
    model = on_meta(SMALL)
    names = [name for name, _ in model.named_parameters() if trained(name)]
    return peak_of_passes(model, names, replace(step, **changes))


def test_layers_below_everything_trained_keep_nothing():
    top, deep = (peak(lambda name, n=n: name.startswith(f"model.layers.{n}.")) for n in (3, 0))
    assert top < 0.5 * deep


def test_recomputed_layers_keep_their_inputs():
    whole, recomputed = (peak(lambda _: True, rows=64, recompute=each) for each in (False, True))
    assert recomputed < 0.6 * whole


def test_a_gradient_that_goes_to_other_ranks_is_not_kept():
    def one_layer(share):
        return peak(lambda name: name.startswith("model.layers.0."), rows=1, length=1, share=share)

    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32
    # At the peak, before the layer's first gradients are there.
    assert 0.3 * layer * 4 < one_layer(1.0) - one_layer(0.5) <= layer * 4 / 2


def test_a_second_pass_finds_the_gradients_of_the_first():
    once, twice = (peak(lambda _: True, passes=each) for each in (1, 2))
    numbers = sum(each.numel() for each in on_meta(SMALL).parameters())
    assert once < twice <= once + 4 * numbers


def test_a_storage_counts_once_and_as_long_as_something_views_it():
    given = torch.zeros(100)
    with AliveBytes() as alive:
        alive.count([given, given[:50]])
        assert alive.now == 400
        made = given + 1
        part = made[:10].view(2, 5)
        assert alive.now == 800
        del made
        assert alive.now == 800
        del part
        assert (alive.now, alive.peak) == (400, 800)
        alive.reset_peak()
        assert alive.peak == 400
