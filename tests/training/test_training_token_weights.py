"""Weighed losses are those of a plain float64 computation, and what the limits must give."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hft_ray.evaluation import linear
from hft_ray.evaluation.linear import Head, Shaping, Terms
from hft_ray.training.token_weights import WEIGHTS, Weighing

POSITIONS, VOCABULARY, WIDTH = 23, 97, 12


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(linear, "PART_BYTES", 6 * VOCABULARY * 4)
    monkeypatch.setattr(linear, "TRAINED_PART", 1)
    monkeypatch.setattr(linear, "FP32_BYTES", 4 * VOCABULARY * 4)


def plain_weights(kind, logits, targets):
    """Return the weights as the papers write them, from float64 logits; no gradient."""
    p = logits.detach().softmax(dim=-1)
    if kind == "dft":
        return p[torch.arange(len(targets)), targets]
    top = p.sort(dim=-1, descending=True).values[:, :20]
    top = top / top.sum(dim=-1, keepdim=True)
    return -(top * top.log()).sum(dim=-1) / math.log(20)


def plain_loss(kind, hidden, weight, bias, targets, shaping):
    logits = F.linear(hidden, weight, bias) * shaping.scale
    if not math.isinf(shaping.cap):
        logits = shaping.cap * torch.tanh(logits / shaping.cap)
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (plain_weights(kind, logits, targets) * losses).sum()


def parts(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = (POSITIONS, WIDTH), (VOCABULARY, WIDTH), (VOCABULARY,)
    given = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return given, torch.randint(VOCABULARY, (POSITIONS,), generator=generator)


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("shaping", [Shaping(), Shaping(scale=0.5), Shaping(cap=4.0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_gradients_are_those_of_the_papers_equation(kind, shaping, seed):
    given, targets = parts(seed)
    exactly = [x.requires_grad_() for x in given]
    expected = plain_loss(kind, *exactly, targets, shaping)
    theirs = torch.autograd.grad(expected, exactly)
    hidden, weight, bias = (x.detach().float().requires_grad_() for x in given)
    found = Head(weight, bias, shaping).loss(hidden, targets, Terms(Weighing(kind)))
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    mine = torch.autograd.grad(found, (hidden, weight, bias))
    for ours, other in zip(mine, theirs, strict=True):
        assert (ours.double() - other).norm() <= 1e-6 * other.norm()


@pytest.mark.parametrize("kind", WEIGHTS)
def test_sums_beside_the_loss_are_its_mean_parts(kind):
    (hidden, weight, bias), targets = parts(2)
    weighing = Weighing(kind)
    Head(weight.float(), bias.float()).loss(hidden.float(), targets, Terms(weighing))
    logits = F.linear(hidden, weight, bias)
    weights = plain_weights(kind, logits, targets).sum().item()
    assert weighing.sums["token_weight"].item() == pytest.approx(weights, rel=1e-5)
    plain = F.cross_entropy(logits, targets, reduction="sum").item()
    assert weighing.sums["cross_entropy"].item() == pytest.approx(plain, rel=1e-5)


def weights_of(kind, logits, target):
    logprobs = torch.tensor([logits]).log_softmax(dim=-1)
    return WEIGHTS[kind](logprobs, logprobs[:, target]).item()


def test_weights_by_hand():
    assert weights_of("dft", [0.0, 0.0, 0.0, 0.0], 2) == pytest.approx(1 / 4)
    assert weights_of("dft", [math.log(3), 0.0], 0) == pytest.approx(3 / 4)
    # Of fewer tokens than 20 the entropy is that of all, and uniform is 1.
    assert weights_of("eaft", [0.0] * 5, 0) == pytest.approx(1)
    assert weights_of("eaft", [0.0] * 64, 0) == pytest.approx(1)
    assert weights_of("eaft", [math.log(3), 0.0], 1) == pytest.approx(0.8112781)  # bits of 3/4
    # The target plays no part in it, nor do tokens beyond the 20 likeliest.
    assert weights_of("eaft", [5.0] * 20 + [4.0] * 40, 50) == pytest.approx(1)
    assert weights_of("eaft", [1000.0, *[0.0] * 30], 7) == 0.0


@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_token_of_weight_0_is_not_trained(kind):
    # One token has all of the probability, and another one followed.
    hidden = torch.tensor([[1000.0]], requires_grad=True)
    weight = torch.zeros(30, 1)
    weight[0] = 1.0
    Head(weight).loss(hidden, torch.tensor([3]), Terms(Weighing(kind))).backward()
    assert hidden.grad.item() == 0.0


@pytest.mark.parametrize("kind", WEIGHTS)
def test_one_token_and_none(kind):
    (hidden, weight, _), targets = parts(3)
    hidden, weight = hidden.float(), weight.float()
    each = [
        Head(weight).loss(hidden[[n]], targets[[n]], Terms(Weighing(kind)))
        for n in range(POSITIONS)
    ]
    whole = Head(weight).loss(hidden, targets, Terms(Weighing(kind)))
    assert whole.item() == pytest.approx(float(np.sum([x.item() for x in each])), rel=1e-5)
    nothing = Weighing(kind)
    assert Head(weight).loss(hidden[:0], targets[:0], Terms(nothing)).item() == 0
    assert {name: x.item() for name, x in nothing.sums.items()} == {
        "cross_entropy": 0,
        "token_weight": 0,
    }


@pytest.mark.parametrize("kind", WEIGHTS)
def test_in_bf16_the_error_is_that_of_the_plain_loss(kind):
    (hidden, weight, _), targets = parts(4)

    def error(weigh, scale):
        exactly = hidden.clone().requires_grad_()
        logits = F.linear(exactly, weight)
        losses = F.cross_entropy(logits, targets, reduction="none")
        (losses * scale(logits)).sum().backward()
        rough = hidden.bfloat16().requires_grad_()
        Head(weight.bfloat16()).loss(rough, targets, Terms(weigh)).backward()
        return float((rough.grad.double() - exactly.grad).norm() / exactly.grad.norm())

    mine = error(Weighing(kind), lambda logits: plain_weights(kind, logits, targets))
    assert mine < 3 * error(None, lambda logits: 1.0) + 0.01
