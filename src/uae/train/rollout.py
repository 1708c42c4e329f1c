"""Rollouts: captions of images, redraws of captions, rewards of redraws.

Per source image N captions, and M redraws of each. The N captions of an image share their starting
noise (common random numbers), so that a caption's reward differs by its words and not by its luck;
the M redraws of one caption differ in it.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from uae.data.sources import Sample, to_pixels
from uae.flow.noise import stream
from uae.models.encoder import Captions, uniforms
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.sampling import CaptioningConfig
from uae.rewards.similarity import Similarity, cosine


class Rewarder:
    """The reward: a weighted mean of similarities between an image and its redraw."""

    def __init__(self, backbones: dict[str, tuple[Similarity, float]]) -> None:
        self._backbones = backbones
        self._total = sum(weight for _, weight in backbones.values())

    def similarity(
        self, originals: Float[Tensor, "p 3 h w"], redraws: Float[Tensor, "n 3 y x"]
    ) -> Float[Tensor, " n"]:
        """Return the weighted mean cosine, in [-1, 1]; gradients reach the redraws.

        n is a multiple of p, and redraws of one image stand together.
        """
        repeats = len(redraws) // len(originals)
        total = torch.zeros(len(redraws), device=redraws.device)
        for backbone, weight in self._backbones.values():
            wanted = backbone.features(originals).detach().repeat_interleave(repeats, 0)
            total = total + weight / self._total * cosine(wanted, backbone.features(redraws))
        return total

    @torch.no_grad()
    def __call__(
        self, originals: Float[Tensor, "p 3 h w"], redraws: Float[Tensor, "n 3 y x"]
    ) -> Float[Tensor, " n"]:
        """Score redraws. One that is not finite gets NaN, which excludes it: never 0."""
        failed = ~torch.isfinite(redraws.flatten(1)).all(1)
        rewards = self.similarity(originals.to(redraws.device), redraws)
        return rewards.masked_fill(failed, float("nan")).cpu()


def write_captions(
    model: UnifiedAutoEncoder,
    samples: Sequence[Sample],
    config: CaptioningConfig,
    seed: int,
    policy_version: int,
) -> Captions:
    """Sample N captions of each image with the current encoder."""
    generators = [
        stream(seed, "caption", policy_version, sample.name, i)
        for sample in samples
        for i in range(config.num_captions)
    ]
    return model.encoder.sample(
        model.encoder.prompts([sample.image for sample in samples]),
        uniforms(generators, config.max_new_tokens),
        num_captions=config.num_captions,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
        policy_version=policy_version,
    )


def redraw_noise(
    model: UnifiedAutoEncoder,
    samples: Sequence[Sample],
    num_captions: int,
    num_redraws: int,
    seed: int,
    policy_version: int,
) -> Float[Tensor, "n c h w"]:
    """Return starting noise for every redraw, n = images x captions x redraws, in that order."""
    generators = [
        stream(seed, "redraw", policy_version, sample.name, m)
        for sample in samples
        for m in range(num_redraws)
    ]
    noise = rearrange(model.decoder.noise(generators), "(p m) c h w -> p m c h w", m=num_redraws)
    shared = noise[:, None].expand(-1, num_captions, -1, -1, -1, -1)
    return rearrange(shared, "p n m c h w -> (p n m) c h w")


def original_pixels(samples: Sequence[Sample]) -> Float[Tensor, "p 3 h w"]:
    """Stack the images of samples, pixels in [0, 1]."""
    return to_pixels([sample.image for sample in samples])
