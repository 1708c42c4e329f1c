# transformers types sub-configs as dicts and token ids as unions
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportOptionalMemberAccess=false
"""Qwen2.5-VL (arXiv 2502.13923): positions in three dimensions, images of any size."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from einops import repeat
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    DynamicCache,
    Qwen2_5_VLForConditionalGeneration,
)

from uae.models.loading import load_whole
from uae.models.plain_text import PlainText
from uae.models.targets import Targets
from uae.models.vlm.family import Chat, Prefix, Prompts

READ_ROLE = "generate"
"""Role of a caption that is read for the decoder (PKU-YuanGroup/UAE demo)."""
_NEVER_SAID = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


class Qwen25Vl:
    """See `VlmFamily`."""

    targets = Targets(
        # the vision tower stays frozen (arXiv 2509.09666 Fig. 9)
        lora=r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
        full=r".*language_model\..*",
    )

    def __init__(
        self, model: Qwen2_5_VLForConditionalGeneration, tokenizer: Any, image_processor: Any
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.plain = PlainText(tokenizer, tokenizer.chat_template)
        self.end_id: int = tokenizer.convert_tokens_to_ids("<|im_end|>")
        config = model.config
        self._image_token = tokenizer.convert_ids_to_tokens(config.image_token_id)
        self._merge_area = config.vision_config.spatial_merge_size**2
        self.forbidden = torch.zeros(
            config.text_config.vocab_size, dtype=torch.bool, device=model.device
        )
        self.forbidden[len(tokenizer) :] = True
        for name in _NEVER_SAID:
            self.forbidden[config.to_dict()[name]] = True

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype) -> "Qwen25Vl":
        """Load a plain transformers folder (model, tokenizer, image processor)."""
        model = load_whole(Qwen2_5_VLForConditionalGeneration, folder, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return cls(model.eval(), tokenizer, AutoImageProcessor.from_pretrained(folder))

    @property
    def max_tokens(self) -> int:
        return self.model.config.text_config.max_position_embeddings

    def prepare(self, chats: Sequence[Chat], images: Sequence[Image.Image]) -> Prompts:
        """See `VlmFamily`; an image is as many tokens as it has patches, after merging."""
        patches, grid_thw = self._patches(images)
        num_visual = iter((grid_thw.prod(1) // self._merge_area).tolist())
        texts, num_images = [], []
        for chat in chats:
            pieces = self.tokenizer.apply_chat_template(
                self.plain.messages(chat), tokenize=False, add_generation_prompt=True
            ).split(self._image_token)
            tokens = [self._image_token * next(num_visual) for _ in pieces[1:]]
            texts.append("".join(itertools.chain(*zip(pieces, [*tokens, ""], strict=True))))
            num_images.append(len(tokens))
        device = self.model.device
        encoded = self.plain.encode(texts, "left").to(device)
        return Prompts(
            token_ids=encoded["input_ids"],
            mask=encoded["attention_mask"].bool(),
            pixel_values=patches.to(device, self.model.dtype),
            grid_thw=grid_thw.to(device),
            num_images=tuple(num_images),
        )

    def _patches(self, images: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        """Cut images into patches: values (patches, d) and grids (images, 3)."""
        if not images:
            return torch.zeros(0, 0), torch.zeros(0, 3, dtype=torch.long)
        processed = self.image_processor(images=list(images), return_tensors="pt")
        return processed["pixel_values"], processed["image_grid_thw"]

    def see(self, prompts: Prompts) -> Prompts:
        """See `VlmFamily`."""
        with torch.no_grad():
            return replace(prompts, features=self._features(prompts))

    def _features(self, prompts: Prompts) -> tuple[Tensor, ...]:
        if not len(prompts.grid_thw):
            return ()
        seen = self.model.model.get_image_features(prompts.pixel_values, prompts.grid_thw)
        return tuple(seen.pooler_output)

    def prefill(self, prompts: Prompts, num_completions: int = 1) -> Prefix:
        """See `VlmFamily`."""
        backbone = self.model.model
        is_image = prompts.token_ids == self.model.config.image_token_id
        position_ids, _ = backbone.get_rope_index(
            prompts.token_ids,
            mm_token_type_ids=is_image.int(),
            image_grid_thw=prompts.grid_thw if len(prompts.grid_thw) else None,
            attention_mask=prompts.mask,
        )
        embeds = self.model.get_input_embeddings()(prompts.token_ids)
        features = self._features(prompts) if prompts.features is None else prompts.features
        if features:
            image_embeds = torch.cat(features).to(embeds)
            embeds = embeds.masked_scatter(is_image[..., None], image_embeds)
        output = backbone.language_model(
            inputs_embeds=embeds,
            attention_mask=None if prompts.mask.all() else prompts.mask,
            position_ids=position_ids,
            past_key_values=DynamicCache(config=self.model.config.text_config),
            use_cache=True,
        )
        cache = output.past_key_values
        cache.batch_repeat_interleave(num_completions)
        rows = (
            output.last_hidden_state[:, -1],
            position_ids.amax(dim=(0, 2)) + 1,
            prompts.mask,
        )
        return Prefix(cache, *(x.repeat_interleave(num_completions, 0) for x in rows))

    def continue_(self, prefix: Prefix, token_ids: Int[Tensor, "n t"]) -> Float[Tensor, "n t d"]:
        """See `VlmFamily`."""
        num_before = prefix.cache.get_seq_length() - prefix.mask.shape[1]
        num_said = num_before + token_ids.shape[1]
        steps = torch.arange(num_before, num_said, device=token_ids.device)
        positions = repeat(prefix.position[:, None] + steps, "n t -> three n t", three=3)
        mask = None
        if not prefix.mask.all():
            said = prefix.mask.new_ones(len(prefix.mask), num_said)
            mask = torch.cat([prefix.mask, said], dim=1)
        output = self.model.model.language_model(
            inputs_embeds=self.model.get_input_embeddings()(token_ids),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=prefix.cache,
            use_cache=True,
        )
        return output.last_hidden_state

    def logits(self, hidden: Float[Tensor, "*n d"]) -> Float[Tensor, "*n v"]:
        return self.model.lm_head(hidden)

    def read(self, captions: Sequence[str]) -> tuple[Float[Tensor, "n s d"], Bool[Tensor, "n s"]]:
        """See `VlmFamily`.

        The states come after the final norm; all positions are kept, system line and role markers
        included (PKU-YuanGroup/UAE `modeling_longcontext`). Captions are read as plain text.
        """
        texts = [
            self.tokenizer.apply_chat_template(
                self.plain.messages([{"role": READ_ROLE, "content": caption}]),
                tokenize=False,
                add_generation_prompt=True,
            )
            for caption in captions
        ]
        encoded = self.plain.encode(texts, "right").to(self.model.device)
        # No mask: attention is causal and padding stands right, so no real token sees it.
        output = self.model.model.language_model(input_ids=encoded["input_ids"], use_cache=False)
        return output.last_hidden_state, encoded["attention_mask"].bool()
