# transformers types sub-configs as dicts and token ids as unions
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""The encoder of uae-tiny: a small Qwen2.5-VL that captions vaguely and answers questions.

Its halves learn apart first, as real ones do: the vision tower what stands where, the language
model to read. Then together: short captions (most small objects left out),
questions about the image, and reading still, for that is how the decoder is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
)

from uae.bases.fit import cosine, fit
from uae.bases.layout import LayoutProbe, MentionHead, layout_loss, layout_of, layout_told
from uae.bases.tokenizer import build_tokenizer
from uae.data.scenes.graph import Scene, scene_at
from uae.data.scenes.language import long_caption, prompt, short_caption, terse_caption
from uae.data.scenes.questions import (
    LETTERS,
    open_question_text,
    question_text,
    questions_for,
)
from uae.data.scenes.reading import read_caption
from uae.data.scenes.render import render_image
from uae.models.encoder import READ_ROLE, Encoder

CAPTION_PROMPT = "Describe the image."
NUM_VISUAL = 16  # visual tokens of an image


@dataclass(frozen=True, kw_only=True)
class EncoderBaseConfig:
    """How the encoder is trained."""

    num_steps_seeing: int = 1200
    """Steps of the vision tower alone."""
    num_views: int = 64
    """Images per such step."""
    num_steps_reading: int = 450
    """Steps of the language model alone."""
    num_texts: int = 64
    """Texts per such step."""
    num_steps: int = 650
    """Steps in which they learn together."""
    num_images: int = 16
    """Images per such step with captions, as many with two questions each; half as many texts."""
    captions_per_image: int = 2
    lr: float = 2e-3
    seed: int = 21


def new_encoder(tokenizer: Qwen2Tokenizer) -> Encoder:
    """Build the untrained model: patches of 8 px, 16 visual tokens at 64 px."""
    ids = {t: tokenizer.convert_tokens_to_ids(t) for t in tokenizer.all_special_tokens}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 160,
            "intermediate_size": 448,
            "num_hidden_layers": 4,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "max_position_embeddings": 1024,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 6, 6],
            },
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 64,
            "fullatt_block_indexes": [0, 1, 2, 3],
            "out_hidden_size": 160,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=8, merge_size=2, temporal_patch_size=2, min_pixels=64 * 64, max_pixels=64 * 64
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    return Encoder(model, tokenizer, image_processor, CAPTION_PROMPT)


