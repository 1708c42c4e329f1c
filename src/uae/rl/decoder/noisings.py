"""Noisings of drawn images: sigma and noise, the same for all redraws of a caption.

The noise of the draws then cancels where redraws are compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

from uae.flow.noise import stream
from uae.flow.path import logit_normal_sigma, noised
from uae.rl.decoder.objective import Start


@dataclass(frozen=True, slots=True, kw_only=True)
class Noisings:
    """Drawn images and w noisings of each.

    Attributes:
        x_0: Latents of the drawn images.
        eps: Noise of each noising; the same for all samples of a group.
        sigma: Noise level of each noising, in (0, 1); the same for all samples of a group.
    """

    x_0: Float32[Tensor, " n *latent"]
    eps: Float32[Tensor, "n w *latent"]
    sigma: Float32[Tensor, "n w"]

    @classmethod
    def draw(cls, start: Start, num_noisings: int, latents: Tensor) -> "Noisings":
        """Draw the noisings of a micro-batch of images, from (seed, step, group) alone."""
        groups = [int(group) for group in start.group_id]
        drawn = {
            group: draw_noisings(num_noisings, latents.shape[1:], start.seed, start.step, group)
            for group in set(groups)
        }
        sigma, eps = (
            torch.stack([drawn[group][i] for group in groups]).to(latents.device) for i in (0, 1)
        )
        return cls(x_0=latents.float(), eps=eps, sigma=sigma)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield noisy latents, noise and noise level of one noising after the other."""
        for k in range(self.sigma.shape[1]):
            eps, sigma = self.eps[:, k], self.sigma[:, k]
            yield noised(self.x_0, eps, sigma), eps, sigma


def draw_noisings(
    num_noisings: int, latent_shape: Sequence[int], seed: int, step: int, group: int
) -> tuple[Float32[Tensor, " w"], Float32[Tensor, " w *latent"]]:
    """Draw sigma (logit-normal) and noise for a group, from (seed, step, group) alone."""
    generator = stream(seed, "match", step, group)
    sigma = logit_normal_sigma(num_noisings, 0.0, 1.0, generator)
    return sigma, torch.randn(num_noisings, *latent_shape, generator=generator)
