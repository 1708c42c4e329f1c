"""Image similarity: cosine of the embeddings of a frozen vision backbone.

R(x, x') = cos(f(x), f(x')), f = CLIP's projected image embedding or DINO's class token (arXiv
2509.09666), or SigLIP's pooled one. Preprocessing is done on tensors, differentiably, so that the
same function serves as reward, metric and cold-start loss.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

Resampling = Literal["bicubic", "bilinear"]

_RESAMPLING: dict[int, Resampling] = {
    Image.Resampling.BICUBIC: "bicubic",
    Image.Resampling.BILINEAR: "bilinear",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How pixels are made ready for a backbone.

    Attributes:
        size_px: The short side is resized to this; both sides where `crop_px` is None, which
            changes the proportions.
        crop_px: Side of the square cut out of the centre.
        resampling: Of the resize, antialiased.
        mean: By channel.
        std: By channel.
    """

    size_px: int
    crop_px: int | None
    resampling: Resampling
    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 y x"]:
        """Resize, crop and normalise pixels in [0, 1]; gradients flow."""
        height, width = pixels.shape[-2:]
        size = (self.size_px, self.size_px)
        if self.crop_px is not None:
            scale = self.size_px / min(height, width)
            # the long side is cut to whole pixels, as transformers' processors do
            size = (int(height * scale + 1e-6), int(width * scale + 1e-6))
        if size != (height, width):
            pixels = F.interpolate(
                pixels, size, mode=self.resampling, antialias=True, align_corners=False
            ).clamp(0, 1)
        if self.crop_px is not None:
            top = (pixels.shape[-2] - self.crop_px) // 2
            left = (pixels.shape[-1] - self.crop_px) // 2
            pixels = pixels[..., top : top + self.crop_px, left : left + self.crop_px]
        mean, std = (torch.tensor(x).to(pixels)[:, None, None] for x in (self.mean, self.std))
        return (pixels - mean) / std


class Similarity:
    """A frozen backbone f and its preprocessing.

    similarity = load_similarity("openai/clip-vit-large-patch14")
    r = cosine(similarity.features(original), similarity.features(redrawn))
    """

    def __init__(
        self, model: nn.Module, embed: Callable[[Tensor], Tensor], preparation: Preparation
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.preparation = preparation
        self._embed = embed

    def __call__(
        self,
        originals: Float[Tensor, "p 3 h w"],
        redraws: Float[Tensor, "n 3 y x"],
        captions: Sequence[str],
    ) -> Float[Tensor, " n"]:
        """Compare redraws with their originals; see `Reward`. Captions are not looked at."""
        wanted = self.features(originals).detach()
        wanted = wanted.repeat_interleave(len(redraws) // len(originals), 0)
        return cosine(wanted, self.features(redraws))

    def features(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return unit-length embeddings of pixels in [0, 1]; gradients flow to the pixels."""
        device = next(self.model.parameters()).device
        return F.normalize(self._embed(self.preparation(pixels).to(device)).float(), dim=-1)


def move(rewards: Iterable[object], device: str) -> None:
    """Move the similarity backbones among rewards."""
    for reward in rewards:
        if isinstance(reward, Similarity):
            reward.model.to(device)


def preparation_of(values: Mapping[str, Any]) -> Preparation:
    """Read what an image processor of transformers is set to."""
    size = values["size"]
    return Preparation(
        size_px=size["shortest_edge"] if "shortest_edge" in size else size["height"],
        crop_px=values["crop_size"]["height"] if values.get("do_center_crop") else None,
        resampling=_RESAMPLING[values["resample"]],
        mean=values["image_mean"],
        std=values["image_std"],
    )


def cosine(features: Float[Tensor, "b d"], others: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Return the cosine of unit rows, in [-1, 1]."""
    return (features * others).sum(-1)
