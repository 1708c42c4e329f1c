"""Places of a row's pictures, as the row says them: `details["pictures"]`, label -> path.

Paths start at the run folder, so that images and run can be moved together. Of images that are no
files, the row's are small copies in the run folder.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from uae.core.durable import replace_file
from uae.data.untrusted.file import MAX_ASPECT
from uae.report.page import PictureBudget, webp_bytes
from uae.runs.rows import ItemRow

THUMBNAILS = "thumbnails"

_BUDGET = PictureBudget(256, 90, 1.0)  # the largest that a page shows


def with_pictures(row: ItemRow, pictures: Mapping[str, Path], folder: Path) -> ItemRow:
    """Name a row's pictures in it: files by label, in the folder of the run or elsewhere."""
    places = {
        # links are followed, as opening a picture does
        label: Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
        for label, path in pictures.items()
    }
    return replace(row, details={**row.details, "pictures": places})


def save_thumbnails(images: Sequence[Image.Image], folder: Path, item: str) -> dict[str, Path]:
    """Write small copies of an item's images into a run folder, and return the files by label."""
    (folder / THUMBNAILS).mkdir(exist_ok=True)
    written = {}
    for number, image in enumerate(images, start=1):
        path = folder / THUMBNAILS / f"{item}-{number}.webp"
        replace_file(path, webp_bytes(_widened(image), _BUDGET))
        written["image" if len(images) == 1 else f"image {number}"] = path
    return written


def _widened(image: Image.Image) -> Image.Image:
    """Lay a narrow image, a line of text say, on a sheet that `open_image` takes."""
    least = -(-max(image.size) // (MAX_ASPECT // 2))  # a thumbnail's sides are rounded
    if min(image.size) >= least:
        return image
    sheet = Image.new("RGB", (max(image.width, least), max(image.height, least)), "white")
    sheet.paste(image)
    return sheet
