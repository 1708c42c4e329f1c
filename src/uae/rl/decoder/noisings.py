"""Noisings of drawn images: sigma and noise, the same for all redraws of a caption.

The noise of the draws then cancels where redraws are compared.

They lie at high noise levels. A sampler of few steps draws images that differ less from each other
than the decoder's predictions do: seeing a bright one under little noise, the decoder expects a
brighter one still. Matching the image then moves the decoder against what was preferred. Under much
noise the prediction is a mean over many images, and matching moves it to the preferred ones
(measured in docs/log.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from uae.flow.noise import stream
from uae.flow.path import noised
from uae.recipe.decoder_rl import AwmConfig, NftConfig
from uae.rl.decoder.objective import Start


@dataclass(frozen=True, slots=True, kw_only=True)
class Noisings:
    """Drawn images and w noisings of each.

    Attributes:
        x_0: Latents of the drawn images.
        eps: Noise of each noising; the same for all samples of a group.
        sigma: Noise level of each noising, `min_sigma` to 1; the same for all samples of a group.
    """

    x_0: Float32[Tensor, " n *latent"]
    eps: Float32[Tensor, "n w *latent"]
    sigma: Float32[Tensor, "n w"]

    @classmethod
    def draw(
        cls, start: Start, settings: AwmConfig | NftConfig, latents: Float[Tensor, " n *latent"]
    ) -> "Noisings":
        """Draw the noisings of a micro-batch of images, from (seed, step, group) alone."""
        groups = [int(group) for group in start.group_id]
        drawn = {
            group: draw_noisings(
                settings.num_noisings,
                settings.min_sigma,
                latents.shape[1:],
                stream(start.seed, "match", start.step, group),
            )
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
    num_noisings: int, min_sigma: float, latent_shape: Sequence[int], generator: torch.Generator
) -> tuple[Float32[Tensor, " w"], Float32[Tensor, " w *latent"]]:
    """Draw sigma and noise for a group; one sigma in each of w equal parts of min_sigma .. 1."""
    place = (
        torch.arange(num_noisings) + torch.rand(num_noisings, generator=generator)
    ) / num_noisings
    noise = torch.randn(num_noisings, *latent_shape, generator=generator)
    return min_sigma + (1 - min_sigma) * place, noise
