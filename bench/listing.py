"""How long a start of training on a folder takes before the model is loaded, by its parts.

python bench/listing.py                        # 100,000 JPEGs of 16 x 16 pixels with captions
python bench/listing.py --num-images 50 --side-px 3464    # of 12 megapixels
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from uae.data.folder import list_images
from uae.data.folder_captions import read_captions
from uae.data.opening import open_image
from uae.data.survey import survey
from uae.runs.inputs import read_inputs, write_inputs

T = TypeVar("T")

_PER_FOLDER = 1000
_NUM_DECODED = 20


def make_folder(folder: Path, num_images: int, side_px: int) -> int:
    """Write images in subfolders, each with a caption; return the bytes of all images.

    The images are alike but for a number after their end, which changes their content.
    """
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).resize((side_px, side_px)).save(encoded, "JPEG", quality=90)
    for i in range(num_images):
        path = folder / f"{i // _PER_FOLDER:03d}" / f"{i:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded.getvalue() + i.to_bytes(4))
        path.with_suffix(".txt").write_text(f"picture {i}")
    return num_images * (len(encoded.getvalue()) + 4)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what comes of some work, and its seconds."""
    start = time.perf_counter()
    result = work()
    return result, round(time.perf_counter() - start, 3)


def measure(folder: Path, num_images: int, side_px: int) -> dict[str, Any]:
    """Make a folder of images and measure each part of a start on it."""
    (folder / "images").mkdir()
    num_bytes = make_folder(folder / "images", num_images, side_px)
    listing, list_s = timed(lambda: list_images(folder / "images"))
    _, captions_s = timed(lambda: read_captions(folder / "images"))
    found, survey_s = timed(lambda: survey(folder / "images"))
    _, write_s = timed(lambda: write_inputs(folder, found.inputs))
    before, read_s = timed(lambda: read_inputs(folder))
    assert before == found.inputs
    paths = listing.paths[:_NUM_DECODED]
    _, decode_s = timed(lambda: [open_image(path) for path in paths])
    return {
        "num_images": num_images,
        "megabytes": round(num_bytes / 1e6, 1),
        "list_s": list_s,
        "captions_s": captions_s,
        "survey_s": survey_s,
        "images_per_s": round(num_images / survey_s),
        "write_identity_s": write_s,
        "read_identity_s": read_s,
        "decoding_all_would_take_s": round(decode_s / len(paths) * num_images, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-images", type=int, default=100_000)
    parser.add_argument("--side-px", type=int, default=16)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        values = measure(Path(folder), flags.num_images, flags.side_px)
    sys.stdout.write(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
