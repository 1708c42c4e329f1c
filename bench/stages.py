"""Samples per second of each stage by phase, and the share of the machine's matrix rate it reaches.

    python bench/stages.py [--stage pretrain|encoder_rl|decoder_rl] [--model uae-tiny] [--steps 5]

One thread. Floating-point operations are counted by torch's FlopCounterMode over all steps, and set
against CPU seconds and the rate of a 1024^3 float32 product measured beside them. The first step's
times are left out. One JSON line per stage.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch.utils.flop_counter import FlopCounterMode

from uae.data.sources import SceneSource
from uae.eval.run_report import samples_per_step
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe import Recipe
from uae.stages import Context, load_backbones, run_pretrain, run_rl
from uae.train.metrics import read_metrics
from uae.train.run import Run

SECTIONS = {
    "pretrain": {"pretrain": {}},
    "encoder_rl": {"schedule": "encoder", "encoder_rl": {}},
    "decoder_rl": {"schedule": "decoder", "decoder_rl": {}},
}


def matrix_rate(size: int = 1024, repeats: int = 5) -> float:
    """Return the median rate of a square float32 product, in FLOP per CPU second."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    a @ b
    rates = []
    for _ in range(repeats):
        start = time.process_time()
        a @ b
        rates.append(2 * size**3 / (time.process_time() - start))
    return statistics.median(rates)


def measure(stage: str, model_name: str, num_steps: int) -> dict[str, object]:
    """Run a stage for `num_steps` steps and summarise its time by phase."""
    sections = {
        key: {**value, "num_steps": num_steps} if isinstance(value, dict) else value
        for key, value in SECTIONS[stage].items()
    }
    recipe = Recipe(model=model_name, **sections)
    model = UnifiedAutoEncoder.from_pretrained(model_name)
    source = SceneSource("train", 2000, model.decoder.size_px, 0)
    with tempfile.TemporaryDirectory() as folder:
        with Run.open(Path(folder) / "run", {"bench": stage}) as run:
            context = Context(recipe, run, model, model, source, load_backbones(model, "cpu"))
            counter = FlopCounterMode(display=False)
            start = time.process_time()
            with counter:
                (run_pretrain if stage == "pretrain" else run_rl)(context)
            cpu_s = time.process_time() - start
        lines = read_metrics(Path(folder) / "run" / "metrics.jsonl")[1:]
    config = {
        "pretrain": {"batch_size": recipe.pretrain.batch_size},
        "encoder_rl": {
            "num_images": recipe.encoder_rl.num_images,
            "captioning": {"num_captions": recipe.encoder_rl.captioning.num_captions},
            "num_redraws": recipe.encoder_rl.num_redraws,
        },
        "decoder_rl": {
            "num_images": recipe.decoder_rl.num_images,
            "captioning": {"num_captions": recipe.decoder_rl.captioning.num_captions},
            "num_redraws": recipe.decoder_rl.num_redraws,
        },
    }
    sizes = samples_per_step(config)
    phases = {}
    for key in (k for k in lines[0] if k.startswith("time/")):
        phase = key.removeprefix("time/").removesuffix("_s")
        seconds = statistics.median(line[key] for line in lines)
        phases[phase] = {"s_per_step": seconds, "samples_per_s": sizes[stage, phase] / seconds}
    rate = matrix_rate()
    return {
        "stage": stage,
        "num_steps": num_steps,
        "phases": phases,
        "flop_per_step": counter.get_total_flops() / num_steps,
        "share_of_matrix_rate": counter.get_total_flops() / cpu_s / rate,
        "matrix_gflop_per_s": rate / 1e9,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


def main() -> None:
    """Print one JSON line per stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=list(SECTIONS), action="append")
    parser.add_argument("--model", default="uae-tiny")
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for stage in arguments.stage or list(SECTIONS):
        sys.stdout.write(json.dumps(measure(stage, arguments.model, arguments.steps)) + "\n")


if __name__ == "__main__":
    main()
