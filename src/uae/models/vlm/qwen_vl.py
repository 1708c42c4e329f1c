# transformers types sub-configs as dicts and token ids as unions
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportOptionalMemberAccess=false
"""Qwen2.5-VL (arXiv 2502.13923) and Qwen3-VL (arXiv 2511.21631): images of any size.

Positions have three dimensions. Qwen3-VL also adds features of inner layers of its vision tower to
the first layers of the language model (DeepStack, arXiv 2406.04334).
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Bool, Float, Int
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, DynamicCache

from uae.core.errors import UsageError
from uae.models.loading import load_whole
from uae.models.plain_text import PlainText
from uae.models.targets import Targets
from uae.models.vlm.family import Chat, Prefix, Prompts

READ_ROLES = ("generate", "user")
"""Roles of a caption that is read for the decoder, the first that the chat template writes:
`generate` (PKU-YuanGroup/UAE demo) by Qwen2.5-VL's, which writes any role; `user` by Qwen3-VL's."""
PROBES = ("a red circle", "five green triangles on a blue background")
"""Captions by which reading is tried."""
RELEASED_PROJECTOR = "denoise_projector."
"""What names of weights begin with that are no encoder's: the paper's authors released their
projector within it (`models/authors.py`)."""
_NEVER_SAID = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


class QwenVl:
    """See `VlmFamily`."""

    targets = Targets(
        # the vision tower stays frozen (arXiv 2509.09666 Fig. 9)
        lora=r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
        full=r".*language_model\..*",
    )

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.plain = PlainText(tokenizer, tokenizer.chat_template)
        self.end_id: int = tokenizer.convert_tokens_to_ids("<|im_end|>")
        others = model.generation_config.eos_token_id
        others = others if isinstance(others, list) else [others]
        ends = {self.end_id, *(x for x in others if x is not None and x < len(tokenizer))}
        self.end_ids = torch.tensor(sorted(ends), device=model.device)
        config = model.config
        self.recomputes = False
        self._image_token = tokenizer.convert_ids_to_tokens(config.image_token_id)
        self._merge_area = config.vision_config.spatial_merge_size**2
        self.forbidden = torch.zeros(
            config.text_config.vocab_size, dtype=torch.bool, device=model.device
        )
        self.forbidden[len(tokenizer) :] = True
        for name in _NEVER_SAID:
            self.forbidden[config.to_dict()[name]] = True

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype, kind: Any) -> "QwenVl":
        """Load a plain transformers folder (model of class `kind`, tokenizer, image processor).

        Raises:
            UsageError: Weights do not fit, or its chat template begins each reply with thinking.
        """
        model = load_whole(kind, folder, is_exact=True, beside=RELEASED_PROJECTOR, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        family = cls(model.eval(), tokenizer, AutoImageProcessor.from_pretrained(folder))
        family._check_seeing(folder)
        if family._filled([{"role": "user", "content": PROBES[0]}]).rstrip().endswith("<think>"):
            raise UsageError(
                f"{folder}: its chat template begins each reply with thinking, which would stand "
                "in captions: expected one that knows enable_thinking, or a model that answers"
            )
        return family

    def _check_seeing(self, folder: str | Path) -> None:
        """Refuse a chat template that drops an image, which no caption would then depend on.

        Raises:
            UsageError: It does, or there is none.
        """
        turn = [{"type": "image"}, {"type": "text", "text": PROBES[0]}]
        try:
            text = self._filled([{"role": "user", "content": turn}])
        except (ValueError, TemplateError) as error:
            raise UsageError(f"{folder}: its chat template cannot be filled ({error})") from error
        if text.count(self._image_token) != 1 or PROBES[0] not in text:
            raise UsageError(
                f"{folder}: its chat template writes an image and a question as "
                f"{text[:200]!r}: expected {self._image_token} once, and the question"
            )

    @property
    def max_tokens(self) -> int:
        return self.model.config.text_config.max_position_embeddings

    def recompute(self) -> None:
        """See `VlmFamily`."""
        self.recomputes = True
        # transformers before 5.23 knows it by its older name alone
        old = self.model.gradient_checkpointing_enable
        getattr(self.model, "activation_checkpointing_enable", old)({"use_reentrant": False})

    def limit_pixels(self, max_pixels: int) -> None:
        """See `VlmFamily`."""
        size = self.image_processor.size
        fewest = min(size["shortest_edge"], max_pixels)
        self.image_processor.size = {"shortest_edge": fewest, "longest_edge": max_pixels}

    def prepare(self, chats: Sequence[Chat], images: Sequence[Image.Image]) -> Prompts:
        """See `VlmFamily`; an image is as many tokens as it has patches, after merging."""
        patches, grid_thw = self._patches(images)
        num_visual = iter((grid_thw.prod(1) // self._merge_area).tolist())
        texts, num_images = [], []
        for chat in chats:
            pieces = self._filled(self.plain.messages(chat)).split(self._image_token)
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

    def _filled(self, messages: Sequence[dict[str, Any]]) -> str:
        return self.tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # of templates that know it
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
        """Return the features of each image; those for inner layers stand beside the first."""
        if not len(prompts.grid_thw):
            return ()
        seen = self.model.model.get_image_features(prompts.pixel_values, prompts.grid_thw)
        layers = [seen.pooler_output, *seen.get("deepstack_features", ())]
        return tuple(torch.cat(of_image, dim=-1) for of_image in zip(*layers, strict=True))

    def _inputs(self, prompts: Prompts, repeats: int) -> dict[str, Any]:
        """Return embeddings, positions and mask of prompts, each so often, for a forward pass."""
        is_image = prompts.token_ids == self.model.config.image_token_id
        position_ids, _ = self.model.model.get_rope_index(
            prompts.token_ids,
            mm_token_type_ids=is_image.int(),
            image_grid_thw=prompts.grid_thw if len(prompts.grid_thw) else None,
            attention_mask=prompts.mask,
        )
        token_ids, is_image, mask = (
            x.repeat_interleave(repeats, 0) for x in (prompts.token_ids, is_image, prompts.mask)
        )
        inputs: dict[str, Any] = {
            "inputs_embeds": self.model.get_input_embeddings()(token_ids),
            "position_ids": position_ids.repeat_interleave(repeats, 1),
            "attention_mask": mask,
        }
        features = self._features(prompts) if prompts.features is None else prompts.features
        if features:
            of_images, *deep = self._rows(prompts, features, repeats).split(
                self.model.config.text_config.hidden_size, dim=-1
            )
            embeds = inputs["inputs_embeds"]
            embeds = embeds.masked_scatter(is_image[..., None], of_images.to(embeds))
            inputs["inputs_embeds"] = embeds
            if deep:
                inputs |= {"visual_pos_masks": is_image, "deepstack_visual_embeds": deep}
        return inputs

    @staticmethod
    def _rows(prompts: Prompts, features: Sequence[Tensor], repeats: int) -> Tensor:
        """Put the features of images in the order of repeated prompts."""
        if repeats == 1:
            return torch.cat([*features])
        left, rows = iter(features), list[Tensor]()
        for num_images in prompts.num_images:
            rows += [*itertools.islice(left, num_images)] * repeats
        return torch.cat(rows)

    def prefill(self, prompts: Prompts, num_completions: int = 1) -> Prefix:
        """See `VlmFamily`."""
        text = self.model.model.language_model
        is_checkpointed = text.training and text.layers[0].gradient_checkpointing
        assert not is_checkpointed, "a checkpointed pass drops its cache"
        inputs = self._inputs(prompts, 1)
        position_ids, mask = inputs["position_ids"], inputs["attention_mask"]
        output = text(
            **inputs | {"attention_mask": None if mask.all() else mask},
            past_key_values=DynamicCache(config=self.model.config.text_config),
            use_cache=True,
        )
        cache = output.past_key_values
        cache.batch_repeat_interleave(num_completions)
        rows = (output.last_hidden_state[:, -1], position_ids.amax(dim=(0, 2)) + 1, mask)
        return Prefix(cache, *(x.repeat_interleave(num_completions, 0) for x in rows))

    def states(self, prompts: Prompts, token_ids: Int[Tensor, "n t"]) -> Float[Tensor, "n t+1 d"]:
        """See `VlmFamily`: each completion after its whole prompt, in one pass without a cache."""
        inputs = self._inputs(prompts, len(token_ids) // len(prompts))
        position_ids, mask = inputs["position_ids"], inputs["attention_mask"]
        num_before, num_said = mask.shape[1], token_ids.shape[1]
        steps = torch.arange(1, num_said + 1, device=token_ids.device)
        positions = position_ids.amax(dim=(0, 2))[:, None] + steps
        positions = repeat(positions, "n t -> three n t", three=3)
        said = self.model.get_input_embeddings()(token_ids)
        if "visual_pos_masks" in inputs:
            inputs["visual_pos_masks"] = F.pad(inputs["visual_pos_masks"], (0, num_said))
        text = self.model.model.language_model
        was_training = text.training
        text.train(was_training or self.recomputes)  # without which the library keeps activations
        try:
            output = text(
                **inputs
                | {
                    "inputs_embeds": torch.cat([inputs["inputs_embeds"], said], dim=1),
                    "position_ids": torch.cat([position_ids, positions], dim=2),
                    "attention_mask": F.pad(mask, (0, num_said), value=True),
                },
                use_cache=False,
            )
        finally:
            text.train(was_training)
        return output.last_hidden_state[:, num_before - 1 :]

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
        texts = [self._as_read(caption) for caption in captions]
        encoded = self.plain.encode(texts, "right").to(self.model.device)
        # No mask: attention is causal and padding stands right, so no real token sees it.
        output = self.model.model.language_model(input_ids=encoded["input_ids"], use_cache=False)
        return output.last_hidden_state, encoded["attention_mask"].bool()

    def _as_read(self, caption: str) -> str:
        return self._filled(self.plain.messages([{"role": self.read_role, "content": caption}]))

    @cached_property
    def read_role(self) -> str:
        """The role by which the template writes a caption.

        Raises:
            UsageError: None does; or it is written otherwise than it is.
        """
        probe = PROBES[1]
        for role in READ_ROLES:
            try:
                text = self._filled([{"role": role, "content": probe}])
            except TemplateError:
                continue
            if text.count(probe) == 1:
                break
        else:
            raise UsageError(
                f"the chat template of the encoder drops a caption of the roles "
                f"{' and '.join(READ_ROLES)}: a projector cannot read it; join with --condition "
                "native"
            )
        return role

    def check_reading(self) -> None:
        """See `VlmFamily`."""
        self.read_role  # noqa: B018, raises
        tokens = [self.plain.encode([self._as_read(x)], "right")["input_ids"][0] for x in PROBES]
        for probe, seen in zip(PROBES, tokens, strict=True):
            own = torch.tensor(self.plain.token_ids(probe))
            windows = seen.unfold(0, len(own), 1) if len(seen) >= len(own) else seen.new_zeros(0, 1)
            if not (windows == own).all(1).any():
                raise UsageError(
                    f"the chat template of the encoder changes a caption, {probe!r}: a projector "
                    "cannot read it; join with --condition native"
                )
