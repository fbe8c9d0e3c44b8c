"""AdamW over bf16 weights with Kahan summation, against torch's AdamW over fp32 ones."""

import pytest
import torch

from hft_ray.training.kahan import COMPENSATION, KahanAdamW

BETAS = (0.9, 0.99)
RATE = 1e-5


def trained(optimizer, weight, steps):
    """Make steps on a gradient that pulls to 3, with a noise that is always the same."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        noise = torch.randn(weight.shape, generator=generator)
        with torch.no_grad():
            weight.grad = (weight.float() - 3 + noise).to(weight.dtype)
        optimizer.step()
    return weight.detach().float()


def weights(dtype):
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)).bfloat16()
    return torch.nn.Parameter(values.to(dtype))


@pytest.mark.parametrize("decay", [0.0, 10.0])
def test_small_steps_add_up_as_in_fp32(decay):
    """Each of these steps alone changes a bf16 weight near 1 by nothing."""
    exact, lean, plain = weights(torch.float32), weights(torch.bfloat16), weights(torch.bfloat16)
    start, arguments = exact.detach().clone(), {"betas": BETAS, "weight_decay": decay}
    expected = trained(torch.optim.AdamW([exact], RATE, **arguments), exact, 200)
    optimizer = KahanAdamW([lean], RATE, **arguments)
    trained(optimizer, lean, 200)
    found = lean.detach().float() + optimizer.state[lean][COMPENSATION].float()
    moved = (expected - start).abs().mean()
    assert (found - expected).abs().mean() < 0.1 * moved
    lost = trained(torch.optim.AdamW([plain], RATE, **arguments), plain, 200)
    assert (lost - expected).abs().mean() > 0.5 * moved


def test_a_compensation_is_what_the_weight_lacks():
    weight = weights(torch.bfloat16)
    optimizer = KahanAdamW([weight], 1e-3, betas=BETAS)
    trained(optimizer, weight, 50)
    left = optimizer.state[weight][COMPENSATION]
    # Adding it once more changes nothing: no weight is off by more than half of its last place.
    assert torch.equal(weight + left, weight)
    assert left.count_nonzero() > 0.9 * left.numel()


def test_states_take_six_bytes_a_weight():
    weight = weights(torch.bfloat16)
    optimizer = KahanAdamW([weight], RATE, betas=BETAS)
    trained(optimizer, weight, 1)
    state = optimizer.state[weight]
    assert set(state) == {"step", "exp_avg", "exp_avg_sq", COMPENSATION}
    assert sum(each.nbytes for each in state.values()) == 6 * weight.numel() + 4


def test_what_has_no_gradient_stays():
    weight = weights(torch.bfloat16)
    before = weight.detach().clone()
    optimizer = KahanAdamW([weight], RATE, betas=BETAS, weight_decay=10.0)
    optimizer.step()
    assert torch.equal(weight, before)
    assert not optimizer.state
