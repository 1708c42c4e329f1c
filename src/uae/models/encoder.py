# transformers types sub-configs as dicts and token ids as unions
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportOptionalMemberAccess=false
"""The encoder: a Qwen2.5-VL that captions images, and reads captions back for the decoder.

Captioning and its training share one prefix pass per image among all of its captions (exact, and
the larger part of the cost at small caption lengths). The condition is read from the caption's
*text* in a pass that holds no image (PKU-YuanGroup/UAE demo; role `generate`).
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    DynamicCache,
    Qwen2_5_VLForConditionalGeneration,
)

from uae.core.errors import NonFinite
from uae.flow.noise import stream
from uae.models.log_probs import LikelyTokens, likely_tokens
from uae.models.plain_text import PlainText

READ_ROLE = "generate"


@dataclass(frozen=True, slots=True)
class Captions:
    """Sampled captions, in groups of one image each.

    `log_probs` are those of the sampling policy at the sampling temperature, float32, 0 at padding;
    `entropies`, in nats, those of its distributions. A caption is truncated when it holds no end
    token, never because of its length.
    """

    texts: list[str]
    token_ids: Int[Tensor, "n t"]
    mask: Bool[Tensor, "n t"]
    log_probs: Float[Tensor, "n t"]
    entropies: Float[Tensor, "n t"]
    truncated: Bool[Tensor, " n"]
    group_id: Int[Tensor, " n"]
    policy_version: int

    @property
    def num_tokens(self) -> Int[Tensor, " n"]:
        return self.mask.sum(1)


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """One more token of each of n completions, as they are sampled.

    `mask` is False where the completion has ended before, `running` where it has ended now;
    `likely` is there if it was asked for.
    """

    token_ids: Int[Tensor, " n"]
    mask: Bool[Tensor, " n"]
    log_probs: Float[Tensor, " n"]
    entropies: Float[Tensor, " n"]
    running: Bool[Tensor, " n"]
    likely: LikelyTokens | None = None


@dataclass(frozen=True, slots=True)
class Prompts:
    """Tokenised chat prompts, left padded, with the patches of their images, if there are any."""

    token_ids: Int[Tensor, "p s"]
    mask: Bool[Tensor, "p s"]
    pixel_values: Float[Tensor, "patches d"]
    grid_thw: Int[Tensor, "images 3"]


class Encoder:
    """A vision-language model with its tokenizer and image processor.

    captions = encoder.sample(encoder.prompts(images), num_captions=8, ...)
    hidden, mask = encoder.read(captions.texts)
    """

    def __init__(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        tokenizer,
        image_processor,
        caption_prompt: str,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self._plain = PlainText(tokenizer, tokenizer.chat_template)
        self.image_processor = image_processor
        self.caption_prompt = caption_prompt
        config = model.config
        self._image_token = tokenizer.convert_ids_to_tokens(config.image_token_id)
        self._merge_area = config.vision_config.spatial_merge_size**2
        self.end_id: int = tokenizer.convert_tokens_to_ids("<|im_end|>")
        forbidden = torch.zeros(config.text_config.vocab_size, dtype=torch.bool)
        forbidden[len(tokenizer) :] = True
        names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
        for name in names:
            forbidden[config.to_dict()[name]] = True
        self._forbidden = forbidden.to(model.device)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, caption_prompt: str, dtype: torch.dtype = torch.float32
    ) -> "Encoder":
        """Load a plain transformers folder (model, tokenizer, image processor)."""
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        image_processor = AutoImageProcessor.from_pretrained(folder)
        return cls(model.eval(), tokenizer, image_processor, caption_prompt)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that plain transformers loads."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def to(self, device: str) -> None:
        """Move the model."""
        self.model.to(device)
        self._forbidden = self._forbidden.to(device)

    def token_ids(self, text: str) -> list[int]:
        """Return the tokens of a caption, without the chat format around it."""
        return self._plain.token_ids(text)

    def num_tokens(self, text: str) -> int:
        """Count the tokens of a caption, without the chat format around it."""
        return len(self.token_ids(text))

    def head_of(self, text: str, num_tokens: int) -> str:
        """Return the text of a caption's first tokens."""
        return self.tokenizer.decode(self.token_ids(text)[:num_tokens])

    # -- prompts ------------------------------------------------------------------------------

    def prompts(
        self,
        images: Sequence[Image.Image | Sequence[Image.Image]],
        questions: Sequence[str] | None = None,
    ) -> Prompts:
        """Build one user turn per image: the captioning prompt, or a question about the image.

        The captioning prompt stands before the image (PKU-YuanGroup/UAE), a question after it. Of
        an entry with several images all stand in its turn, in their order.
        """
        turns = [[x] if isinstance(x, Image.Image) else list(x) for x in images]
        chats = []
        for i, turn in enumerate(turns):
            pictures = [{"type": "image"}] * len(turn)
            if questions is None:
                parts = [{"type": "text", "text": self.caption_prompt}, *pictures]
            else:
                parts = [*pictures, {"type": "text", "text": questions[i]}]
            chats.append([{"role": "user", "content": parts}])
        return self.chat_prompts(chats, list(itertools.chain(*turns)))

    def chat_prompts(
        self, chats: Sequence[Sequence[Mapping[str, Any]]], images: Sequence[Image.Image]
    ) -> Prompts:
        """Build prompts that ask for the next reply of chats.

        Args:
            chats: Messages as the chat template takes them, of roles and parts; the texts are read
                as plain text.
            images: One for each image part of all chats, in their order.
        """
        patches, grid_thw = self._patches(images)
        num_visual = iter((grid_thw.prod(1) // self._merge_area).tolist())
        texts = []
        for chat in chats:
            pieces = self.tokenizer.apply_chat_template(
                self._plain.messages(chat), tokenize=False, add_generation_prompt=True
            ).split(self._image_token)
            tokens = [self._image_token * next(num_visual) for _ in pieces[1:]]
            texts.append("".join(itertools.chain(*zip(pieces, [*tokens, ""], strict=True))))
        encoded = self._plain.encode(texts, "left").to(self.device)
        return Prompts(
            token_ids=encoded["input_ids"],
            mask=encoded["attention_mask"].bool(),
            pixel_values=patches.to(self.device, self.model.dtype),
            grid_thw=grid_thw.to(self.device),
        )

    def _patches(self, images: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        """Cut images into patches: values (patches, d) and grids (images, 3)."""
        if not images:
            return torch.zeros(0, 0), torch.zeros(0, 3, dtype=torch.long)
        processed = self.image_processor(images=list(images), return_tensors="pt")
        return processed["pixel_values"], processed["image_grid_thw"]

    def _prefill(self, prompts: Prompts) -> tuple[DynamicCache, Tensor, Tensor]:
        """Run the prompts once: their cache, last hidden state (p, d), next position (p,)."""
        backbone = self.model.model
        is_image = prompts.token_ids == self.model.config.image_token_id
        has_images = len(prompts.grid_thw) > 0
        grid_thw = prompts.grid_thw if has_images else None
        position_ids, _ = backbone.get_rope_index(
            prompts.token_ids,
            mm_token_type_ids=is_image.int(),
            image_grid_thw=grid_thw,
            attention_mask=prompts.mask,
        )
        output = backbone(
            input_ids=prompts.token_ids,
            attention_mask=None if prompts.mask.all() else prompts.mask,
            position_ids=position_ids,
            pixel_values=prompts.pixel_values if has_images else None,
            image_grid_thw=grid_thw,
            past_key_values=DynamicCache(config=self.model.config.text_config),
            use_cache=True,
        )
        next_position = position_ids.amax(dim=(0, 2)) + 1
        return output.past_key_values, output.last_hidden_state[:, -1], next_position

    def _continue(
        self, token_ids: Tensor, position: Tensor, cache: DynamicCache, prompt_mask: Tensor
    ) -> Tensor:
        """Run completion tokens (n, t) whose first stands at `position` (n,): hidden (n, t, d)."""
        steps = torch.arange(token_ids.shape[1], device=token_ids.device)
        positions = repeat(position[:, None] + steps, "n t -> three n t", three=3)
        mask = None
        if not prompt_mask.all():
            seen = cache.get_seq_length() + token_ids.shape[1] - prompt_mask.shape[1]
            mask = torch.cat([prompt_mask, prompt_mask.new_ones(len(prompt_mask), seen)], dim=1)
        output = self.model.model.language_model(
            inputs_embeds=self.model.get_input_embeddings()(token_ids),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        return output.last_hidden_state

    def _log_softmax(self, hidden: Tensor, temperature: float) -> Tensor:
        """Log-probabilities of the next token, float32; tokens of images can never be said."""
        logits = self.model.lm_head(hidden).float() / temperature
        return logits.masked_fill(self._forbidden, float("-inf")).log_softmax(-1)

    @torch.no_grad()
    def next_log_probs(self, prompts: Prompts) -> Float[Tensor, "p v"]:
        """Return the log-probabilities of a completion's first token, float32."""
        _, hidden, _ = self._prefill(prompts)
        return self._log_softmax(hidden, 1.0)

    # -- captions -----------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        prompts: Prompts,
        uniforms: Float[Tensor, "n t"] | None,
        *,
        num_captions: int = 1,
        temperature: float = 1.0,
        max_new_tokens: int = 512,
        policy_version: int = 0,
    ) -> Captions:
        """Sample `num_captions` completions for each prompt.

        Args:
            prompts: p prompts.
            uniforms: Numbers in [0, 1) that choose the tokens by inverting the distribution, so
                that a caption depends on its own row only, not on its batch; n = p * num_captions
                and t = max_new_tokens. None takes the most probable token.
            num_captions: Captions of one image; they share its prefix and its `group_id`.
            temperature: Divides the logits, in the log-probabilities too.
            max_new_tokens: Limit, the end token included.
            policy_version: Recorded with the captions.
        """
        sampled = list(
            self.sample_tokens(
                prompts,
                uniforms,
                num_captions=num_captions,
                temperature=temperature,
                max_new_tokens=max_new_tokens,
            )
        )
        token_ids = torch.stack([tokens.token_ids for tokens in sampled], 1)
        return Captions(
            texts=self.decode(token_ids),
            token_ids=token_ids,
            mask=torch.stack([tokens.mask for tokens in sampled], 1),
            log_probs=torch.stack([tokens.log_probs for tokens in sampled], 1),
            entropies=torch.stack([tokens.entropies for tokens in sampled], 1),
            truncated=sampled[-1].running,
            group_id=torch.arange(len(prompts.token_ids)).repeat_interleave(num_captions),
            policy_version=policy_version,
        )

    @torch.no_grad()
    def sample_tokens(
        self,
        prompts: Prompts,
        uniforms: Float[Tensor, "n t"] | None,
        *,
        num_captions: int = 1,
        temperature: float = 1.0,
        max_new_tokens: int = 512,
        num_top: int | None = None,
    ) -> Iterator[SampledTokens]:
        """Do as `sample`, yielding the tokens as they come, until all completions have ended.

        With `num_top`, 0 or more, each comes with how likely it was and that many alternatives.
        """
        cache, hidden, position = self._prefill(prompts)
        cache.batch_repeat_interleave(num_captions)
        hidden, position, prompt_mask = (
            x.repeat_interleave(num_captions, 0) for x in (hidden, position, prompts.mask)
        )
        running = torch.ones(len(hidden), dtype=torch.bool, device=self.device)
        for t in range(max_new_tokens):
            log_p = self._log_softmax(hidden, temperature)
            if not log_p.amax(-1).isfinite().all():
                raise NonFinite(
                    "the encoder's next-token probabilities are not finite: its weights have "
                    "diverged; train it again with a lower encoder_rl.optimizer.lr in a new --out "
                    "folder"
                )
            if uniforms is None:
                token = log_p.argmax(-1)
            else:
                token = _invert(log_p, uniforms[:, t].to(self.device))
            token = torch.where(running, token, self.tokenizer.pad_token_id)
            chosen = log_p.gather(1, token[:, None]).squeeze(1)
            mask, running = running, running & (token != self.end_id)
            entropy = torch.special.entr(log_p.exp()).sum(-1)
            chosen, entropy = (torch.where(mask, x, 0.0) for x in (chosen, entropy))
            likely = None
            if num_top is not None:
                likely = likely_tokens(self._log_softmax(hidden, 1.0), token, num_top)
            yield SampledTokens(token, mask, chosen, entropy, running, likely)
            if not running.any() or t + 1 == max_new_tokens:
                return
            hidden = self._continue(token[:, None], position + t, cache, prompt_mask)[:, -1]

    def decode(self, token_ids: Int[Tensor, "n t"]) -> list[str]:
        """Turn completions into text; special tokens leave no trace."""
        return [
            text.strip()
            for text in self.tokenizer.batch_decode(token_ids.tolist(), skip_special_tokens=True)
        ]

    def log_probs(
        self,
        prompts: Prompts,
        token_ids: Int[Tensor, "n t"],
        mask: Bool[Tensor, "n t"],
        temperature: float = 1.0,
    ) -> Float[Tensor, "n t"]:
        """Return the log-probabilities of given completions, with gradients; 0 at padding.

        Args:
            prompts: p prompts; n is a multiple of p, completions of one prompt stand together.
            token_ids: Completions, right padded.
            mask: True at real tokens, the end token included.
            temperature: As in sampling.
        """
        cache, hidden, position = self._prefill(prompts)
        num_captions = len(token_ids) // len(prompts.token_ids)
        cache.batch_repeat_interleave(num_captions)
        hidden, position, prompt_mask = (
            x.repeat_interleave(num_captions, 0) for x in (hidden, position, prompts.mask)
        )
        later = self._continue(token_ids[:, :-1], position, cache, prompt_mask)
        states = torch.cat([rearrange(hidden, "n d -> n 1 d"), later], dim=1)
        log_p = self._log_softmax(states, temperature)
        chosen = log_p.gather(-1, token_ids[..., None]).squeeze(-1)
        return chosen.masked_fill(~mask, 0.0)

    def caption_states(
        self, prompts: Prompts, token_ids: Int[Tensor, "n t"]
    ) -> Float[Tensor, "n t d"]:
        """Return the last hidden states of completions in a pass that holds the image.

        Not a text bottleneck: only the paper's cold start uses it. One completion per prompt.
        """
        cache, _, position = self._prefill(prompts)
        return self._continue(token_ids, position, cache, prompts.mask)

    # -- reading ------------------------------------------------------------------------------

    def read(self, captions: Sequence[str]) -> tuple[Float[Tensor, "n s d"], Bool[Tensor, "n s"]]:
        """Return the last hidden states of captions in the reading format, and their mask.

        The states come after the final norm; all positions are kept, system line and role markers
        included (PKU-YuanGroup/UAE `modeling_longcontext`). Captions are read as plain text.
        """
        texts = [
            self.tokenizer.apply_chat_template(
                self._plain.messages([{"role": READ_ROLE, "content": caption}]),
                tokenize=False,
                add_generation_prompt=True,
            )
            for caption in captions
        ]
        encoded = self._plain.encode(texts, "right").to(self.device)
        # No mask: attention is causal and padding stands right, so no real token sees it.
        output = self.model.model.language_model(input_ids=encoded["input_ids"], use_cache=False)
        return output.last_hidden_state, encoded["attention_mask"].bool()


def caption_stream(seed: int, image: str | int, draw: int = 0) -> torch.Generator:
    """Return what chooses the words of an image's caption, whichever command writes it.

    Args:
        seed: Of the choice of words.
        image: Its name, or its number where images have no names.
        draw: Which of several captions of it: the first is the caption of an image.
    """
    return stream(seed, "caption", image, *([draw] if draw else []))


def uniforms(generators: Sequence[torch.Generator], num_draws: int) -> Float[Tensor, "n t"]:
    """Return uniform numbers in [0, 1) for `Encoder.sample`, one row per generator."""
    return torch.stack([torch.rand(num_draws, generator=generator) for generator in generators])


def _invert(log_p: Tensor, uniform: Tensor) -> Tensor:
    """Return the token whose share of the cumulative distribution holds `uniform`."""
    cumulative = log_p.double().exp().cumsum(-1)
    scaled = uniform.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, scaled, right=True).squeeze(1)
