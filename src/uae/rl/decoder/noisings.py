"""Noisings of drawn images: sigma and noise, the same for all redraws of a caption.

The noise of the draws then cancels where redraws are compared.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from uae.flow.noise import stream
from uae.flow.path import logit_normal_sigma
from uae.rl.decoder.objective import Start


def noisings_of(
    start: Start, num_noisings: int, like: Float[Tensor, " n *latent"]
) -> tuple[Float32[Tensor, "n w"], Float32[Tensor, "n w *latent"]]:
    """Return sigma and noise of w noisings of each of n images."""
    groups = [int(group) for group in start.group_id]
    drawn = {
        group: draw_noisings(num_noisings, like.shape[1:], start.seed, start.step, group)
        for group in set(groups)
    }
    sigma, eps = (
        torch.stack([drawn[group][i] for group in groups]).to(like.device) for i in (0, 1)
    )
    return sigma, eps


def draw_noisings(
    num_noisings: int, latent_shape: Sequence[int], seed: int, step: int, group: int
) -> tuple[Float32[Tensor, " w"], Float32[Tensor, " w *latent"]]:
    """Draw sigma (logit-normal) and noise for a group, from (seed, step, group) alone."""
    generator = stream(seed, "match", step, group)
    sigma = logit_normal_sigma(num_noisings, 0.0, 1.0, generator)
    return sigma, torch.randn(num_noisings, *latent_shape, generator=generator)
