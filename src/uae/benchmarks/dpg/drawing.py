"""DPG-Bench's prompts as grids to draw: {item_id}.png, two by two samples of one size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from uae.benchmarks.drawing import Picture

NumImages = Literal[1, 4]


def set_name(num_images: NumImages) -> str:
    """Name the prompts as `images.json` does, with how many images each has."""
    return f"dpg, {num_images} a prompt"


def image_path(root: Path, item_id: str) -> Path:
    """Return the file of an item's images."""
    return root / f"{item_id}.png"


def pictures_of(root: Path, prompts: Mapping[str, str], num_images: NumImages) -> list[Picture]:
    """List the files that the prompts, by item id, are drawn to."""
    return [
        Picture(
            image_path(root, item_id),
            prompt,
            tuple(("dpg", item_id, sample_id) for sample_id in range(num_images)),
        )
        for item_id, prompt in prompts.items()
    ]
