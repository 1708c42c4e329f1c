# transformers types sub-configs as dicts and token ids as unions
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportOptionalMemberAccess=false
"""A vision tower before a causal language model, as all families of the table are.

Features of images stand among the embeddings of a prompt. Where classes differ, their
`Architecture` says how.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoTokenizer, DynamicCache

from uae.core.errors import UsageError
from uae.models.compiled import uncompiled
from uae.models.loading import load_whole
from uae.models.plain_text import PlainText
from uae.models.targets import Targets
from uae.models.vlm.architecture import (
    LANGUAGE_MODEL,
    Architecture,
    check_answering,
    ends_of,
    forbidden_of,
)
from uae.models.vlm.family import Chat, Pixels, Prefix, Prompts, SampledTokens
from uae.models.vlm.log_probs import log_softmax
from uae.models.vlm.sampling import sample_tokens

READ_ROLES = ("generate", "user")
"""Roles of a caption that is read for the decoder, the first that the chat template writes:
`generate` (PKU-YuanGroup/UAE demo) by those that write any role, as Qwen2.5-VL's."""
RELEASED_PROJECTOR = "denoise_projector."
"""What names of weights begin with that are no encoder's: the paper's authors released their
projector within it (`models/authors.py`)."""
PROBES = ("a red circle", "five green triangles on a blue background")
"""Captions by which reading is tried."""


