"""Euler sampling against diffusers' scheduler and closed forms."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from uae.flow.ode import euler_step, ode_sample
from uae.flow.path import per_sample, to_x0
from uae.flow.schedule import sigmas


def field(latents: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Some smooth velocity without symmetry."""
    return torch.sin(3 * latents) + per_sample(sigma, latents) * latents - 0.2


@pytest.mark.parametrize(("num_steps", "shift"), [(1, 1.0), (8, 3.0), (28, 3.0), (40, 1.15)])
def test_equals_diffusers_in_float32(num_steps: int, shift: float):
    noise = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(num_steps)
    theirs = noise
    for t in scheduler.timesteps:
        sigma = (scheduler.sigmas[scheduler.step_index or 0]).expand(3)
        theirs = scheduler.step(field(theirs, sigma), t, theirs).prev_sample
    assert torch.equal(ode_sample(field, noise, sigmas(num_steps, shift)), theirs)


def test_step_equals_diffusers_on_float64_input():
    """diffusers computes in float32 whatever it is given; float64 differs by that rounding."""
    noise = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    v = torch.cos(noise)
    theirs = scheduler.step(v, scheduler.timesteps[0], noise).prev_sample
    sigma, sigma_next = scheduler.sigmas[:2].double()
    ours = euler_step(noise, v, sigma.expand(3), sigma_next.expand(3))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)  # float32 rounding


@pytest.mark.parametrize("num_steps", [1, 3])
def test_straight_paths_are_exact_in_any_number_of_steps(num_steps: int):
    g = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 5, 7, generator=g, dtype=torch.float64)
    end = ode_sample(lambda x, sigma: eps - x_0, eps, sigmas(num_steps, 3.0).double())
    torch.testing.assert_close(end, x_0, atol=1e-6, rtol=0)  # float32 sigmas may start below 1


def test_one_step_is_the_prediction_of_x_0():
    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    v = field(noise, torch.ones(3))
    torch.testing.assert_close(
        ode_sample(field, noise, sigmas(1, 1.0)), to_x0(noise, v, torch.ones(3))
    )


def test_gradient_flows_through_the_sampler():
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    noise = torch.ones(1, 1, dtype=torch.float64)
    schedule = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    ode_sample(lambda x, sigma: scale * x, noise, schedule).sum().backward()
    # x_0 = (1 - scale / 2)^2
    torch.testing.assert_close(scale.grad, torch.tensor(-0.75, dtype=torch.float64))
