"""Flow-matching path: round trips, targets and the supervised loss, in float64 where exact."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uae.flow import path
from uae.flow.schedule import shifted

SIGMA = torch.tensor([0.0, 0.3, 0.8, 1.0], dtype=torch.float64)


def pair(shape: tuple[int, ...] = (4, 2, 3, 3)) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return (
        torch.randn(shape, generator=g, dtype=torch.float64),
        torch.randn(shape, generator=g, dtype=torch.float64),
    )


def test_ends_are_data_and_noise():
    x_0, eps = pair()
    x_sigma = path.noised(x_0, eps, SIGMA)
    assert torch.equal(x_sigma[0], x_0[0])
    assert torch.equal(x_sigma[3], eps[3])


def test_velocity_is_the_slope_of_the_path():
    x_0, eps = pair()
    low, high = torch.full_like(SIGMA, 0.2), torch.full_like(SIGMA, 0.7)
    slope = (path.noised(x_0, eps, high) - path.noised(x_0, eps, low)) / 0.5
    torch.testing.assert_close(path.velocity_target(x_0, eps), slope)


@settings(deadline=None, max_examples=30)
@given(sigma=st.floats(0, 1), seed=st.integers(0, 1000), ndim=st.integers(0, 3))
def test_round_trip(sigma: float, seed: int, ndim: int):
    g = torch.Generator().manual_seed(seed)
    x_0 = torch.randn(3, *[2] * ndim, generator=g, dtype=torch.float64)
    eps = torch.randn(3, *[2] * ndim, generator=g, dtype=torch.float64)
    sigmas = torch.full((3,), sigma, dtype=torch.float64)
    x_sigma, v = path.noised(x_0, eps, sigmas), path.velocity_target(x_0, eps)
    # 1e-12: a few roundings of float64 values of order one
    torch.testing.assert_close(path.to_x0(x_sigma, v, sigmas), x_0, atol=1e-12, rtol=0)
    torch.testing.assert_close(path.to_eps(x_sigma, v, sigmas), eps, atol=1e-12, rtol=0)


def test_loss_is_weight_times_mean_square_per_sample():
    x_0, eps = pair()
    weight = torch.tensor([1.0, 2.0, 0.0, 0.5], dtype=torch.float64)
    error = torch.arange(1.0, 5.0, dtype=torch.float64)
    velocity = eps - x_0 + path.per_sample(error, x_0)
    loss = path.flow_matching_loss(velocity, path.velocity_target(x_0, eps), weight)
    torch.testing.assert_close(loss, weight * error**2)


def test_loss_of_low_precision_velocity_is_float32():
    x_0, eps = (x.float() for x in pair())
    loss = path.flow_matching_loss((eps - x_0).bfloat16(), eps - x_0, torch.ones(4))
    assert loss.dtype == torch.float32


def test_logit_normal_moments_and_repeatability():
    sigma = path.logit_normal_sigma(20_000, 0.5, 0.8, torch.Generator().manual_seed(1))
    logit = sigma.logit()
    # 0.03: five standard errors of the mean, 0.8 / sqrt(20000) each
    assert abs(logit.mean().item() - 0.5) < 0.03
    assert abs(logit.std().item() - 0.8) < 0.03
    again = path.logit_normal_sigma(20_000, 0.5, 0.8, torch.Generator().manual_seed(1))
    assert torch.equal(sigma, again)


def test_mean_log_shift_is_the_schedule_shift():
    plain = path.logit_normal_sigma(100, 0.0, 1.0, torch.Generator().manual_seed(2))
    moved = path.logit_normal_sigma(100, math.log(3), 1.0, torch.Generator().manual_seed(2))
    torch.testing.assert_close(moved, shifted(plain, 3.0))
