"""Weighed or masked tokens: however examples are batched, and what the base says of them."""

from __future__ import annotations

import copy
import logging
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from hft_ray.config import ConfigError, Data
from hft_ray.data import IGNORED, joined, prepare
from hft_ray.ranks import Ranks
from hft_ray.training.base_tokens import BaseTokens
from hft_ray.training.kl_to_base import HeldToBase, look_for
from hft_ray.training.low_perplexity import NAME, LowPerplexity, logprobs
from hft_ray.training.reference import ReferenceStore
from hft_ray.training.sft import SupervisedFineTuning

THRESHOLD = 300.0
"""About half of the tokens are likelier under a model that knows nothing of 320 tokens."""

STRENGTH = 0.7


@pytest.fixture(scope="module")
def base(tiny_models):
    return AutoModelForCausalLM.from_pretrained(tiny_models["untied"], dtype=torch.float32)


@pytest.fixture(scope="module")
def data(tiny_file, tiny_models, tmp_path_factory):
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["untied"])
    section = Data(train=tiny_file["data"]["train"], limit=9, max_length=64)
    return prepare(section, tokenizer, tmp_path_factory.mktemp("data"))


def masking(data, root, threshold=THRESHOLD, batch_size=2):
    said = BaseTokens(data, 2, ReferenceStore(root, "tokens"), batch_size, NAME, logprobs)
    return SupervisedFineTuning(data, 2, "stm", LowPerplexity(said, threshold))


def holding(data, root, top=16, direction="forward", **others):
    said = BaseTokens(data, 2, ReferenceStore(root, "tokens"), 2, f"top {top}", look_for(top))
    held = HeldToBase(said, STRENGTH, direction)
    return SupervisedFineTuning(data, 2, held=held, **others)


def begun(objective, base, name="base", packed=False):
    objective.begin(base, Ranks(), name, packed)
    return objective


def plain_logprobs(model, item):
    """Return the positions of an item's trained tokens, and log p of each, by one pass over it."""
    ids, labels = (torch.as_tensor(item[name]) for name in ("input_ids", "labels"))
    with torch.no_grad():
        logits = model(input_ids=ids[None]).logits[0].double()
    places = 1 + np.flatnonzero(labels[1:] != IGNORED)
    return places, logits.log_softmax(dim=-1)[places - 1, ids[places]].numpy()


def steps(objective, model, micros, packed):
    """Return loss, sums and gradients of all examples, per unit, in passes of these sizes."""
    model.zero_grad()
    everything = range(len(objective))
    units, total, sums, first = objective.units(everything), 0.0, {}, 0
    for size in micros:
        found = objective.loss(model, objective.batch(everything[first : first + size], packed))
        (found.value / units).backward()
        total += found.value.item() / units
        for name, x in found.sums.items():
            sums[name] = sums.get(name, 0.0) + x.item() / units
        first += size
    assert first == len(objective)
    return total, sums, {name: x.grad.clone() for name, x in model.named_parameters()}


@pytest.mark.parametrize("kind", ["none", "dft", "eaft", "stm", "kl", "kl and stm"])
def test_micro_batches_and_packing_change_nothing(kind, data, base, tmp_path):
    objective = SupervisedFineTuning(data, 2, kind)
    if kind == "stm":
        objective = begun(masking(data, tmp_path), base)
    elif kind.startswith("kl"):
        mask = masking(data, tmp_path)._mask if kind == "kl and stm" else None
        objective = begun(holding(data, tmp_path, mask=mask), moved(base))
    expected, expected_sums, expected_gradients = steps(objective, base, [9], packed=False)
    for micros, packed in (([2, 3, 4], False), ([4, 5], True), ([1] * 9, True)):
        loss, sums, gradients = steps(objective, base, micros, packed)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert sums == pytest.approx(expected_sums, rel=1e-5)
        for name, x in gradients.items():
            torch.testing.assert_close(x, expected_gradients[name], rtol=1e-3, atol=2e-6)


def test_weights_are_of_the_model_that_is_trained(data, base):
    logprobs = np.concatenate([plain_logprobs(base, data[index])[1] for index in range(9)])
    loss, sums, _ = steps(SupervisedFineTuning(data, 2, "dft"), base, [9], packed=False)
    assert loss == pytest.approx(-(np.exp(logprobs) * logprobs).mean(), rel=1e-5)
    assert sums["token_weight"] == pytest.approx(np.exp(logprobs).mean(), rel=1e-5)
    assert sums["cross_entropy"] == pytest.approx(-logprobs.mean(), rel=1e-5)


def moved(base):
    """Return a model that has moved from ``base``."""
    model = copy.deepcopy(base)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += 0.2 * parameter.abs().mean() * noise
    return model


