# transformers' Auto classes are untyped
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportPrivateImportUsage=false, reportArgumentType=false
"""Image similarity: cosine of the embeddings of a frozen vision backbone.

R(x, x') = cos(f(x), f(x')), f = CLIP's projected image embedding or DINO's class token (arXiv
2509.09666), or SigLIP's pooled one. Preprocessing is done on tensors, differentiably, so that the
same function serves as reward, metric and cold-start loss.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    CLIPModel,
    Dinov2Model,
    DINOv3ViTModel,
    SiglipModel,
)
from transformers.image_processing_base import ImageProcessingMixin

from uae.core.errors import UsageError
from uae.models.loading import load_whole, read_config

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

    reward = Similarity.from_pretrained("openai/clip-vit-large-patch14")
    r = cosine(reward.features(original), reward.features(redrawn))
    """

    def __init__(
        self, model: nn.Module, embed: Callable[[Tensor], Tensor], preparation: Preparation
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.preparation = preparation
        self._embed = embed

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str = "cpu") -> "Similarity":
        """Load a CLIP (LongCLIP too), SigLIP, DINOv2 or DINOv3 folder or hub id.

        Raises:
            UsageError: The model is of another kind, or a SigLIP 2 without a fixed size; or its
                weights are damaged, incomplete or of other shapes.
        """
        kind = read_config(name).model_type
        if kind == "clip":
            model = clip = load_whole(CLIPModel, name).to(device)

            def embed(pixels: Tensor) -> Tensor:
                return clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)

        elif kind == "siglip":
            model = siglip = load_whole(SiglipModel, name).to(device)

            def embed(pixels: Tensor) -> Tensor:
                return siglip.vision_model(pixel_values=pixels).pooler_output

        elif kind in ("dinov2", "dinov3_vit"):
            dino_class = Dinov2Model if kind == "dinov2" else DINOv3ViTModel
            model = dino = load_whole(dino_class, name).to(device)

            def embed(pixels: Tensor) -> Tensor:
                return dino(pixel_values=pixels).pooler_output

        elif kind == "siglip2":  # those of a fixed size are "siglip" to transformers
            raise UsageError(
                f"similarity backbone {str(name)!r} is a NaFlex SigLIP 2, which takes images of "
                "any shape: expected one of a fixed size, such as google/siglip2-large-patch16-256"
            )
        else:
            raise UsageError(
                f"similarity backbone {str(name)!r} is a {kind!r} model: expected clip, siglip, "
                "dinov2 or dinov3_vit"
            )
        return cls(model, embed, _preparation(name, kind))

    def features(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return unit-length embeddings of pixels in [0, 1]; gradients flow to the pixels."""
        device = next(self.model.parameters()).device
        return F.normalize(self._embed(self.preparation(pixels).to(device)).float(), dim=-1)


def _preparation(name: str | Path, kind: str) -> Preparation:
    """Read a folder's preprocessing.

    DINOv3's processor class needs torchvision; its file does not.
    """
    if kind == "dinov3_vit":
        values: Mapping[str, Any] = ImageProcessingMixin.get_image_processor_dict(name)[0]
    else:
        values = AutoImageProcessor.from_pretrained(name).to_dict()
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
