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
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Split
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLForConditionalGeneration,
)

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.real_models import (
    SPECIAL,
    clip,
    qwen2_5_vl,
    save_image_processor,
    sd3_medium,
    with_chat,
)

RECIPE = """
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
RUNS = {  # name: (schedule, steps of the encoder, of the decoder, objective of the latter)
    "encoder-rl": ("encoder", 1, 0, "{name: awm}"),
    "flow-grpo": ("decoder", 0, 1, "{name: flow_grpo, window: 1, window_starts: 1}"),
    "awm": ("decoder", 0, 1, "{name: awm}"),
}


def tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer of letters with Qwen's control tokens and chat template."""
    names = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyz .,:'\"\n"]
    letters = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    letters.normalizer = Lowercase()
    letters.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    letters.decoder = Fuse()
    return with_chat(letters)


def build_encoder(folder: Path) -> None:
    """Write Qwen2.5-VL-3B (arXiv 2502.13923, its published config) with random weights."""
    tokens = tokenizer()
    Qwen2_5_VLForConditionalGeneration(qwen2_5_vl()).save_pretrained(folder)
    tokens.save_pretrained(folder)
    save_image_processor(folder)


def build_decoder(folder: Path) -> None:
    """Write SD3.5-medium (stabilityai/stable-diffusion-3.5-medium's config) with random weights."""
    sd3_medium().save_pretrained(folder)


def build_clip(folder: Path) -> None:
    """Write CLIP ViT-L/14 (arXiv 2103.00020) with random weights."""
    CLIPModel(clip()).save_pretrained(folder)
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
        schedule, encoder_steps, decoder_steps, objective = RUNS[name]
        recipe = out / f"{name}.yaml"
        recipe.write_text(
            RECIPE.format(
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
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=[*RUNS])
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(json.dumps(measure(flags.out, flags.size_px, flags.runs), indent=1) + "\n")


if __name__ == "__main__":
    main()
