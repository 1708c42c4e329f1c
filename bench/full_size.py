"""One step of each RL stage at real size, with random weights, on this machine's CPU.

python bench/full_size.py --out runs/full-size

Qwen2.5-VL-3B writes and reads captions, a projector joins it to SD3.5-medium, CLIP ViT-L/14 is the
reward: real classes and sizes in bfloat16, joined by `uae join` and trained by `uae train`. The
tokenizer knows letters alone, so that captions of random weights end. It needs 20 GiB of memory and
18 GB of disk; the models are built once.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Split
from transformers import (
    AutoImageProcessor,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from uae.models.settings import resolve

_SPECIAL = (
    "<unk>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_RECIPE = """
model: {pair}
data: {{folder: {photos}, held_out_share: 0.5}}
placement: {{frozen: bfloat16, checkpointing: true}}
evaluation: {{num_images: 2}}
schedule: {schedule}
encoder_rl:
  num_steps: {encoder_steps}
  num_images: 1
  micro_images: 1
  num_redraws: 1
  sampling: {{num_steps: 2}}
  captioning: {{num_captions: 3, max_new_tokens: 64}}
decoder_rl:
  num_steps: {decoder_steps}
  num_images: 1
  micro_images: 1
  num_redraws: 2
  num_sampling_steps: 2
  objective: {objective}
  captioning: {{num_captions: 1, max_new_tokens: 64}}
"""
_RUNS = {  # name: (schedule, steps of the encoder, of the decoder, objective of the latter)
    "encoder-rl": ("encoder", 1, 0, "{name: awm}"),
    "flow-grpo": ("decoder", 0, 1, "{name: flow_grpo, window: 1, window_starts: 1}"),
    "awm": ("decoder", 0, 1, "{name: awm}"),
}


def tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer of letters with Qwen's control tokens and chat template."""
    names = [*_SPECIAL, *"abcdefghijklmnopqrstuvwxyz .,:'\"\n"]
    letters = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    letters.normalizer = Lowercase()
    letters.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    letters.decoder = Fuse()
    made = PreTrainedTokenizerFast(
        tokenizer_object=letters,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(_SPECIAL[2:]),
    )
    template = Path(str(resolve("uae-tiny/encoder"))) / "chat_template.jinja"
    made.chat_template = template.read_text()
    return made


def build_encoder(folder: Path) -> None:
    """Write Qwen2.5-VL-3B (arXiv 2502.13923, its published config) with random weights."""
    tokens = tokenizer()
    ids = {
        "image_token_id": tokens.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": tokens.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": tokens.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": tokens.convert_tokens_to_ids("<|vision_end|>"),
    }
    text = {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "max_position_embeddings": 128_000,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [16, 24, 24],
        },
        "bos_token_id": None,
        "eos_token_id": tokens.eos_token_id,
        "pad_token_id": tokens.pad_token_id,
    }
    vision = {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 2048,
        "fullatt_block_indexes": [7, 15, 23, 31],
    }
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, **ids
    )
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    tokens.save_pretrained(folder)
    budget = {"shortest_edge": 3136, "longest_edge": 65_536}  # pixels, the paper's
    AutoImageProcessor.from_pretrained(
        resolve("uae-tiny/encoder"), patch_size=14, size=budget
    ).save_pretrained(folder)


def build_decoder(folder: Path) -> None:
    """Write SD3.5-medium (stabilityai/stable-diffusion-3.5-medium's config) with random weights."""
    transformer = SD3Transformer2DModel(
        sample_size=128,
        patch_size=2,
        in_channels=16,
        num_layers=24,
        attention_head_dim=64,
        num_attention_heads=24,
        joint_attention_dim=4096,
        caption_projection_dim=1536,
        pooled_projection_dim=2048,
        out_channels=16,
        pos_embed_max_size=384,
        dual_attention_layers=tuple(range(13)),
        qk_norm="rms_norm",
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=16,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    nothing = dict.fromkeys(
        [f"{part}{end}" for part in ("text_encoder", "tokenizer") for end in ("", "_2", "_3")]
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    StableDiffusion3Pipeline(
        transformer=transformer, vae=vae, scheduler=scheduler, **nothing
    ).save_pretrained(folder)


def build_clip(folder: Path) -> None:
    """Write CLIP ViT-L/14 (arXiv 2103.00020) with random weights."""
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
        "projection_dim": 768,
    }
    text = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "projection_dim": 768,
    }
    config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=768)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)


def uae(*arguments: object) -> float:
    """Run a command of `uae`; return its seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "uae", *map(str, arguments)], check=True)
    return round(time.perf_counter() - start, 1)


def measure(out: Path, size_px: int, runs: Sequence[str]) -> dict[str, Any]:
    """Build, join, and train a step of each run; return seconds and the peak of memory."""
    torch.set_default_dtype(torch.bfloat16)
    torch.manual_seed(0)
    seconds: dict[str, float] = {}
    for name, build in (
        ("encoder", build_encoder),
        ("decoder", build_decoder),
        ("clip", build_clip),
    ):
        if not (out / name).exists():
            start = time.perf_counter()
            build(out / f".{name}")
            (out / f".{name}").rename(out / name)
            seconds[f"build {name}"] = round(time.perf_counter() - start, 1)
    photos, pair = out / "photos", out / "pair"
    if not pair.exists():
        uae("scenes", out / "scenes", "--num", 4, "--split", "train", "--size-px", 512)
        (out / "scenes" / "images").rename(photos)
        for captions in photos.glob("*.jsonl"):  # of letters they would be long to read
            captions.unlink()
        places = ("--encoder", out / "encoder", "--decoder", out / "decoder", "--out", pair)
        options = ("--condition", "projector", "--size-px", size_px, "--num-steps", 1)
        options += ("--max-new-tokens", 64, "--similarity.clip", out / "clip")
        seconds["join"] = uae("join", *places, *options)
    for name in runs:
        schedule, encoder_steps, decoder_steps, objective = _RUNS[name]
        recipe = out / f"{name}.yaml"
        recipe.write_text(
            _RECIPE.format(
                pair=pair,
                photos=photos,
                schedule=schedule,
                encoder_steps=encoder_steps,
                decoder_steps=decoder_steps,
                objective=objective,
            )
        )
        seconds[name] = uae("train", "--recipe", recipe, "--out", out / name, "--overwrite")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return {
        "seconds": seconds,
        "peak_gib": round(peak, 1),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/full-size"))
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--runs", nargs="+", choices=_RUNS, default=[*_RUNS])
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(json.dumps(measure(flags.out, flags.size_px, flags.runs), indent=1) + "\n")


if __name__ == "__main__":
    main()
