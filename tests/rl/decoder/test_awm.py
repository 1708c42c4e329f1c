"""The formulas of AWM, in closed form."""

import pytest
import torch

from uae.flow.path import flow_matching_loss, noised, velocity_target
from uae.recipe.decoder_rl import AwmConfig, NftConfig
from uae.rl.decoder.awm import matching_log_prob, velocity_kl
from uae.rl.decoder.noisings import Noisings, draw_noisings
from uae.rl.decoder.objective import Start
from uae.rl.objective import flow_loss


def latents(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, 3, 3, generator=generator, dtype=torch.float64)


def test_a_perfect_velocity_has_the_highest_likelihood():
    x_0, eps = latents(3), latents(3, 1)
    right = velocity_target(x_0, eps)
    assert torch.equal(matching_log_prob(right, x_0, eps), torch.zeros(3, dtype=torch.float64))
    off = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(
        matching_log_prob(right + off[:, None, None, None], x_0, eps), -(off**2)
    )


def test_distance_to_the_reference_is_a_mean_square():
    v = latents(2)
    torch.testing.assert_close(velocity_kl(v, v - 3), torch.full((2,), 9.0, dtype=torch.float64))


@pytest.mark.parametrize("settings", [AwmConfig(), NftConfig()])
def test_noisings_depend_on_seed_step_and_group_alone(settings):
    def noisings(seed, step, groups):
        noise = torch.zeros(len(groups), 2, 3, 3)
        start = Start(noise, torch.ones(2), torch.tensor(groups), range(len(groups)), seed, step)
        return Noisings.draw(start, settings, noise)

    first = noisings(1, 5, [0, 0, 3])
    assert torch.equal(first.eps[0], first.eps[1])
    assert torch.equal(first.sigma[0], first.sigma[1])
    for other in (noisings(2, 5, [0]), noisings(1, 6, [0]), noisings(1, 5, [1])):
        assert not torch.equal(other.eps[0], first.eps[0])
    assert torch.equal(noisings(1, 5, [3]).eps[0], first.eps[2])


@pytest.mark.parametrize("min_sigma", [0.0, 0.75, 0.999])
def test_noise_levels_lie_in_equal_parts_up_to_1(min_sigma):
    sigma = torch.stack(
        [
            draw_noisings(4, min_sigma, (1, 1, 1), torch.Generator().manual_seed(i))[0]
            for i in range(50)
        ]
    )
    part = (1 - min_sigma) / 4
    edges = min_sigma + part * torch.arange(5)
    assert (sigma >= edges[:4] - 1e-6).all()
    assert (sigma <= edges[1:] + 1e-6).all()
    assert (sigma.std(0) > part / 5).all()


def test_the_gradient_is_that_of_the_loss_weighted_by_advantages():
    """Before the first update r = 1, so d L = -mean A d log p = mean A d L_matching."""
    x_0, eps, sigma = latents(4), latents(4, 1), torch.full((4,), 0.4, dtype=torch.float64)
    advantages = torch.tensor([1.0, -1.0, 0.5, -0.5], dtype=torch.float64)
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    velocity = scale * noised(x_0, eps, sigma)
    log_probs = matching_log_prob(velocity, x_0, eps)[:, None]
    loss, _ = flow_loss(log_probs, log_probs.detach(), advantages, 4, clip_low=1e-3, clip_high=1e-3)
    (ours,) = torch.autograd.grad(loss, scale, retain_graph=True)
    matching = flow_matching_loss(velocity, velocity_target(x_0, eps), torch.ones(4).double())
    (expected,) = torch.autograd.grad((advantages * matching).mean(), scale)
    torch.testing.assert_close(ours, expected)