@pytest.mark.parametrize("weights", ["none", "dft"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("packed", [True, False])
def test_the_penalty_is_the_divergence_from_the_base(
    data, base, tmp_path, packed, direction, weights
):
    objective = begun(
        holding(data, tmp_path, 320, direction, token_weights=weights), base, packed=packed
    )
    model, expected = moved(base), 0.0
    for index in range(9):
        places, _ = plain_logprobs(base, data[index])
        ids = torch.as_tensor(data[index]["input_ids"])[None]
        with torch.no_grad():
            p, q = (
                each(input_ids=ids).logits[0, places - 1].double().log_softmax(dim=-1)
                for each in (base, model)
            )
        # F.kl_div(a, b) is KL(b || a).
        here, there = (q, p) if direction == "forward" else (p, q)
        expected += F.kl_div(here, there, reduction="sum", log_target=True).item()
    loss, sums, _ = steps(objective, model, [5, 4], packed)
    units = objective.units(range(9))
    assert sums["kl_to_base"] == pytest.approx(expected / units, rel=1e-4)
    plain, _, _ = steps(SupervisedFineTuning(data, 2, weights), model, [9], packed)
    assert loss == pytest.approx(plain + STRENGTH * expected / units, rel=1e-5)


def test_of_the_base_itself_the_penalty_is_nothing(data, base, tmp_path):
    for direction in ("forward", "reverse"):
        objective = begun(holding(data, tmp_path, 16, direction), base)
        _, sums, gradients = steps(objective, base, [9], packed=False)
        assert sums["kl_to_base"] == pytest.approx(0, abs=1e-6)
        _, _, plain = steps(SupervisedFineTuning(data, 2), base, [9], packed=False)
        for name, x in gradients.items():
            torch.testing.assert_close(x, plain[name], rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize("packed", [True, False])
def test_what_the_base_finds_unlikely_is_masked(data, base, tmp_path, packed):
    objective = begun(masking(data, tmp_path), base, packed=packed)
    kept, losses = [], []
    for index in range(9):
        places, found = plain_logprobs(base, data[index])
        likely = np.exp(-found) <= THRESHOLD
        expected = np.full(len(data[index]["labels"]), IGNORED)
        expected[places[likely]] = data[index]["labels"][places[likely]]
        (labels,) = objective.batch([index], packed=False)["labels"]
        assert np.array_equal(labels[1:], expected[1:])
        kept.append(int(likely.sum()))
        losses += [-found[likely].sum()]
    assert 0 < sum(kept) < int(data.answer_tokens.sum())
    assert [objective.trained([index]) for index in range(9)] == kept
    loss, _, _ = steps(objective, base, [9], packed=False)
    assert loss == pytest.approx(sum(losses) / sum(kept), rel=1e-5)


def test_a_threshold_above_every_perplexity_masks_nothing(data, base, tmp_path):
    objective, plain = begun(masking(data, tmp_path, 1e9), base), SupervisedFineTuning(data, 2)
    assert objective.units(range(9)) == plain.units(range(9))
    loss, _, gradients = steps(objective, base, [9], packed=False)
    expected, _, others = steps(plain, base, [9], packed=False)
    assert loss == expected
    assert all(torch.equal(each, others[name]) for name, each in gradients.items())


def test_an_example_without_a_token_left_has_no_loss(data, base, tmp_path):
    least = max(math.exp(-plain_logprobs(base, data[n])[1].max()) for n in range(9))
    objective = begun(masking(data, tmp_path, least - 1e-3), base)
    (empty, *_) = [n for n in range(9) if objective.trained([n]) == 0]
    assert objective.units([empty]) == 1
    for packed in (True, False):
        base.zero_grad()
        found = objective.loss(base, objective.batch([empty], packed))
        found.value.backward()
        assert found.value.item() == 0
        assert not any(x.grad.any() for x in base.parameters() if x.grad is not None)


def test_a_threshold_that_leaves_nothing_is_refused(data, base, tmp_path):
    with pytest.raises(ConfigError, match=r"training\.stm_perplexity: leaves out all"):
        begun(masking(data, tmp_path, 1.001), base)


def test_the_base_is_asked_once_whatever_the_threshold(data, base, tmp_path, caplog):
    other = AutoModelForCausalLM.from_config(base.config)
    with caplog.at_level(logging.INFO):
        first = begun(masking(data, tmp_path), base)
        second = begun(masking(data, tmp_path, 1e9, batch_size=5), other)
    lines = [each.getMessage() for each in caplog.records if "are trained" in each.getMessage()]
    tokens = int(data.answer_tokens.sum())
    assert lines[0].startswith(f"{first.trained(range(9))} of {tokens} tokens are trained")
    assert second.trained(range(9)) == tokens
    store = ReferenceStore(tmp_path, "tokens")
    assert [each["tokens"] for each in store.computed] == [tokens]
    begun(masking(data, tmp_path), other, name="another base")
    assert len(store.computed) == 2


def test_of_a_mixture_each_sequence_is_asked_about_once(data, base, tmp_path):
    mixture = joined([(data, np.array([7, 2, 2, 7, 7])), (data, np.array([1]))])
    mixed, whole = (begun(masking(each, tmp_path), base) for each in (mixture, data))
    for place, index in enumerate([7, 2, 2, 7, 7, 1]):
        assert mixed.trained([place]) == whole.trained([index])
        ours, theirs = (one.batch([n], False) for one, n in ((mixed, place), (whole, index)))
        assert torch.equal(ours["labels"], theirs["labels"])
    computed = [each["tokens"] for each in ReferenceStore(tmp_path, "tokens").computed]
    of = data.answer_tokens
    assert computed == [of[7] + of[2], of[1], of.sum()]


def test_labels_of_the_data_are_left_alone(data, base, tmp_path):
    before = data.labels.copy()
    begun(masking(data, tmp_path), base).batch(range(9), packed=True)
    assert np.array_equal(data.labels, before)
