"""A run of GenEval over many images: speed by phase, share of loading, resident memory.

    python bench/geneval.py [--num-images 2212] [--size-px 512] [--input-px 800]

Images are noise of `--size-px`, the detector and CLIP tiny networks with random weights: loading
has a larger share than beside the real detector. Loading is opening and decoding; resizing counts
as detection. Colours are asked only where an object that a prompt gives a colour is found, so
that a few images may ask none (`-`). One thread. Prints two Markdown tables, goals beside the
figures.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))  # the tiny networks of the trials

import numpy as np
import psutil
import torch
from PIL import Image

from faults.random_detector import SURE, random_clip_folder, random_mask2former_folder
from uae.benchmarks.geneval import detector as detector_module
from uae.benchmarks.geneval import run as geneval
from uae.benchmarks.geneval.colors import ColorClassifier
from uae.benchmarks.geneval.detector import Detector
from uae.benchmarks.geneval.layout import (
    SAMPLES_PER_PROMPT,
    read_folder,
    sample_path,
    write_metadata,
)
from uae.benchmarks.geneval.prompts import PromptSet, official_prompts
from uae.benchmarks.geneval.task import Judges, Task
from uae.benchmarks.results.run import BenchRun
from uae.benchmarks.run import run_plan

MAX_LOADING = 0.1
"""Share of the time that loading data may take."""
MAX_GROWTH_MIB = 16
"""Growth of memory in the last quarter that counts as flat."""
PHASES = ("load", "detect", "colours", "write")


def write_images(root: Path, prompts: PromptSet, size_px: int) -> None:
    """Fill GenEval's layout with noise."""
    rng = np.random.default_rng(0)
    write_metadata(root, prompts)
    for prompt_id in range(len(prompts.lines)):
        for sample_id in range(SAMPLES_PER_PROMPT):
            pixels = rng.integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(sample_path(root, prompt_id, sample_id))


def timed(seconds: dict[str, float], phase: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """Add the time of each call to a phase."""

    @wraps(work)
    def call(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return work(*arguments)
        finally:
            seconds[phase] += time.perf_counter() - start

    return call


def watch_phases() -> dict[str, float]:
    """Time the phases of every run from now on; return the seconds, which grow."""
    seconds = dict.fromkeys(PHASES, 0.0)
    for owner, name, phase in (
        (geneval, "open_image", "load"),
        (Detector, "detect", "detect"),
        (ColorClassifier, "classify", "colours"),
        (BenchRun, "add", "write"),
    ):
        setattr(owner, name, timed(seconds, phase, getattr(owner, name)))
    return seconds


def resident_mib() -> float:
    """Return the memory of this process."""
    return psutil.Process().memory_info().rss / 2**20


def measure(root: Path, prompts: PromptSet) -> tuple[float, dict[str, float], list[float]]:
    """Score the images; return seconds in all and by phase, and memory after each image, in MiB."""
    judges = Judges(
        Detector.from_pretrained(random_mask2former_folder()),
        ColorClassifier.from_pretrained(random_clip_folder()),
        names={},
        weights={},
    )
    images = root / "images"
    folder = read_folder(images, prompts)
    task = Task(folder, prompts, SAMPLES_PER_PROMPT, judges, SURE)
    seconds, memory = watch_phases(), []
    start = time.perf_counter()
    plan = geneval.plan_of(task, root / "run")
    result = run_plan(
        plan,
        root / "run",
        resume="never",
        show=lambda _done, _total: memory.append(resident_mib()),
    )
    assert plan.text
    plan.text(result)
    return time.perf_counter() - start, seconds, memory


def report(total_s: float, seconds: dict[str, float], memory: list[float]) -> str:
    """Return the tables."""
    num_images = len(memory) - 1
    rest = {"rest of the run": total_s - sum(seconds.values()), "all": total_s}
    lines = ["| phase | s | share % | images/s |", "|---|---|---|---|"]
    lines += [
        f"| {phase} | {spent:.2f} | {100 * spent / total_s:.1f} "
        f"| {f'{num_images / spent:.1f}' if spent else '-'} |"
        for phase, spent in (seconds | rest).items()
    ]
    # an allocator gives back and takes again: the highest of each quarter, after the first image
    quarters = [float(max(part)) for part in np.array_split(memory[1:], 4)]
    share, growth = seconds["load"] / total_s, quarters[3] - max(quarters[:3])
    lines += [
        "",
        "| figure | value | goal | met |",
        "|---|---|---|---|",
        f"| loading | {100 * share:.1f} % of the time | under {100 * MAX_LOADING:.0f} % "
        f"| {'yes' if share < MAX_LOADING else 'no'} |",
        f"| highest memory by quarter | {', '.join(f'{x:.0f}' for x in quarters)} MiB "
        f"| flat: the last at most +{MAX_GROWTH_MIB} MiB over all before "
        f"| {'yes' if growth <= MAX_GROWTH_MIB else 'no'} |",
    ]
    return "\n".join(lines)


def main() -> None:
    """Write images, score them and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-images", type=int, default=2212, help="a multiple of 4")
    parser.add_argument("--size-px", type=int, default=512, help="side of the images")
    parser.add_argument("--input-px", type=int, default=detector_module.SHORT_PX)
    options = parser.parse_args()
    lines = official_prompts().lines
    num_prompts = options.num_images // SAMPLES_PER_PROMPT
    if options.num_images % SAMPLES_PER_PROMPT or not 1 <= num_prompts <= len(lines):
        most = SAMPLES_PER_PROMPT * len(lines)
        parser.error(f"--num-images {options.num_images}: expected a multiple of 4, 4 to {most}")
    detector_module.SHORT_PX = options.input_px
    torch.set_num_threads(1)
    # spread over the file, which stands category by category
    chosen = tuple(lines[i * len(lines) // num_prompts] for i in range(num_prompts))
    prompts = PromptSet(f"{num_prompts} of {len(lines)}", chosen)
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "images", prompts, options.size_px)
        sys.stdout.write(report(*measure(Path(folder), prompts)) + "\n")


if __name__ == "__main__":
    main()
