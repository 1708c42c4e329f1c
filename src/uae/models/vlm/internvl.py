"""InternVL3 and InternVL3.5 (arXiv 2504.10479, 2508.18265): an image is tiles of one size.

A large image is cut into up to `max_patches` tiles, which come with a small view of the whole.
"""

from typing import Any, ClassVar

from torch import Tensor

from uae.core.errors import UsageError
from uae.models.vlm.architecture import Traits
from uae.models.vlm.family import Pixels

_BEGIN, _END = "<img>", "</img>"


class InternVl:
    """See `Architecture`."""

    traits: ClassVar = Traits(
        end="<|im_end|>",
        options={"crop_to_patches": True},
        never_said=(_BEGIN, _END),
        is_tiled=True,
    )
    cap = None

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any) -> None:
        self._image_processor = image_processor
        self._num_tokens: int = model.config.image_seq_length
        self.placeholder: str = tokenizer.convert_ids_to_tokens(model.config.image_token_id)

    def shown(self, pixels: Pixels) -> str:
        """See `Architecture`: each tile is as many tokens."""
        num_tokens = self._num_tokens * len(pixels["pixel_values"])
        return _BEGIN + self.placeholder * num_tokens + _END

    def arguments(self, token_ids: Tensor, is_image: Tensor) -> dict[str, Any]:
        """See `Architecture`."""
        return {}

    def limit_pixels(self, max_pixels: int) -> None:
        """See `VlmFamily`: so many tiles, the view of the whole among them."""
        processor = self._image_processor
        height, width = processor.size["height"], processor.size["width"]
        num_tiles = max_pixels // (height * width)
        if not num_tiles:
            raise UsageError(
                f"max_pixels = {max_pixels}: InternVL sees tiles of {width} x {height}: expected "
                f"{height * width} or more, for one tile"
            )
        processor.max_patches = min(processor.max_patches, max(num_tiles - 1, 1))
