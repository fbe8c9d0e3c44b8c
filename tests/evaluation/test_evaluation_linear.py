"""A loss in parts is that of all logits: values, gradients, and what is held and made meanwhile."""

import math

import pytest
import torch
from torch.nn import functional as F

from hft_ray.compat.torch_dispatch import TorchDispatchMode
from hft_ray.evaluation import linear
from hft_ray.evaluation.linear import Head, Shaping

POSITIONS, VOCABULARY, WIDTH = 37, 211, 16
SHAPINGS = {
    "plain": Shaping(),
    "scaled": Shaping(scale=0.25),
    "capped": Shaping(cap=3.0),
    "both": Shaping(scale=2.0, cap=5.0),
}


class Made(TorchDispatchMode):
    """Notes the shape of every tensor that is made."""

    def __init__(self):
        super().__init__()
        self.shapes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.shapes |= {tuple(x.shape) for x in [found] if isinstance(x, torch.Tensor)}
        return found


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(linear, "PART_BYTES", 6 * VOCABULARY * 4)
    monkeypatch.setattr(linear, "TRAINED_PART", 1)
    monkeypatch.setattr(linear, "FP32_BYTES", 4 * VOCABULARY * 4)


def parts(bias=False, trained=True, positions=POSITIONS, dtype=torch.float32):
    torch.manual_seed(0)
    hidden = torch.randn(positions, WIDTH).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, WIDTH).to(dtype).requires_grad_(trained)
    bias = torch.randn(VOCABULARY).to(dtype).requires_grad_(trained) if bias else None
    return hidden, weight, bias, torch.randint(VOCABULARY, (positions,))


def whole(hidden, weight, bias, targets, shaping):
    logits = F.linear(hidden, weight, bias).float() * shaping.scale
    if not math.isinf(shaping.cap):
        logits = shaping.cap * torch.tanh(logits / shaping.cap)
    return F.cross_entropy(logits, targets, reduction="none")


def mine_of(head, hidden, targets, summed):
    return head.loss(hidden, targets) if summed else head.losses(hidden, targets)


def differences(mine, theirs):
    return [
        float((a - b).norm() / b.norm()) for a, b in zip(mine, theirs, strict=True) if b is not None
    ]


@pytest.mark.parametrize("summed", [True, False])
@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shaping", SHAPINGS.values(), ids=SHAPINGS)
def test_value_and_gradients_are_those_of_all_logits(shaping, bias, trained, summed):
    hidden, weight, bias, targets = parts(bias, trained)
    wanted = [x for x in (hidden, weight, bias) if x is not None and x.requires_grad]
    expected = whole(hidden, weight, bias, targets, shaping)
    found = mine_of(Head(weight, bias, shaping), hidden, targets, summed)
    # A weight of its own for every position, as in preference optimisation, or one for their sum.
    weights = torch.tensor(0.03) if summed else torch.linspace(-1, 1, POSITIONS)
    assert found.shape == (() if summed else (POSITIONS,))
    torch.testing.assert_close(found, expected.sum() if summed else expected, rtol=1e-6, atol=1e-6)
    theirs = torch.autograd.grad((expected * weights).sum(), wanted)
    mine = torch.autograd.grad((found * weights).sum(), wanted)
    assert max(differences(mine, theirs)) < 1e-6


def test_logits_in_the_place_of_hidden_states():
    hidden, weight, _, targets = parts()
    logits = F.linear(hidden, weight)
    expected = F.cross_entropy(logits, targets, reduction="sum")
    found = Head().loss(logits, targets)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    mine, theirs = (torch.autograd.grad(x, logits, retain_graph=True) for x in (found, expected))
    assert max(differences(mine, theirs)) < 1e-6


@pytest.mark.parametrize("summed", [True, False])
def test_no_gradient_of_a_frozen_head_is_made(summed):
    made = {}
    for trained in (True, False):
        hidden, weight, _, targets = parts(trained=trained)
        with Made() as made[trained]:
            mine_of(Head(weight), hidden, targets, summed).sum().backward()
        assert (weight.grad is not None) == trained
    assert (VOCABULARY, WIDTH) in made[True].shapes
    assert (VOCABULARY, WIDTH) not in made[False].shapes


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("summed", [True, False])
def test_the_logits_of_all_positions_are_never_there(summed, gradients):
    hidden, weight, bias, targets = parts(bias=True)
    head = Head(weight, bias, SHAPINGS["capped"])
    with Made() as made, torch.set_grad_enabled(gradients):
        loss = mine_of(head, hidden, targets, summed).sum()
        if gradients:
            loss.backward()
        for _ in head.logits(hidden):
            pass
    rows = {shape[0] for shape in made.shapes if shape[1:] == (VOCABULARY,)}
    assert max(rows - {WIDTH}) <= 6  # the head's transpose aside


def test_gradients_of_many_parts_in_bf16_are_added_in_fp32():
    *given, targets = parts(bias=True, positions=600, dtype=torch.bfloat16)
    hidden, weight, bias = given
    found = torch.autograd.grad(Head(weight, bias).loss(hidden, targets), given)
    whole_loss = F.cross_entropy(F.linear(*given).float(), targets, reduction="sum")
    in_one = torch.autograd.grad(whole_loss, given)
    exactly = [x.detach().double().requires_grad_() for x in given]
    exact_loss = F.cross_entropy(F.linear(*exactly), targets, reduction="sum")
    exact = torch.autograd.grad(exact_loss, exactly)
    errors, least = (differences([x.double() for x in each], exact) for each in (found, in_one))
    assert all(error < 1.2 * other for error, other in zip(errors, least, strict=True))


def test_no_position_has_no_loss():
    hidden, weight, bias, targets = parts(bias=True, positions=0)
    loss = Head(weight, bias).loss(hidden, targets)
    loss.backward()
    assert loss.item() == 0
    assert not weight.grad.any()
    assert not bias.grad.any()


@pytest.mark.parametrize("shaping", SHAPINGS.values(), ids=SHAPINGS)
def test_logits_come_in_order(shaping):
    hidden, weight, bias, _ = parts(bias=True)
    places, found = zip(*Head(weight, bias, shaping).logits(hidden), strict=True)
    assert [n for place in places for n in range(place.start, place.stop)] == [*range(POSITIONS)]
    expected = shaping(F.linear(hidden, weight, bias))
    torch.testing.assert_close(torch.cat(found), expected, rtol=1e-5, atol=1e-5)
