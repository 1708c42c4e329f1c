"""Samples per second of each stage by phase, and the share of the machine's matrix rate it reaches.

    python bench/stages.py [--stage STAGE ...] [--model uae-tiny] [--steps 4]

Stages: pretrain, cold_start, encoder_rl, decoder_rl, joint; by default all. One thread.
Floating-point operations are counted by torch's FlopCounterMode over all steps, and set against CPU
seconds and the rate of a 1024^3 float32 product measured beside them. The first step's times are
left out. One JSON line per stage.
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
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch.utils.flop_counter import FlopCounterMode

from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.recipe import Recipe
from uae.rewards.loading import load_backbones
from uae.runs.metrics import read_metrics
from uae.runs.run import Run
from uae.scenes.run_images import run_images
from uae.scenes.source import SceneSource
from uae.train.run import STAGES, Context
from uae.train.run_report import samples_per_step

RL_SCHEDULES = {"encoder_rl": "encoder", "decoder_rl": "decoder", "joint": "joint"}
SECTIONS = {
    "pretrain": ("pretrain",),
    "cold_start": ("cold_start",),
    "encoder_rl": ("encoder_rl",),
    "decoder_rl": ("decoder_rl",),
    "joint": ("encoder_rl", "decoder_rl"),
}
MIN_STEPS = 2  # the first one's times are left out


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


def recipe_of(stage: str, model_name: str, num_steps: int) -> Recipe:
    """Return a recipe that runs a stage alone, with the defaults but for its steps."""
    sections: dict[str, Any] = {name: {"num_steps": num_steps} for name in SECTIONS[stage]}
    if stage in RL_SCHEDULES:
        sections["schedule"] = RL_SCHEDULES[stage]
    return Recipe(model=model_name, **sections)


def measure(stage: str, recipe: Recipe) -> dict[str, Any]:
    """Run the one stage that a recipe has steps for, and summarise its time by phase."""
    model = UnifiedAutoEncoder.from_pretrained(recipe.model)
    source = SceneSource("train", 2000, model.decoder.size_px, 0)
    with tempfile.TemporaryDirectory() as folder:
        with Run.open(Path(folder) / "run", {"bench": stage}) as run:
            context = Context(
                recipe,
                run,
                model,
                source,
                dict(load_backbones(model.settings.similarity)),
                run_images(recipe).evaluator,
            )
            counter = FlopCounterMode(display=False)
            start = time.process_time()
            with counter:
                STAGES["rl" if stage in RL_SCHEDULES else stage](context)
            cpu_s = time.process_time() - start
        every_line = read_metrics(Path(folder) / "run" / "metrics.jsonl")
    num_steps, lines = len(every_line), every_line[1:]
    sizes = samples_per_step(recipe)
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
    if arguments.steps < MIN_STEPS:
        parser.error(f"--steps {arguments.steps}: expected {MIN_STEPS} or more")
    torch.set_num_threads(1)
    for stage in arguments.stage or list(SECTIONS):
        recipe = recipe_of(stage, arguments.model, arguments.steps)
        sys.stdout.write(json.dumps(measure(stage, recipe)) + "\n")


if __name__ == "__main__":
    main()
