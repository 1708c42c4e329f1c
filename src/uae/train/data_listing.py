"""The listing of a run's own images: one more or less would change the order of all samples."""

import json
from collections.abc import Mapping
from pathlib import Path

from uae.data.images import list_images
from uae.durable import replace_file
from uae.errors import UsageError

LISTING = "data.json"

Sizes = Mapping[str, int | None]
"""Bytes of each image by name; None where the file does not say."""


def sizes_of(folder: Path) -> Sizes:
    """List the images of a folder with their sizes.

    Raises:
        UsageError: There is no such folder, or no image in it.
    """
    listing = list_images(folder)
    return dict(zip(listing.names, map(_size, listing.paths), strict=True))


def write_listing(run_folder: Path, sizes: Sizes) -> None:
    """Keep the listing that a run begins with."""
    replace_file(run_folder / LISTING, (json.dumps(sizes, indent=0) + "\n").encode())


def check_listing(run_folder: Path, sizes: Sizes) -> None:
    """Refuse images that are not those the run began with; older runs have kept no listing.

    Raises:
        UsageError: Counts what was added, removed and changed, and names the first of each.
    """
    path = run_folder / LISTING
    if not path.exists():
        return
    try:
        before: Sizes = dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({error}): restore it") from error
    found = {
        "added": sorted(sizes.keys() - before.keys()),
        "removed": sorted(before.keys() - sizes.keys()),
        "changed": sorted(x for x in before.keys() & sizes.keys() if before[x] != sizes[x]),
    }
    differences = [f"{len(x)} {kind} (first {x[0]})" for kind, x in found.items() if x]
    if differences:
        raise UsageError(
            f"{run_folder} is a run on other images, of data.folder {', '.join(differences)}: put "
            "the old files back to resume, or give a new --out"
        )


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
