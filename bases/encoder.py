# transformers types sub-configs as dicts and token ids as unions
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""The encoder of uae-tiny: a small Qwen2.5-VL that captions vaguely and answers questions.

Its halves learn apart first, as real ones do: the vision tower what stands where, the language
model to read. Then together: short captions (most small objects left out), questions about the
image, and reading still, for that is how the decoder is told. Last, talking gets better while
reading is held in place.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
)

from bases.encoder_tasks import (
    Held,
    Reader,
    Talker,
    TalkingConfig,
    scenes_of,
    seeing_loss,
    told,
)
from bases.fit import cosine, fit
from bases.layout import LayoutProbe
from bases.tokenizer import build_tokenizer
from uae.models.vlm.causal import CausalVlm
from uae.models.vlm.encoder import Encoder
from uae.models.vlm.qwen_vl import QwenVl
from uae.runs.run import Run

CAPTION_PROMPT = "Describe the image."
NUM_VISUAL = 16  # visual tokens of an image
ROPE_THETA = 100.0
"""Columns of an image turn the slowest part of M-RoPE. At Qwen's theta of 10,000 or more and this
head size they turn it by 0.01 rad in all, and the language model hardly tells left from right."""


@dataclass(frozen=True, kw_only=True)
class EncoderBaseConfig:
    """How the encoder is trained."""

    num_tokenizer_scenes: int = 5000
    """Scenes whose text the tokenizer is trained on."""
    num_steps_seeing: int = 1200
    """Steps of the vision tower alone."""
    num_views: int = 64
    """Images per such step."""
    num_steps_reading: int = 450
    """Steps of the language model alone."""
    num_texts: int = 64
    """Texts per such step."""
    num_steps: int = 750
    """Steps in which they learn together."""
    together: TalkingConfig = field(
        default_factory=lambda: TalkingConfig(num_lists=20, num_images=10, num_choices=1)
    )
    num_steps_talking: int = 1600
    """Steps in which talking gets better and reading is held in place."""
    talking: TalkingConfig = field(
        default_factory=lambda: TalkingConfig(num_lists=6, num_images=8, num_choices=5)
    )
    num_texts_kept: int = 8
    """Texts per step of the last two parts."""
    lr: float = 2e-3
    seed: int = 21


def new_encoder(tokenizer: Qwen2Tokenizer, num_layers: int = 4) -> Encoder:
    """Build the untrained model: patches of 8 px, 16 visual tokens at 64 px."""
    ids = {t: tokenizer.convert_tokens_to_ids(t) for t in tokenizer.all_special_tokens}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 160,
            "intermediate_size": 448,
            "num_hidden_layers": num_layers,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "max_position_embeddings": 1024,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": ROPE_THETA,
                "mrope_section": [2, 6, 8],
            },
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": num_layers,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 64,
            "fullatt_block_indexes": list(range(num_layers)),
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
    return Encoder(CausalVlm(model, tokenizer, image_processor, QwenVl), CAPTION_PROMPT)


def build_encoder(run: Run, folder: Path, config: EncoderBaseConfig) -> None:
    """Train the encoder from nothing and save it in transformers' layout."""
    torch.manual_seed(config.seed)
    encoder = new_encoder(build_tokenizer(CAPTION_PROMPT, config.num_tokenizer_scenes))
    hidden_size = encoder.model.config.text_config.hidden_size
    reader, probe = Reader(hidden_size), LayoutProbe(hidden_size, NUM_VISUAL)
    talker = Talker(encoder, hidden_size)
    backbone, seed = encoder.model.model, 10 * config.seed

    def see(step: int) -> tuple[Tensor, dict[str, float]]:
        return seeing_loss(encoder, probe, scenes_of(seed, step, config.num_views))

    def read(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([config.seed, 1, step])
        texts = [told(s, rng) for s in scenes_of(seed + 1, step, config.num_texts)]
        return reader.loss(encoder, texts)

    def together(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([config.seed, 2, step])
        talking, shown = talker.losses(config.together, seed, step, rng)
        texts = [told(s, rng) for s in scenes_of(seed + 5, step, config.num_texts_kept)]
        kept, numbers = reader.loss(encoder, texts)
        return sum(talking.values(), start=kept), numbers | shown

    def train(
        phase: str,
        parts: dict[str, nn.Module],
        loss_at: Callable[[int], tuple[Tensor, dict[str, float]]],
        num_steps: int,
    ) -> None:
        optimizer = cosine(config.lr, num_steps)
        fit(run, f"encoder_{phase}", nn.ModuleDict(parts), loss_at, num_steps, optimizer)

    sees = {"visual": backbone.visual, "probe": probe}
    train("seeing", sees, see, config.num_steps_seeing)
    reads = {"model": backbone.language_model, "reader": reader}
    train("reading", reads, read, config.num_steps_reading)
    everything = {"all": encoder.model, "reader": reader, "talker": talker}
    train("together", everything, together, config.num_steps)
    talker.forget()
    held = Held(encoder)

    def talk(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([config.seed, 3, step])
        talking, shown = talker.losses(config.talking, seed + 1000, step, rng)
        texts = [told(s, rng) for s in scenes_of(seed + 1005, step, config.num_texts_kept)]
        moved = held.loss(encoder, texts)
        return sum(talking.values(), start=10 * moved), shown | {"moved": moved.item()}

    train("talking", everything, talk, config.num_steps_talking)
    encoder.save_pretrained(folder)
