"""A tiny model with random weights from the real builders, for trials and tests of the loops."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch

from bases.decoder import new_decoder, new_projector
from bases.encoder import CAPTION_PROMPT, new_encoder
from bases.encoder_tasks import completions
from bases.similarity import new_clip, new_dinov2, save_clip, save_dinov2
from bases.tokenizer import build_tokenizer
from bases.vae import new_vae
from uae.models.unified import ModelSettings, UnifiedAutoEncoder
from uae.models.vlm.encoder import Encoder
from uae.recipe.sampling import SamplingConfig
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

NUM_LAYERS = 2  # of each transformer: what is tried depends on no depth
COLORS = ("red", "blue", "green", "pink")


@cache
def random_model_folder() -> Path:
    """Build the model once per process; return its folder, laid out like a trained one.

    Its similarity backbones lie beside it. All of it is deleted when the process ends.
    """
    root = Path(tempfile.mkdtemp(prefix="uae-random-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    torch.manual_seed(0)
    vae = new_vae()
    vae.register_to_config(scaling_factor=0.8, shift_factor=-0.05)
    tokenizer = build_tokenizer(CAPTION_PROMPT, num_scenes=300)
    encoder = new_encoder(tokenizer, NUM_LAYERS)
    teach_to_end(encoder)
    save_clip(new_clip(tokenizer), tokenizer, root / "clip")
    save_dinov2(new_dinov2(), root / "dinov2")
    settings = ModelSettings(
        caption_prompt=CAPTION_PROMPT,
        max_caption_tokens=128,
        max_new_tokens=16,
        sampling=SamplingConfig(num_steps=3),
        similarity={name: str(root / name) for name in ("clip", "dinov2")},
    )
    hidden_size = encoder.model.config.text_config.hidden_size
    model = UnifiedAutoEncoder(
        encoder, new_projector(hidden_size), new_decoder(vae.eval(), NUM_LAYERS), settings
    )
    model.save_pretrained(root / "random")
    return root / "random"


def teach_to_end(encoder: Encoder) -> None:
    """Take a few real steps, so that sampled captions vary and end; random weights never end."""
    rng = np.random.default_rng(0)
    prompts = encoder.prompts([render_image(scene_at(i, "train")) for i in range(4)])
    optimizer = torch.optim.AdamW(encoder.model.parameters(), lr=3e-3)
    for _ in range(30):
        words = [COLORS[rng.integers(4)] for _ in range(4)]
        token_ids, mask = completions(encoder, [f"A {word} circle." for word in words])
        log_probs = encoder.log_probs(prompts, token_ids, mask)
        (-log_probs.sum() / mask.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    encoder.model.eval()