def completions(encoder: Encoder, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Tokenise answers with their end token, right padded: ids and mask, both (n, t)."""
    encoded = encoder.tokenizer(
        [f"{text}<|im_end|>" for text in texts],
        padding=True,
        padding_side="right",
        return_tensors="pt",
        add_special_tokens=False,
    )
    return encoded["input_ids"], encoded["attention_mask"].bool()


def _mean_loss(encoder: Encoder, prompts, texts: Sequence[str]) -> Tensor:
    token_ids, mask = completions(encoder, texts)
    log_probs, _ = encoder.log_probs(prompts, token_ids, mask)
    return -log_probs.sum() / mask.sum()


def told(scene: Scene, rng: np.random.Generator) -> str:
    """Tell a scene in one of the four ways in which the decoder will be told."""
    tellers = (long_caption, terse_caption, short_caption, prompt)
    return tellers[rng.choice(4, p=[0.5, 0.25, 0.15, 0.1])](scene, rng)


class Reader(nn.Module):
    """What the language model's states are held to when it reads."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.probe = LayoutProbe(hidden_size)
        self.mention = MentionHead(hidden_size)

    def loss(self, encoder: Encoder, texts: Sequence[str]) -> tuple[Tensor, dict[str, float]]:
        """Next-token loss in the reading format, and what can be read off the states."""
        chats = [
            encoder.tokenizer.apply_chat_template(
                [{"role": READ_ROLE, "content": t}], tokenize=False, add_generation_prompt=True
            )
            for t in texts
        ]
        encoded = encoder.tokenizer(
            chats,
            padding=True,
            padding_side="right",
            return_tensors="pt",
            add_special_tokens=False,
            return_offsets_mapping=True,
        )
        token_ids, mask = encoded["input_ids"], encoded["attention_mask"].bool()
        states = encoder.model.model.language_model(token_ids, use_cache=False).last_hidden_state
        log_p = encoder.model.lm_head(states[:, :-1]).log_softmax(-1)
        chosen = log_p.gather(-1, token_ids[:, 1:, None]).squeeze(-1)
        next_token = -(chosen * mask[:, 1:]).sum() / mask[:, 1:].sum()
        starts = torch.tensor([chat.index(t) for chat, t in zip(chats, texts, strict=True)])
        ends = (encoded["offset_mapping"][..., 1] - starts[:, None]).clamp(min=0).tolist()
        mention = self.mention.loss(states, ends, texts)
        layout = layout_told([read_caption(t) for t in texts])
        found, right = layout_loss(self.probe(states, mask), layout)
        numbers = {"next": next_token, "mention": mention}
        shown = {k: v.item() for k, v in numbers.items()} | {
            f"read_{k}": v for k, v in right.items()
        }
        return 0.5 * next_token + 0.25 * mention + 0.5 * found, shown


def _seeing_loss(
    encoder: Encoder, probe: LayoutProbe, scenes: Sequence[Scene]
) -> tuple[Tensor, dict[str, float]]:
    """What the probe finds in the visual tokens."""
    processed = encoder.image_processor(
        images=[render_image(s) for s in scenes], return_tensors="pt"
    )
    states = encoder.model.model.visual(
        processed["pixel_values"], grid_thw=processed["image_grid_thw"]
    ).pooler_output
    loss, right = layout_loss(
        probe(rearrange(states, "(b s) d -> b s d", b=len(scenes))), layout_of(scenes)
    )
    return loss, {f"see_{k}": v for k, v in right.items()}


def build_encoder(folder: Path, config: EncoderBaseConfig) -> None:
    """Train the encoder from nothing and save it in transformers' layout."""
    torch.manual_seed(config.seed)
    encoder = new_encoder(build_tokenizer(CAPTION_PROMPT))
    hidden_size = encoder.model.config.text_config.hidden_size
    reader, probe = Reader(hidden_size), LayoutProbe(hidden_size, NUM_VISUAL)
    backbone = encoder.model.model

    def save() -> None:
        encoder.save_pretrained(folder)

    def see(step: int) -> tuple[Tensor, dict[str, float]]:
        return _seeing_loss(encoder, probe, _scenes(config, 0, step, config.num_views))

    def read(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([config.seed, 1, step])
        return reader.loss(
            encoder, [told(s, rng) for s in _scenes(config, 1, step, config.num_texts)]
        )

    def together(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([config.seed, 2, step])
        caption, answer = _talking_losses(encoder, config, step, rng)
        texts = [told(s, rng) for s in _scenes(config, 4, step, config.num_images // 2)]
        kept, numbers = reader.loss(encoder, texts)
        numbers |= {"caption": caption.item(), "answer": answer.item()}
        return caption + answer + kept, numbers

    language = nn.ModuleDict({"model": backbone.language_model, "reader": reader})
    for parts, loss_at, num_steps in (
        (nn.ModuleDict({"visual": backbone.visual, "probe": probe}), see, config.num_steps_seeing),
        (language, read, config.num_steps_reading),
        (nn.ModuleDict({"all": encoder.model, "reader": reader}), together, config.num_steps),
    ):
        fit(parts, loss_at, num_steps, cosine(config.lr, num_steps), save)


def _scenes(config: EncoderBaseConfig, part: int, step: int, count: int) -> list[Scene]:
    """Return the training scenes of a step; every part of the training has its own."""
    first = step * count
    return [scene_at(first + i, "train", 10 * config.seed + part) for i in range(count)]


def _talking_losses(
    encoder: Encoder, config: EncoderBaseConfig, step: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Next-token losses of short captions and of answers, given the image.

    Every second question is answered in words: letters alone teach nothing for a long time.
    """
    shown = _scenes(config, 2, step, config.num_images)
    texts = [short_caption(s, rng) for s in shown for _ in range(config.captions_per_image)]
    caption = _mean_loss(encoder, encoder.prompts([render_image(s) for s in shown]), texts)
    asked = _scenes(config, 3, step, config.num_images)
    prompts, answers = [], []
    for scene in asked:
        chosen, open_one = questions_for(scene, rng, 2)
        prompts += [question_text(chosen), open_question_text(open_one)]
        answers += [chosen.answer, open_one.options[LETTERS.index(open_one.answer)]]
    images = [image for s in asked for image in [render_image(s)] * 2]
    return caption, _mean_loss(encoder, encoder.prompts(images, prompts), answers)