class CausalVlm:
    """See `TrainedFamily`."""

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any, kind: Any) -> None:
        """Hold the parts; `kind` is a class of `Architecture`."""
        self.model = model
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.plain = PlainText(tokenizer, tokenizer.chat_template)
        self._kind: Architecture = kind(model, tokenizer, image_processor)
        self._traits = self._kind.traits
        self.targets: Targets = LANGUAGE_MODEL
        self.recomputes = False
        self.is_compiled = False
        self.end_id: int = tokenizer.convert_tokens_to_ids(self._traits.end)
        self.end_ids = torch.tensor(ends_of(model, tokenizer, self.end_id), device=model.device)
        self.forbidden = forbidden_of(model, tokenizer, *self._traits.never_said)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, dtype: torch.dtype, *, kind: Any, model_class: Any
    ) -> "CausalVlm":
        """Load a plain transformers folder (model, tokenizer, image processor).

        Raises:
            UsageError: Weights do not fit, or its chat template begins each reply with thinking.
        """
        model = load_whole(
            model_class, folder, is_exact=True, beside=RELEASED_PROJECTOR, dtype=dtype
        )
        tokenizer = AutoTokenizer.from_pretrained(folder)
        family = cls(model.eval(), tokenizer, AutoImageProcessor.from_pretrained(folder), kind)
        family._check_seeing(folder)
        check_answering(folder, family._filled([{"role": "user", "content": PROBES[0]}]))
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
        placeholder = self._kind.placeholder
        if text.count(placeholder) != 1 or PROBES[0] not in text:
            raise UsageError(
                f"{folder}: its chat template writes an image and a question as "
                f"{text[:200]!r}: expected {placeholder} once, and the question"
            )

    @property
    def _text(self) -> Any:
        return self.model.model.language_model

    @property
    def max_tokens(self) -> int:
        return self.model.config.get_text_config().max_position_embeddings

    @property
    def scores_whole(self) -> bool:
        layers = self._text.config.to_dict().get("layer_types") or ()
        is_linear = "linear_attention" in layers  # it writes over its states
        return self.recomputes or self.is_compiled or is_linear

    @property
    def layers(self) -> nn.ModuleList:
        return self._text.layers

    def recompute(self) -> None:
        """See `TrainedFamily`."""
        self.recomputes = True
        # transformers before 5.23 knows it by its older name alone
        old = self.model.gradient_checkpointing_enable
        getattr(self.model, "activation_checkpointing_enable", old)({"use_reentrant": False})

    def limit_pixels(self, max_pixels: int) -> None:
        """See `VlmFamily`."""
        self._kind.limit_pixels(max_pixels)

    # -- prompts ------------------------------------------------------------------------------

    def prepare(self, chats: Sequence[Chat], images: Sequence[Image.Image]) -> Prompts:
        """See `VlmFamily`."""
        pixels = [self._pixels(image) for image in images]
        shown = map(self._kind.shown, pixels)
        texts, num_images = [], []
        for chat in chats:
            pieces = self._filled(self.plain.messages(chat)).split(self._kind.placeholder)
            tokens = [next(shown) for _ in pieces[1:]]
            texts.append("".join(itertools.chain(*zip(pieces, [*tokens, ""], strict=True))))
            num_images.append(len(tokens))
        encoded = self.plain.encode(texts, "left").to(self.model.device)
        return Prompts(
            token_ids=encoded["input_ids"],
            mask=encoded["attention_mask"].bool(),
            images=tuple(pixels),
            num_images=tuple(num_images),
        )

    def _filled(self, messages: Sequence[dict[str, Any]]) -> str:
        return self.tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # of templates that know it
        )

    def _pixels(self, image: Image.Image) -> Pixels:
        processed = self.image_processor(
            images=[image], return_tensors="pt", **self._traits.options
        )
        pixels = {name: processed[name].to(self.model.device) for name in self._traits.pixels}
        return pixels | {"pixel_values": pixels["pixel_values"].to(self.model.dtype)}

    def see(self, prompts: Prompts) -> Prompts:
        """See `VlmFamily`."""
        with torch.no_grad():
            return replace(prompts, features=self._features(prompts))

    def _features(self, prompts: Prompts) -> tuple[Tensor, ...]:
        """Return the features of each image; those for inner layers stand beside the first."""
        if not prompts.images:
            return ()
        seen = self.model.model.get_image_features(**prompts.pixels)
        layers = [seen.pooler_output, *seen.get("deepstack_features", ())]
        parts = iter([torch.cat(of_part, dim=-1) for of_part in zip(*layers, strict=True)])
        sizes = [len(x["pixel_values"]) if self._traits.is_tiled else 1 for x in prompts.images]
        return tuple(torch.cat([*itertools.islice(parts, size)]) for size in sizes)

    def _positions(self, prompts: Prompts) -> Int[Tensor, "axes p s"]:
        """Return where the tokens of prompts stand."""
        if self._traits.num_axes == 1:
            return (prompts.mask.cumsum(1) - 1).clamp(min=0)[None]
        positions, _ = self.model.model.get_rope_index(
            prompts.token_ids,
            mm_token_type_ids=self._is_image(prompts.token_ids).int(),
            image_grid_thw=prompts.pixels.get("image_grid_thw"),
            attention_mask=prompts.mask,
        )
        return positions

    def _is_image(self, token_ids: Int[Tensor, "n t"]) -> Bool[Tensor, "n t"]:
        return token_ids == self.model.config.image_token_id

    # -- passes -------------------------------------------------------------------------------

    def prefill(self, prompts: Prompts, num_completions: int = 1) -> Prefix:
        """See `TrainedFamily`."""
        is_checkpointed = self._text.training and self._text.layers[0].gradient_checkpointing
        assert not is_checkpointed, "a checkpointed pass drops its cache"
        cache = DynamicCache(config=self.model.config.get_text_config())
        positions = self._positions(prompts)
        options = {"past_key_values": cache, "use_cache": True}
        with uncompiled(self.is_compiled):
            hidden = self._run(prompts, positions, prompts.token_ids[:, :0], **options)[:, -1]
        rows = torch.arange(len(prompts), device=hidden.device).repeat_interleave(num_completions)
        cache.reorder_cache(rows)
        position = positions.amax(dim=(0, 2)) + 1
        return Prefix(cache, hidden[rows], position[rows], prompts.mask[rows])

    def states(self, prompts: Prompts, token_ids: Int[Tensor, "n t"]) -> Float[Tensor, "n t+1 d"]:
        """See `TrainedFamily`: each completion after its whole prompt, in one pass."""
        was_training = self._text.training
        # without it the library keeps activations
        self._text.train(was_training or self.recomputes)
        try:
            states = self._run(prompts, self._positions(prompts), token_ids, use_cache=False)
        finally:
            self._text.train(was_training)
        return states[:, prompts.mask.shape[1] - 1 :]

    def _run(
        self,
        prompts: Prompts,
        positions: Int[Tensor, "axes p s"],
        said: Int[Tensor, "n t"],
        **options: Any,
    ) -> Float[Tensor, "n t2 d"]:
        """Run prompts, each as often as it has completions, with what they say, in one pass."""
        repeats, length = len(said) // len(prompts), said.shape[1]
        before = prompts.token_ids.repeat_interleave(repeats, 0)
        token_ids = torch.cat([before, said], dim=1)
        is_image = F.pad(self._is_image(before), (0, length))
        mask = F.pad(prompts.mask.repeat_interleave(repeats, 0), (0, length), value=True)
        positions = positions.repeat_interleave(repeats, 1)
        later = self._later(positions.amax(dim=(0, 2)) + 1, length)
        embeds = self.model.get_input_embeddings()(token_ids.masked_fill(is_image, 0))
        more = self._kind.arguments(token_ids, is_image)
        body = self.model.model if more else self._text
        features = self._features(prompts) if prompts.features is None else prompts.features
        if features:
            seen, *deep = _in_order(prompts, features, repeats).split(embeds.shape[-1], dim=-1)
            embeds = embeds.masked_scatter(is_image[..., None], seen.to(embeds))
            if deep:
                more = {"visual_pos_masks": is_image, "deepstack_visual_embeds": deep}
        output = body(
            inputs_embeds=embeds,
            position_ids=_as_asked(torch.cat([positions, later], dim=2)),
            attention_mask=None if mask.all() else mask,
            **more,
            **options,
        )
        return output.last_hidden_state

    def _later(
        self, first: Int[Tensor, " n"], length: int, before: int = 0
    ) -> Int[Tensor, "axes n t"]:
        """Return positions of text that begins so many tokens after `first`."""
        steps = torch.arange(before, before + length, device=first.device)
        return (first[:, None] + steps).expand(self._traits.num_axes, -1, -1)

    def continue_(self, prefix: Prefix, token_ids: Int[Tensor, "n t"]) -> Float[Tensor, "n t d"]:
        """See `TrainedFamily`."""
        num_before = prefix.cache.get_seq_length() - prefix.mask.shape[1]
        mask = None
        if not prefix.mask.all():
            mask = F.pad(prefix.mask, (0, num_before + token_ids.shape[1]), value=True)
        positions = self._later(prefix.position, token_ids.shape[1], num_before)
        with uncompiled(self.is_compiled):
            output = self._text(
                input_ids=token_ids,
                attention_mask=mask,
                position_ids=_as_asked(positions),
                past_key_values=prefix.cache,
                use_cache=True,
            )
        return output.last_hidden_state

    def logits(self, hidden: Float[Tensor, "*n d"]) -> Float[Tensor, "*n v"]:
        logits, cap = self.model.lm_head(hidden), self._kind.cap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def sample_tokens(
        self, prompts: Prompts, uniforms: Float[Tensor, "n t"] | None, **options: Any
    ) -> Iterator[SampledTokens]:
        """See `VlmFamily`."""
        return sample_tokens(self, prompts, uniforms, **options)

    def next_log_probs(self, prompts: Prompts) -> Float[Tensor, "p v"]:
        """See `VlmFamily`."""
        return log_softmax(self, self.prefill(prompts).hidden)

    # -- captions as text ---------------------------------------------------------------------

    def read(self, captions: Sequence[str]) -> tuple[Float[Tensor, "n s d"], Bool[Tensor, "n s"]]:
        """See `TrainedFamily`.

        The states come after the final norm; all positions are kept, system line and role markers
        included (PKU-YuanGroup/UAE `modeling_longcontext`). Captions are read as plain text.
        """
        texts = [self._as_read(caption) for caption in captions]
        encoded = self.plain.encode(texts, "right").to(self.model.device)
        # No mask: attention is causal and padding stands right, so no real token sees it.
        output = self._text(input_ids=encoded["input_ids"], use_cache=False)
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
        """See `TrainedFamily`."""
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


def _as_asked(positions: Int[Tensor, "axes n t"]) -> Int[Tensor, "*axes n t"]:
    return positions[0] if len(positions) == 1 else positions


def _in_order(prompts: Prompts, features: Sequence[Tensor], repeats: int) -> Tensor:
    """Put the features of images in the order of repeated prompts."""
    if repeats == 1:
        return torch.cat([*features])
    left, rows = iter(features), list[Tensor]()
    for num_images in prompts.num_images:
        rows += [*itertools.islice(left, num_images)] * repeats
    return torch.cat(rows)
