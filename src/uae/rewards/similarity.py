# transformers' Auto classes are untyped
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportPrivateImportUsage=false, reportArgumentType=false
"""Image similarity: cosine of the embeddings of a frozen vision backbone.

R(x, x') = cos(f(x), f(x')), f = CLIP's projected image embedding or DINOv2's class token
(arXiv 2509.09666). Preprocessing is done on
tensors, differentiably, so the same function serves as reward, metric and cold-start loss.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    CLIPModel,
    Dinov2Model,
)

from uae.errors import UsageError


class Similarity:
    """A frozen backbone f and its preprocessing.

    reward = Similarity.from_pretrained("openai/clip-vit-large-patch14")
    r = cosine(reward.features(original), reward.features(redrawn))
    """

    def __init__(
        self,
        model: nn.Module,
        embed: Callable[[Tensor], Tensor],
        size_px: int,
        crop_px: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self._embed = embed
        self._size_px = size_px
        self._crop_px = crop_px
        self._mean = torch.tensor(mean)[:, None, None]
        self._std = torch.tensor(std)[:, None, None]

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str = "cpu") -> "Similarity":
        """Load a CLIP or DINOv2 folder or hub id.

        Raises:
            UsageError: The model is of another kind.
        """
        config = AutoConfig.from_pretrained(name)
        processor = AutoImageProcessor.from_pretrained(name)
        if config.model_type == "clip":
            clip = CLIPModel.from_pretrained(name).to(device)

            def embed(pixels: Tensor) -> Tensor:
                pooled = clip.vision_model(pixel_values=pixels).pooler_output
                return clip.visual_projection(pooled)

            model: nn.Module = clip
        elif config.model_type == "dinov2":
            dinov2 = Dinov2Model.from_pretrained(name).to(device)

            def embed(pixels: Tensor) -> Tensor:
                return dinov2(pixel_values=pixels).pooler_output

            model = dinov2
        else:
            raise UsageError(
                f"similarity backbone {str(name)!r} is a {config.model_type!r} model: "
                "expected clip or dinov2"
            )
        return cls(
            model,
            embed,
            processor.size["shortest_edge"],
            processor.crop_size["height"],
            processor.image_mean,
            processor.image_std,
        )

    def features(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return unit-length embeddings of pixels in [0, 1]; gradients flow to the pixels.

        The short side is resized (bicubic, antialiased), then the centre is cropped.
        """
        height, width = pixels.shape[-2:]
        scale = self._size_px / min(height, width)
        if scale != 1:
            # the long side is cut to whole pixels, as transformers' processors do
            size = (int(height * scale + 1e-6), int(width * scale + 1e-6))
            pixels = F.interpolate(
                pixels, size, mode="bicubic", antialias=True, align_corners=False
            ).clamp(0, 1)
        top = (pixels.shape[-2] - self._crop_px) // 2
        left = (pixels.shape[-1] - self._crop_px) // 2
        pixels = pixels[..., top : top + self._crop_px, left : left + self._crop_px]
        normalised = (pixels - self._mean.to(pixels)) / self._std.to(pixels)
        device = next(self.model.parameters()).device
        return F.normalize(self._embed(normalised.to(device)).float(), dim=-1)


def cosine(features: Float[Tensor, "b d"], others: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Return the cosine of unit rows, in [-1, 1]."""
    return (features * others).sum(-1)
