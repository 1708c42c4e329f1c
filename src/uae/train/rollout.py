"""Rollouts: captions of images, and where redraws of captions begin.

Per source image N captions, and M redraws of each. The N captions of an image share their starting
noise (common random numbers), so that a caption's reward differs by its words and not by its luck;
the M redraws of one caption differ in it, unless the decoder's objective shares it too.
"""

from collections.abc import Sequence

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from uae.data.shapes import Size
from uae.data.sources import Sample, to_pixels
from uae.flow.noise import stream
from uae.models.vlm.encoder import Captions
from uae.models.vlm.family import Prompts
from uae.models.vlm.sampling import uniforms
from uae.recipe.sampling import CaptioningConfig
from uae.train.session import Session


def write_captions(
    session: Session, samples: Sequence[Sample], config: CaptioningConfig
) -> tuple[Prompts, Captions]:
    """Sample N captions of each image with the current encoder.

    Returns:
        The images, prepared once for all that looks at them, and the captions.
    """
    encoder, n = session.model.encoder, config.num_captions
    prompts = encoder.family.see(encoder.prompts([sample.image for sample in samples]))
    generators = [
        stream(session.seed, "caption", session.step, sample.name, i)
        for sample in samples
        for i in range(n)
    ]
    captions = encoder.sample(
        prompts,
        uniforms(generators, config.max_new_tokens),
        num_captions=n,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
        policy_version=session.step,
    )
    return prompts, captions


def redraw_noise(
    session: Session,
    samples: Sequence[Sample],
    num_captions: int,
    num_redraws: int,
    *,
    is_shared: bool = False,
) -> Float[Tensor, "n c h w"]:
    """Return starting noise for every redraw, n = images x captions x redraws, in that order.

    With `is_shared` all redraws of an image start from the first one's.
    """
    generators = [
        stream(session.seed, "redraw", session.step, sample.name, 0 if is_shared else m)
        for sample in samples
        for m in range(num_redraws)
    ]
    noise = session.model.decoder.noise(generators, size_of(samples))
    noise = rearrange(noise, "(p m) c h w -> p m c h w", m=num_redraws)
    shared = noise[:, None].expand(-1, num_captions, -1, -1, -1, -1)
    return rearrange(shared, "p n m c h w -> (p n m) c h w")


def size_of(samples: Sequence[Sample]) -> Size:
    """Return the height and width in pixels of what is drawn; samples of a step have one shape."""
    target = samples[0].target
    return target.height, target.width


def original_pixels(samples: Sequence[Sample]) -> Float[Tensor, "p 3 h w"]:
    """Stack what is to be drawn of samples, pixels in [0, 1]."""
    return to_pixels([sample.target for sample in samples])
