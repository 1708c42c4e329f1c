"""Deterministic sampling: Euler steps of d x / d sigma = v(x, sigma), from noise to data.

The samplers are free functions over any velocity, and differentiable: the cold start
back-propagates through `ode_sample`. Golden reference: diffusers'
`FlowMatchEulerDiscreteScheduler.step`.
"""

from collections.abc import Callable
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from uae.flow.path import per_sample

Velocity = Callable[[Tensor, Tensor], Tensor]
"""v(latents (b, ...), sigma (b)) -> (b, ...); condition and guidance are bound inside it."""


def euler_step(
    latents: Float[Tensor, " b *latent"],
    velocity: Float[Tensor, " b *latent"],
    sigma: Float[Tensor, " b"],
    sigma_next: Float[Tensor, " b"],
) -> Float[Tensor, " b *latent"]:
    """x_next = x + (sigma_next - sigma) v."""
    return latents + per_sample(sigma_next - sigma, latents) * velocity


def ode_sample(
    velocity: Velocity, noise: Float[Tensor, " b *latent"], sigmas: Float[Tensor, " t"]
) -> Float[Tensor, " b *latent"]:
    """Integrate the flow from `noise` along decreasing `sigmas`.

    Args:
        velocity: The field to follow.
        noise: Latents at sigmas[0]; float32, whatever precision the velocity comes in.
        sigmas: From `schedule.sigmas`.
    """
    latents = noise
    for sigma, sigma_next in pairwise(sigmas.to(noise.device).unsqueeze(1)):
        sigma, sigma_next = sigma.expand(len(noise)), sigma_next.expand(len(noise))
        latents = euler_step(latents, velocity(latents, sigma), sigma, sigma_next)
    return latents
