"""The loop over a user's images: describe, redraw, compare. Seeds follow names, not places.

So an image's caption is the same alone, in a folder, and after a job that was stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from jaxtyping import Float
from torch import Tensor

from uae.core.device import device_of
from uae.data.captions import CaptionRow, Writing
from uae.data.folder import NamedImage
from uae.data.shapes import Size, fitted
from uae.data.sources import to_pixels
from uae.flow.noise import stream
from uae.models.drawing import redraw as redraw_from
from uae.models.unified import UnifiedAutoEncoder
from uae.models.vlm.sampling import caption_stream, uniforms
from uae.rewards.similarity import Similarity, cosine


def load(name: str, device: str) -> UnifiedAutoEncoder:
    """Load a model by folder or preset."""
    return UnifiedAutoEncoder.from_pretrained(name, device_of(device))


@torch.no_grad()
def describe(
    model: UnifiedAutoEncoder,
    items: Sequence[NamedImage],
    writing: Writing,
) -> list[CaptionRow]:
    """Caption images; a temperature of 0 takes the most probable words."""
    limit, temperature = writing.max_new_tokens, writing.temperature
    draws = uniforms([caption_stream(writing.seed, item.name) for item in items], limit)
    captions = model.encoder.sample(
        model.encoder.prompts([item.image for item in items]),
        draws if temperature > 0 else None,
        temperature=temperature or 1.0,
        max_new_tokens=limit,
    )
    return [
        CaptionRow(
            image=item.name,
            caption=text,
            num_tokens=model.conditioner.num_tokens(text),
            is_truncated=truncated,
            **asdict(writing),
        )
        for item, text, truncated in zip(
            items, captions.texts, captions.truncated.tolist(), strict=True
        )
    ]


def redraw(
    model: UnifiedAutoEncoder, rows: Sequence[CaptionRow], seed: int, size: Size
) -> Float[Tensor, "n 3 y x"]:
    """Draw captions by the model's own sampling settings, pixels in [0, 1]."""
    noise = model.decoder.noise([stream(seed, "draw", row.image) for row in rows], size)
    captions = [row.caption for row in rows]
    return redraw_from(model, captions, noise, model.settings.sampling, len(rows))


@torch.no_grad()
def compare(
    backbones: Mapping[str, Similarity],
    items: Sequence[NamedImage],
    redraws: Float[Tensor, "n 3 y x"],
) -> list[dict[str, float]]:
    """Return each image's similarities to its redraw, by backbone."""
    height, width = redraws.shape[-2:]
    originals = to_pixels([fitted(item.image, (height, width)) for item in items])
    columns = {
        name: cosine(backbone.features(originals), backbone.features(redraws)).tolist()
        for name, backbone in backbones.items()
    }
    return [{name: column[i] for name, column in columns.items()} for i in range(len(items))]
