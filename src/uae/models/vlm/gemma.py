"""Gemma 3 (arXiv 2503.19786) and Gemma 4: tokens of an image see each other.

Some layers look back over a window only. Gemma 4 sees images of any shape, bounds its logits, and
its small models add an embedding of each token to every layer.
"""

from typing import Any, ClassVar

from torch import Tensor

from uae.core.errors import UsageError
from uae.models.vlm.architecture import Traits
from uae.models.vlm.family import Pixels

_BUDGETS = (70, 140, 280, 560, 1120)
"""Tokens that Gemma 4 may make of an image."""


class Gemma3:
    """See `Architecture`."""

    traits: ClassVar = Traits(
        end="<end_of_turn>", options={"do_convert_rgb": True, "do_pan_and_scan": False}
    )
    cap = None

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any) -> None:
        config = model.config
        self._size = image_processor.size
        ids = [config.boi_token_index, config.image_token_index, config.eoi_token_index]
        self.placeholder, image, end = tokenizer.convert_ids_to_tokens(ids)
        self._shown = f"\n\n{self.placeholder}{image * config.mm_tokens_per_image}{end}\n\n"

    def shown(self, pixels: Pixels) -> str:
        """See `Architecture`: always as many tokens."""
        return self._shown

    def arguments(self, token_ids: Tensor, is_image: Tensor) -> dict[str, Any]:
        """See `Architecture`."""
        return {"token_type_ids": is_image.int()}

    def limit_pixels(self, max_pixels: int) -> None:
        """See `VlmFamily`."""
        raise UsageError(
            f"max_pixels = {max_pixels}: Gemma 3 sees every image at {self._size['width']} x "
            f"{self._size['height']}: leave it out"
        )


class Gemma4:
    """See `Architecture`."""

    traits: ClassVar = Traits(end="<turn|>", pixels=("pixel_values", "image_position_ids"))

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any) -> None:
        config = model.config
        self._language_model = model.model.language_model
        self._image_processor = image_processor
        self.cap: float | None = config.get_text_config().final_logit_softcapping
        ids = [config.boi_token_id, config.image_token_id, config.eoi_token_id]
        self._begin, self.placeholder, self._end = tokenizer.convert_ids_to_tokens(ids)

    def shown(self, pixels: Pixels) -> str:
        """See `Architecture`: patches are pooled to tokens."""
        num_patches = int((pixels["image_position_ids"] >= 0).all(-1).sum())
        num_tokens = num_patches // self._image_processor.pooling_kernel_size**2
        return self._begin + self.placeholder * num_tokens + self._end

    def arguments(self, token_ids: Tensor, is_image: Tensor) -> dict[str, Any]:
        """See `Architecture`; to the embeddings of layers an image is padding."""
        types, config = {"mm_token_type_ids": is_image.int()}, self._language_model.config
        if not config.hidden_size_per_layer_input:
            return types
        ids = token_ids.masked_fill(is_image, config.pad_token_id)
        return types | {"per_layer_inputs": self._language_model.get_per_layer_inputs(ids, None)}

    def limit_pixels(self, max_pixels: int) -> None:
        """See `VlmFamily`."""
        processor = self._image_processor
        area = (processor.patch_size * processor.pooling_kernel_size) ** 2
        fitting = [num for num in _BUDGETS if num * area <= max_pixels]
        if not fitting:
            raise UsageError(
                f"max_pixels = {max_pixels}: Gemma 4 makes {_BUDGETS[0]} tokens or more of an "
                f"image: expected {_BUDGETS[0] * area} or more"
            )
        processor.max_soft_tokens = min(processor.max_soft_tokens, fitting[-1])
