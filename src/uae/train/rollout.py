"""Rollouts: captions of images, and where redraws of captions begin.

Per source image N captions, and M redraws of each. The N captions of an image share their starting
noise (common random numbers), so that a caption's reward differs by its words and not by its luck;
the M redraws of one caption differ in it.
"""

from collections.abc import Sequence

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from uae.data.sources import Sample, to_pixels
from uae.flow.noise import stream
from uae.models.unified import UnifiedAutoEncoder
from uae.models.vlm.encoder import Captions
from uae.models.vlm.family import Prompts
from uae.models.vlm.sampling import uniforms
from uae.recipe.sampling import CaptioningConfig


def shown(model: UnifiedAutoEncoder, samples: Sequence[Sample]) -> Prompts:
    """Prepare the images of a step, once for all that looks at them."""
    encoder = model.encoder
    return encoder.family.see(encoder.prompts([sample.image for sample in samples]))


def write_captions(
    model: UnifiedAutoEncoder,
    prompts: Prompts,
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
        prompts,
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
