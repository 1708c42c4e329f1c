"""The straight path between data and noise, and supervised flow matching along it.

The convention of the whole package, stated here once (it is that of SD3, Flux and diffusers):

    x_sigma = (1 - sigma) x_0 + sigma eps,   x_0 data, eps ~ N(0, 1)
    v       = d x_sigma / d sigma = eps - x_0
    sigma in [0, 1]; sigma = 1 is noise; sampling runs from 1 to 0

`sigma` always holds one value per sample. The word timestep is left to third-party models, which
take 1000 sigma. Source: rectified flow, arXiv 2209.03003; SD3, arXiv 2403.03206, section 2.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def per_sample(values: Float[Tensor, " b"], like: Float[Tensor, " b *latent"]) -> Tensor:
    """Append axes of length one, so that `values` multiplies the samples of `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def noised(
    x_0: Float[Tensor, " b *latent"], eps: Float[Tensor, " b *latent"], sigma: Float[Tensor, " b"]
) -> Float[Tensor, " b *latent"]:
    """x_sigma = (1 - sigma) x_0 + sigma eps."""
    sigma = per_sample(sigma, x_0)
    return (1 - sigma) * x_0 + sigma * eps


def velocity_target(
    x_0: Float[Tensor, " b *latent"], eps: Float[Tensor, " b *latent"]
) -> Float[Tensor, " b *latent"]:
    """v = eps - x_0."""
    return eps - x_0


def to_x0(
    x_sigma: Float[Tensor, " b *latent"],
    velocity: Float[Tensor, " b *latent"],
    sigma: Float[Tensor, " b"],
) -> Float[Tensor, " b *latent"]:
    """x_0 = x_sigma - sigma v: the data end of the straight line through `x_sigma`."""
    return x_sigma - per_sample(sigma, x_sigma) * velocity


def to_eps(
    x_sigma: Float[Tensor, " b *latent"],
    velocity: Float[Tensor, " b *latent"],
    sigma: Float[Tensor, " b"],
) -> Float[Tensor, " b *latent"]:
    """eps = x_sigma + (1 - sigma) v: the noise end of the straight line through `x_sigma`."""
    return x_sigma + (1 - per_sample(sigma, x_sigma)) * velocity


def logit_normal_sigma(
    n: int, mean: float, std: float, generator: torch.Generator
) -> Float[Tensor, " n"]:
    """Draw training sigmas: sigma = sigmoid(mean + std z), z ~ N(0, 1).

    Source: SD3, arXiv 2403.03206, section 3.1. diffusers' `compute_density_for_timestep_sampling`
    indexes a *descending* schedule with the draw, so its mean has the opposite sign.

    Args:
        n: Number of draws.
        mean: Positive means more noise; adding log(shift) applies a schedule's static shift.
        std: Of the logit.
        generator: On the CPU, so that a draw does not depend on the device.
    """
    return torch.sigmoid(mean + std * torch.randn(n, generator=generator))


def flow_matching_loss(
    velocity: Float[Tensor, " b *latent"],
    target: Float[Tensor, " b *latent"],
    weight: Float[Tensor, " b"],
) -> Float[Tensor, " b"]:
    """Loss of each sample: w(sigma) mean_dims (v_theta - v)^2.

    Args:
        velocity: v_theta(x_sigma, sigma, condition); may be of lower precision than the target.
        target: v, float32: `velocity_target`, or a teacher's velocity.
        weight: w(sigma) of each sample; ones give the plain loss.
    """
    return weight * (velocity - target).square().flatten(1).mean(1)
