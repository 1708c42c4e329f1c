"""Drawing captions from given noise, several times each, in batches of like length."""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from uae.models.batches import parts_by_length, parts_of
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.sampling import SamplingConfig


@torch.no_grad()
def redraw(
    model: UnifiedAutoEncoder,
    captions: Sequence[str],
    noise: Float[Tensor, "n c h w"],
    sampling: SamplingConfig,
    micro_batch: int,
) -> Float[Tensor, "n 3 y x"]:
    """Draw each caption `len(noise) / len(captions)` times with the deterministic sampler.

    Args:
        model: Draws.
        captions: Drawn with captions of like length, whatever their order.
        noise: Starting noise; that of one caption stands together.
        sampling: How to draw.
        micro_batch: Images drawn at once; those of one caption are split where they are more.
    """
    repeats = len(noise) // len(captions)
    noise = rearrange(noise, "(p m) c h w -> p m c h w", m=repeats)
    pixels: dict[int, Tensor] = {}
    for rows in parts_by_length(captions, max(1, micro_batch // repeats)):
        conditions = model.condition([captions[i] for i in rows]).repeat_interleave(repeats)
        start = noise[rows].flatten(0, 1)
        drawn = [
            model.draw_conditions(conditions[part], start[part], sampling)
            for part in parts_of(len(start), micro_batch)
        ]
        pixels |= zip(rows, torch.cat(drawn).split(repeats), strict=True)
    return torch.cat([pixels[i] for i in range(len(captions))])
