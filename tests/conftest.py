"""A tiny random model from the real builders, made once per test session."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from uae.bases.decoder import new_decoder, new_projector
from uae.bases.encoder import CAPTION_PROMPT, completions, new_encoder
from uae.bases.similarity import new_clip, new_dinov2, save_clip, save_dinov2
from uae.bases.tokenizer import build_tokenizer
from uae.bases.vae import new_vae
from uae.data.scenes.graph import scene_at
from uae.data.scenes.render import render_image
from uae.models.decoder import SamplingConfig
from uae.models.unified import ModelSettings, UnifiedAutoEncoder

COLORS = ("red", "blue", "green", "pink")


def teach_to_end(encoder):
    """A few real steps, so that sampled captions vary and end; random weights never end."""
    rng = np.random.default_rng(0)
    prompts = encoder.prompts([render_image(scene_at(i, "train")) for i in range(4)])
    optimizer = torch.optim.AdamW(encoder.model.parameters(), lr=3e-3)
    for _ in range(30):
        words = [COLORS[rng.integers(4)] for _ in range(4)]
        token_ids, mask = completions(encoder, [f"A {word} circle." for word in words])
        log_probs, _ = encoder.log_probs(prompts, token_ids, mask)
        (-log_probs.sum() / mask.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    encoder.model.eval()


@pytest.fixture(scope="session")
def random_model_folder(tmp_path_factory):
    """A model folder with random weights, in the layout of a trained one."""
    folder = tmp_path_factory.mktemp("models") / "random"
    torch.manual_seed(0)
    vae = new_vae()
    vae.register_to_config(scaling_factor=0.8, shift_factor=-0.05)
    tokenizer = build_tokenizer(CAPTION_PROMPT, num_scenes=300)
    encoder = new_encoder(tokenizer)
    teach_to_end(encoder)
    save_clip(new_clip(tokenizer), tokenizer, folder.with_name("clip"))
    save_dinov2(new_dinov2(), folder.with_name("dinov2"))
    settings = ModelSettings(
        caption_prompt=CAPTION_PROMPT,
        max_caption_tokens=128,
        max_new_tokens=16,
        sampling=SamplingConfig(num_steps=3),
        similarity={name: str(folder.with_name(name)) for name in ("clip", "dinov2")},
    )
    hidden_size = encoder.model.config.text_config.hidden_size
    UnifiedAutoEncoder(
        encoder, new_projector(hidden_size), new_decoder(vae.eval()), settings
    ).save_pretrained(folder)
    return folder
