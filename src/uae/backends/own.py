"""The loop over a user's images: describe, redraw, compare. Seeds follow names, not places.

So an image's caption is the same alone, in a folder, and after a job that was stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from uae.core.device import device_of
from uae.data.captions import CaptionRow, Writing
from uae.data.folder import NamedImage
from uae.data.shapes import buckets_of, fitted
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
    model: UnifiedAutoEncoder,
    rows: Sequence[CaptionRow],
    images: Sequence[Image.Image],
    seed: int,
) -> list[Float[Tensor, "3 _ _"]]:
    """Draw captions in the shapes of their images, by the model's own sampling settings."""
    pixels: dict[int, Tensor] = {}
    for bucket in buckets_of([model.decoder.shapes.of_image(image) for image in images], least=1):
        those = [rows[i] for i in bucket.indices]
        noise = model.decoder.noise([stream(seed, "draw", row.image) for row in those], bucket.size)
        captions, sampling = [row.caption for row in those], model.settings.sampling
        drawn = redraw_from(model, captions, noise, sampling, len(those))
        pixels |= zip(bucket.indices, drawn, strict=True)
    return [pixels[i] for i in range(len(rows))]


@torch.no_grad()
def compare(
    backbones: Mapping[str, Similarity],
    items: Sequence[NamedImage],
    redraws: Sequence[Float[Tensor, "3 _ _"]],
) -> list[dict[str, float]]:
    """Return each image's similarities to its redraw, by backbone."""
    sizes = [(redraw.shape[1], redraw.shape[2]) for redraw in redraws]
    scores: dict[int, dict[str, float]] = {i: {} for i in range(len(items))}
    for bucket in buckets_of(sizes, least=1):
        originals = to_pixels([fitted(items[i].image, bucket.size) for i in bucket.indices])
        drawn = torch.stack([redraws[i] for i in bucket.indices])
        for name, backbone in backbones.items():
            column = cosine(backbone.features(originals), backbone.features(drawn)).tolist()
            for i, score in zip(bucket.indices, column, strict=True):
                scores[i][name] = score
    return list(scores.values())
