# transformers' auto classes are untyped
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false, reportArgumentType=false
"""Chats with images as the inputs of any vision-language model, by the library's own processor.

Of the Qwen VL family they are built from image processor, tokenizer and chat template: its
processor class wants torchvision for videos.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

from uae.models.plain_text import BLANK, PlainText
from uae.models.vlm.family import Chat

_QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5")


class ChatProcessor:
    """Turns images and a question into a model's inputs, by its chat template."""

    def __init__(self, processor: Any, tokenizer: Any, image_token: str, merge_area: int) -> None:
        """Hold the parts.

        Args:
            processor: The model's processor, or for the Qwen VL family its image processor.
            tokenizer: Holds the chat template of the Qwen VL family.
            image_token: That of the Qwen VL family; empty for others.
            merge_area: Patches that make one of its tokens.
        """
        self.processor = processor
        self.tokenizer = tokenizer
        self.image_token = image_token
        self.merge_area = merge_area
        template = tokenizer.chat_template if image_token else processor.chat_template
        self.plain = PlainText(tokenizer, template)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, config: Any, revision: str = "main"
    ) -> "ChatProcessor":
        """Load what belongs to a model of this config.

        Raises:
            ValueError: There is no chat template, or it drops images.
        """
        if not config.model_type.startswith(_QWEN):
            processor = AutoProcessor.from_pretrained(source, revision=revision)
            if not processor.chat_template:
                raise ValueError("its processor has no chat template, so it answers no questions")
            return cls(processor, processor.tokenizer, "", 1)._checked()
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        image_token = tokenizer.convert_ids_to_tokens(config.image_token_id)
        merge_area = config.vision_config.spatial_merge_size**2
        images = AutoImageProcessor.from_pretrained(source, revision=revision)
        return cls(images, tokenizer, image_token, merge_area)._checked()

    def _checked(self) -> "ChatProcessor":
        """Return it, unless its chat template writes the same with an image and without."""
        owner = self.tokenizer if self.image_token else self.processor
        text = {"type": "text", "text": "a red circle"}
        with_image, without = (
            owner.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
            for parts in ([{"type": "image"}, text], [text])
        )
        if with_image == without:
            raise ValueError("its chat template drops images, so it describes none")
        return self

    @property
    def name(self) -> str:
        """Its class, which can decide how an image is resized."""
        return type(self.processor).__name__

    def __call__(self, images: Sequence[Image.Image], system: str, text: str) -> dict[str, Tensor]:
        """Return the inputs of one turn: the images, if there are any, then the text."""
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": text}]
        turns: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if system:
            turns.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
        return self.inputs(turns, images)

    def inputs(self, chat: Chat, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Return the inputs of a chat up to the next reply.

        Texts are plain text; to a processor, which tokenises by itself, a blank says so.
        """
        if self.image_token:
            return self._qwen_inputs(images, self.filled(chat))
        # the template has written the special tokens, those at the beginning too
        given = {"add_special_tokens": False, "return_tensors": "pt"}
        return dict(self.processor(images=list(images) or None, text=[self.filled(chat)], **given))

    def filled(self, chat: Chat) -> str:
        """Return a chat as the template writes it, up to the next reply."""
        # thinking, of templates that know it, would fill the reply
        options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        if self.image_token:
            return self.tokenizer.apply_chat_template(self.plain.messages(chat), **options)
        return self.processor.apply_chat_template(self.plain.messages(chat, BLANK), **options)

    def _qwen_inputs(self, images: Sequence[Image.Image], chat: str) -> dict[str, Tensor]:
        seen = dict(self.processor(images=list(images), return_tensors="pt")) if images else {}
        num_patches = seen["image_grid_thw"].prod(1).tolist() if images else []
        first, *others = chat.split(self.image_token, len(images))
        tokens = [self.image_token * (num // self.merge_area) for num in num_patches]
        chat = first + "".join(itertools.chain(*zip(tokens, others, strict=True)))
        encoded = self.plain.encode([chat], "right")
        image_id = self.tokenizer.convert_tokens_to_ids(self.image_token)
        return {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "mm_token_type_ids": (encoded["input_ids"] == image_id).int(),
            **seen,
        }
