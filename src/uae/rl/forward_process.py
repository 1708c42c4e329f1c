"""Advantage-weighted matching: policy optimisation on the forward process.

The log-probability of a drawn image is replaced by minus its flow-matching loss,
    log p(x_0) ~ -mean_dims || v_theta(x_sigma, sigma) - (eps - x_0) ||^2,
so that any sampler may have drawn it, and nothing of the sampling path is kept. The policy
objective over it (`objective.flow_loss`) is pre-training's loss weighted by advantages.

Source: AWM, arXiv 2509.25050. All samples of a group share sigma and eps, on which the paper is
silent: the noise of the draws then cancels where samples are compared.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from uae.flow.noise import stream
from uae.flow.path import flow_matching_loss, logit_normal_sigma, velocity_target
from uae.flow.rollout import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching(Rollout):
    """Drawn images and w noisings of each: what is needed to score them again.

    Attributes:
        x_0: Latents of the drawn images.
        eps: Noise of each noising; the same for all samples of a group.
        sigma: Noise level of each noising, in (0, 1); the same for all samples of a group.
    """

    x_0: Float32[Tensor, " n *latent"]
    eps: Float32[Tensor, "n w *latent"]
    sigma: Float32[Tensor, "n w"]


def draw_noisings(
    num_noisings: int, latent_shape: tuple[int, ...], seed: int, step: int, group: int
) -> tuple[Float32[Tensor, " w"], Float32[Tensor, " w *latent"]]:
    """Draw sigma (logit-normal) and noise for a group, from (seed, step, group) alone."""
    generator = stream(seed, "match", step, group)
    sigma = logit_normal_sigma(num_noisings, 0.0, 1.0, generator)
    return sigma, torch.randn(num_noisings, *latent_shape, generator=generator)


def matching_log_prob(
    velocity: Float[Tensor, " n *latent"],
    x_0: Float[Tensor, " n *latent"],
    eps: Float[Tensor, " n *latent"],
) -> Float[Tensor, " n"]:
    """-mean_dims || v_theta - (eps - x_0) ||^2, in place of log p(x_0)."""
    return -flow_matching_loss(velocity, velocity_target(x_0, eps), velocity.new_ones(len(x_0)))


def velocity_kl(
    velocity: Float[Tensor, " n *latent"], reference: Float[Tensor, " n *latent"]
) -> Float[Tensor, " n"]:
    """mean_dims || v_theta - v_ref ||^2: distance to the reference in the loss's units."""
    return (velocity - reference).square().flatten(1).mean(1)
