"""Qwen2.5-VL (arXiv 2502.13923), Qwen3-VL (arXiv 2511.21631) and Qwen3.5: images of any size.

Positions have three dimensions. Qwen3-VL also adds features of inner layers of its vision tower to
the first layers of the language model (DeepStack, arXiv 2406.04334). Most layers of Qwen3.5 are
linear attention (arXiv 2412.06464).
"""

from typing import Any, ClassVar

from torch import Tensor

from uae.models.vlm.architecture import Traits
from uae.models.vlm.family import Pixels


class QwenVl:
    """See `Architecture`."""

    traits: ClassVar = Traits(
        end="<|im_end|>", pixels=("pixel_values", "image_grid_thw"), num_axes=3
    )
    cap = None

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any) -> None:
        self._image_processor = image_processor
        self._merge_area = model.config.vision_config.spatial_merge_size**2
        self.placeholder: str = tokenizer.convert_ids_to_tokens(model.config.image_token_id)

    def shown(self, pixels: Pixels) -> str:
        """See `Architecture`: as many tokens as patches, after merging."""
        return self.placeholder * (int(pixels["image_grid_thw"].prod()) // self._merge_area)

    def arguments(self, token_ids: Tensor, is_image: Tensor) -> dict[str, Any]:
        """See `Architecture`."""
        return {}

    def limit_pixels(self, max_pixels: int) -> None:
        """See `VlmFamily`."""
        size = self._image_processor.size
        fewest = min(size["shortest_edge"], max_pixels)
        self._image_processor.size = {"shortest_edge": fewest, "longest_edge": max_pixels}
