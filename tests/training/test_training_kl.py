"""The penalty towards the base is that of a plain float64 computation, and its error as stated."""

import math

import pytest
import torch
from torch.nn import functional as F

from hft_ray.evaluation import linear
from hft_ray.evaluation.linear import Head, Shaping, Terms
from hft_ray.training.kl_to_base import KlToBase, forward, look_for, reverse
from hft_ray.training.loss import BASE
from hft_ray.training.token_weights import Weighing

POSITIONS, VOCABULARY, WIDTH = 23, 97, 12
DIRECTIONS = {"forward": forward, "reverse": reverse}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(linear, "PART_BYTES", 6 * VOCABULARY * 4)
    monkeypatch.setattr(linear, "TRAINED_PART", 1)
    monkeypatch.setattr(linear, "FP32_BYTES", 4 * VOCABULARY * 4)


def fields(logits, top):
    """Return what a batch has of the base's logits."""
    rows = look_for(top)(logits, torch.zeros(len(logits), dtype=torch.long))
    return {name: torch.from_numpy(rows[name].copy()) for name in BASE}


def joined(logprobs, tokens):
    """Return log-probabilities of ``tokens``, and of all others together, [P, K + 1]."""
    others = torch.ones_like(logprobs, dtype=torch.bool).scatter(-1, tokens, False)
    rest = logprobs.exp().where(others, 0.0).sum(dim=-1, keepdim=True).log()
    return torch.cat([logprobs.gather(-1, tokens), rest], dim=-1)


def plain(direction, p, q):
    """Return the divergence of each position from log-probabilities, [P]."""
    first, second = (p, q) if direction == "forward" else (q, p)
    return (first.exp() * (first - second)).where(first > -math.inf, 0.0).sum(dim=-1)


def random(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("top", [1, 7, VOCABULARY - 1])
@pytest.mark.parametrize("shaping", [Shaping(), Shaping(scale=0.5), Shaping(cap=4.0)])
@pytest.mark.parametrize("weights", [None, "dft"])
def test_value_and_gradients_are_those_of_the_equation(direction, top, shaping, weights):
    shapes = (POSITIONS, WIDTH), (VOCABULARY, WIDTH), (VOCABULARY,), (POSITIONS, VOCABULARY)
    *given, base = random(top, *shapes)
    targets = torch.arange(POSITIONS)
    exactly = [x.requires_grad_() for x in given]
    logits = F.linear(*exactly) * shaping.scale
    if not math.isinf(shaping.cap):
        logits = shaping.cap * torch.tanh(logits / shaping.cap)
    logprobs = logits.log_softmax(dim=-1)
    there = base.log_softmax(dim=-1)
    tokens = there.topk(top, dim=-1).indices
    divergence = plain(direction, joined(there, tokens), joined(logprobs, tokens))
    losses = -logprobs[torch.arange(POSITIONS), targets]
    if weights:
        losses = losses * (-losses).exp().detach()
    expected = (losses + 0.7 * divergence).sum()
    theirs = torch.autograd.grad(expected, exactly)

    hidden, weight, bias = (x.detach().float().requires_grad_() for x in given)
    penalty = KlToBase(fields(base, top), 0.7, direction)
    terms = Terms(Weighing(weights) if weights else None, penalty)
    found = Head(weight, bias, shaping).loss(hidden, targets, terms)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert penalty.sums["kl_to_base"].item() == pytest.approx(divergence.sum().item(), rel=1e-5)
    mine = torch.autograd.grad(found, (hidden, weight, bias))
    for ours, other in zip(mine, theirs, strict=True):
        # Of positions whose gradients cancel, rounding is left.
        assert (ours.double() - other).norm() <= 1e-6 * max(other.norm(), 1)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("top", [1, 7, 60])
def test_what_joining_leaves_out_is_as_stated(direction, top):
    p, q = (x.log_softmax(dim=-1) for x in random(5, (9, VOCABULARY), (9, VOCABULARY)))
    held = fields(p, top)
    tokens = held["base_tokens"].long()
    values, _ = DIRECTIONS[direction](q.float(), tokens, held["base_logprobs"], held["base_rest"])
    others = torch.ones_like(p, dtype=torch.bool).scatter(-1, tokens, False)
    within = [x[others].view(9, -1).log_softmax(dim=-1) for x in (p, q)]
    share = (p if direction == "forward" else q).exp().where(others, 0.0).sum(dim=-1)
    left_out = share * plain(direction, *within)
    assert (left_out > 0).all()
    torch.testing.assert_close(
        values.double() + left_out, plain(direction, p, q), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("top", [VOCABULARY, 10 * VOCABULARY])
def test_of_all_tokens_it_is_the_divergence(direction, top):
    base, own = random(6, (4, VOCABULARY), (4, VOCABULARY))
    held = fields(base, top)
    p, q = (x.log_softmax(dim=-1) for x in (base, own))
    assert held["base_tokens"].shape == (4, VOCABULARY)
    assert torch.isneginf(held["base_rest"]).all()
    logits = own.float().requires_grad_()
    found = Head().loss(logits, torch.arange(4), Terms(anchor=KlToBase(held, 1.0, direction)))
    expected = plain(direction, p, q).sum() - q.diagonal().sum()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    found.backward()
    assert torch.isfinite(logits.grad).all()


def of(direction, base, own, top):
    """Return divergence and gradient of one position, given probabilities."""
    held = fields(torch.tensor([base]).log(), top)
    values, slopes = DIRECTIONS[direction](
        torch.tensor([own]).log(),
        held["base_tokens"].long(),
        held["base_logprobs"],
        held["base_rest"],
    )
    return values.item(), slopes[0].tolist()


def test_by_hand():
    near = {"abs": 1e-6}
    value, slopes = of("forward", [0.75, 0.25], [0.5, 0.5], 1)
    assert value == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), **near)
    assert slopes == pytest.approx([-0.25, 0.25], **near)
    value, slopes = of("reverse", [0.75, 0.25], [0.5, 0.5], 1)
    assert value == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2), **near)
    spread = 0.25 * (math.log(2) - math.log(2 / 3))
    assert slopes == pytest.approx([-spread, spread], **near)
    # Whatever stands among the joined ones, together they are as likely as the base has them.
    for direction in DIRECTIONS:
        value, slopes = of(direction, [0.6, 0.3, 0.1], [0.6, 0.1, 0.3], 1)
        assert value == pytest.approx(0, **near)
        assert slopes == pytest.approx([0, 0, 0], **near)
        value, slopes = of(direction, [0.25] * 4, [0.25] * 4, 2)
        assert (value, slopes) == (pytest.approx(0, **near), pytest.approx([0] * 4, **near))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("sure", ["base", "own", "both"])
@pytest.mark.parametrize("lead", [60.0, 300.0])
def test_numbers_stay_finite_where_one_token_has_everything(direction, sure, lead):
    logits = {"base": torch.zeros(1, 50), "own": torch.zeros(1, 50)}
    if sure in ("base", "both"):
        logits["base"][0, 3] = lead
    if sure in ("own", "both"):
        logits["own"][0, 4] = lead
    held = fields(logits["base"], 5)
    values, slopes = DIRECTIONS[direction](
        logits["own"].log_softmax(dim=-1),
        held["base_tokens"].long(),
        held["base_logprobs"],
        held["base_rest"],
    )
    assert torch.isfinite(values).all()
    assert torch.isfinite(slopes).all()
    if lead < 80:  # beyond, the mass of the other tokens underflows in fp32
        assert slopes.sum().item() == pytest.approx(0, abs=1e-4)
