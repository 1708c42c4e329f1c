"""How exactly the parser reads clean, blurred and noisy renders of held-out scenes.

python bench/parser.py                  # the table of docs/scenes.md
python bench/parser.py --num-scenes 100 --size-px 64
"""

import argparse
import sys
import time
from collections import Counter

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from uae.report.statistics import proportion
from uae.scenes.graph import Scene, scene_at
from uae.scenes.parser import ParsedScene, parse
from uae.scenes.render import render

CLEAN = ("clean", 0.0)
CORRUPTIONS = (
    CLEAN,
    ("blur", 0.5),
    ("blur", 1.0),
    ("blur", 1.5),
    ("noise", 5.0),
    ("noise", 10.0),
    ("noise", 20.0),
)


def corrupted(
    image: UInt8[np.ndarray, "h w 3"], kind: str, strength: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Blur (standard deviation in px) or add noise (standard deviation of 255)."""
    pixels = image.astype(np.float64)
    if kind == "blur":
        pixels = ndimage.gaussian_filter(pixels, (strength, strength, 0))
    elif kind == "noise":
        pixels += rng.normal(0, strength, pixels.shape)
    return pixels.round().clip(0, 255).astype(np.uint8)


def num_exact(scene: Scene, parsed: ParsedScene) -> int:
    """Count true objects that are read with the right cell, size, colour and shape."""
    true, found = (Counter(o.attributes for o in s.objects) for s in (scene, parsed))
    return (true & found).total()


def row(size_px: int, kind: str, strength: float, num_scenes: int, seed: int) -> str:
    """Measure one line of the table."""
    rng = np.random.default_rng(seed)
    right = objects = extra = blobs = backgrounds = 0
    seconds = 0.0
    for index in range(num_scenes):
        scene = scene_at(index, "test", seed)
        image = corrupted(render(scene, size_px), kind, strength, rng)
        start = time.process_time()
        parsed = parse(image)
        seconds += time.process_time() - start
        exact = num_exact(scene, parsed)
        right, objects = right + exact, objects + len(scene.objects)
        extra += len(parsed.objects) - exact
        blobs += len(parsed.blobs)
        backgrounds += parsed.background == scene.background
    share = proportion(right, objects)
    name = kind if kind == "clean" else f"{kind} {strength:g}"
    return (
        f"| {size_px} | {name} | {objects} | {100 * share.value:.2f} "
        f"| {100 * share.low:.2f} to {100 * share.high:.2f} | {extra} | {blobs} "
        f"| {100 * backgrounds / num_scenes:.2f} | {1000 * seconds / num_scenes:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-scenes", type=int, default=10_000, help="clean renders")
    parser.add_argument("--num-corrupted", type=int, default=2000, help="per blur and noise level")
    parser.add_argument("--size-px", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.stdout.write(
        "| px | image | objects | exact % | 95 % interval | wrong | blobs | background % | ms |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
    )
    for size_px in options.size_px:
        for kind, strength in CORRUPTIONS:
            clean = (kind, strength) == CLEAN
            num_scenes = options.num_scenes if clean else options.num_corrupted
            sys.stdout.write(row(size_px, kind, strength, num_scenes, options.seed) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
