# transformers types sub-configs as dicts and token ids as unions
# pyright: reportArgumentType=false
"""The encoder of uae-tiny: a small Qwen2.5-VL that captions vaguely and answers questions.

It learns three things at once: short captions (most small objects left out), multiple-choice
questions about the image, and long captions as plain text, which is how it learns to read for the
decoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
)

from uae.bases.fit import cosine, fit
from uae.bases.tokenizer import build_tokenizer
from uae.data.scenes.graph import Scene, scene_at
from uae.data.scenes.language import long_caption, prompt, short_caption
from uae.data.scenes.questions import question_text, questions_for
from uae.data.scenes.render import render_image
from uae.models.encoder import Encoder

CAPTION_PROMPT = "Describe the image."


@dataclass(frozen=True, kw_only=True)
class EncoderBaseConfig:
    """How the encoder is trained."""

    num_steps: int = 5000
    num_images: int = 16
    """Images per step with captions, and as many with questions."""
    captions_per_image: int = 2
    num_texts: int = 16
    """Long captions per step, read without an image."""
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


def _reading_loss(encoder: Encoder, texts: Sequence[str]) -> Tensor:
    """Next-token loss over captions in the reading format, format tokens included."""
    chats = [
        encoder.tokenizer.apply_chat_template([{"role": "generate", "content": t}], tokenize=False)
        for t in texts
    ]
    encoded = encoder.tokenizer(
        chats, padding=True, padding_side="right", return_tensors="pt", add_special_tokens=False
    )
    token_ids, mask = encoded["input_ids"], encoded["attention_mask"].bool()
    hidden = encoder.model.model.language_model(token_ids[:, :-1], use_cache=False)
    log_p = encoder.model.lm_head(hidden.last_hidden_state).log_softmax(-1)
    chosen = log_p.gather(-1, token_ids[:, 1:, None]).squeeze(-1)
    return -(chosen * mask[:, 1:]).sum() / mask[:, 1:].sum()


def build_encoder(folder: Path, config: EncoderBaseConfig) -> None:
    """Train the encoder from nothing and save it in transformers' layout."""
    torch.manual_seed(config.seed)
    encoder = new_encoder(build_tokenizer(CAPTION_PROMPT))

    def scenes(step: int, part: int, count: int) -> list[Scene]:
        first = (3 * step + part) * count
        return [scene_at(first + i, "train", config.seed) for i in range(count)]

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([config.seed, step])
        shown = scenes(step, 0, config.num_images)
        texts = [short_caption(s, rng) for s in shown for _ in range(config.captions_per_image)]
        caption = _mean_loss(encoder, encoder.prompts([render_image(s) for s in shown]), texts)

        asked = scenes(step, 1, config.num_images)
        questions = [questions_for(s, rng, 1)[0] for s in asked]
        prompts = encoder.prompts(
            [render_image(s) for s in asked], [question_text(q) for q in questions]
        )
        answer = _mean_loss(encoder, prompts, [q.answer for q in questions])

        told = scenes(step, 2, config.num_texts)
        texts = [(long_caption if rng.random() < 0.8 else prompt)(s, rng) for s in told]
        reading = _reading_loss(encoder, texts)
        numbers = {"caption": caption, "answer": answer, "reading": reading}
        return caption + 0.3 * answer + 0.5 * reading, {k: v.item() for k, v in numbers.items()}

    fit(
        encoder.model,
        loss_at,
        config.num_steps,
        cosine(config.lr, config.num_steps),
        lambda: encoder.save_pretrained(folder),
    )
