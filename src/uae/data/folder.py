"""The user's own images: folders, with whatever else lies there, and fitting to a square."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from uae.core.durable import replace_file, storage_faults
from uae.core.errors import UsageError
from uae.data.caption_layouts import sidecars, tables
from uae.data.untrusted.file import FORMATS, Reason, UnreadableImage

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp"})
UNSUPPORTED = frozenset(
    {".gif", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".avif", ".jxl", ".ico"}
)
"""Suffixes of pictures that are listed and then left out, by what their content is."""
WRITTEN_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Suffixes of files that are written, with Pillow's names of their formats."""
MASKS = ("-masklabel", "-condlabel")
"""Ends of the names of OneTrainer's masks and conditions, before the suffix."""
LITTER = frozenset(
    {"@eaDir", "@__thumb", "Thumbs", "__MACOSX", "#recycle", "@Recycle", "$RECYCLE.BIN"}
)
"""Folders of thumbnails and of deleted files, as systems and network disks make them."""
MAX_NAMED = 20
"""Files named in one line, of those ignored."""


@dataclass(frozen=True, slots=True)
class FolderListing:
    """The image files under a folder, told by suffix and not yet opened.

    Attributes:
        folder: Where they lie.
        names: Paths relative to `folder`, with "/", sorted.
        others: Files of other kinds, hidden ones not among them; named as `names` are.
        litter: All files in folders of thumbnails and of deleted files, captions too.
        skipped: Folders that may not be read.
    """

    folder: Path
    names: tuple[str, ...]
    others: tuple[str, ...]
    litter: tuple[str, ...]
    skipped: tuple[UnreadableImage, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self.folder / name for name in self.names)

    @property
    def unused(self) -> tuple[str, ...]:
        """Files of other kinds that are no captions of the images."""
        beside = sidecars(self.names, self.others).values()
        captions = {file for files in beside for file in files} | set(tables(self.others))
        rest = (name for name in self.others if name not in captions)
        return tuple(sorted((*rest, *self.litter)))


def list_images(folder: str | Path) -> FolderListing:
    """List a folder's images, those of its subfolders included; the order depends on names alone.

    Hidden files and folders are passed over, and links to folders are not followed. Pictures of
    formats that are not opened are listed too, so that each is left out by name. Masks beside
    images are files of other kinds.

    Raises:
        UsageError: There is no such folder, it may not be read, or no image is in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        fault = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UsageError(f"{folder} {fault}: expected a folder with {FORMATS} images")
    skipped: list[UnreadableImage] = []

    def note(error: OSError) -> None:
        detail = error.strerror or type(error).__name__
        skipped.append(UnreadableImage(Path(error.filename), Reason.UNREADABLE, detail))

    names: list[str] = []
    others: list[str] = []
    litter: list[str] = []
    for root, subfolders, files in os.walk(folder, onerror=note):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        place = Path(root).relative_to(folder)
        is_litter = not LITTER.isdisjoint(place.parts)
        inside = f"{place.as_posix()}/" if place.parts else ""
        for name in files:
            if name.startswith("."):
                continue
            kind = litter if is_litter else names if _is_picture(name) else others
            kind.append(inside + name)
    if skipped and not names:
        raise skipped[0]  # its images may be in there
    if not names:
        found = f"{count_of(len(others) + len(litter), 'file')} of other kinds"
        suffixes = ", ".join(sorted(SUFFIXES))
        raise UsageError(f"{folder} holds no images ({found}): expected {FORMATS} ({suffixes})")
    skipped.sort(key=lambda error: str(error.path))
    return FolderListing(
        folder, tuple(sorted(names)), tuple(sorted(others)), tuple(sorted(litter)), tuple(skipped)
    )


def _is_picture(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    return suffix.lower() in SUFFIXES | UNSUPPORTED and not stem.endswith(MASKS)


def named(names: Sequence[str]) -> str:
    """Write the first names in one line, and how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An opened image; `name` is its path relative to the folder, with "/"."""

    name: str
    image: Image.Image


def fit_square(
    image: Image.Image, size_px: int, how: Literal["crop", "pad", "stretch"] = "crop"
) -> Image.Image:
    """Return an RGB image as a square of `size_px`.

    Args:
        image: Any size.
        size_px: Side of the square.
        how: "crop" keeps the centre, "pad" keeps everything and adds white, "stretch" keeps
            everything and changes the proportions.
    """
    width, height = image.size
    if how == "crop":
        return cut(image, size_px, size_px)
    if how == "stretch":
        return _resize(image, (size_px, size_px), (0, 0, width, height))
    scale = size_px / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    square = Image.new("RGB", (size_px, size_px), "white")
    inside = _resize(image, size, (0, 0, width, height))
    square.paste(inside, ((size_px - size[0]) // 2, (size_px - size[1]) // 2))
    return square


def cut(image: Image.Image, width: int, height: int) -> Image.Image:
    """Return an RGB image in a size; of another shape its centre is kept."""
    scale = min(image.width / width, image.height / height)
    inside = (round(width * scale), round(height * scale))
    left, top = (image.width - inside[0]) // 2, (image.height - inside[1]) // 2
    return _resize(image, (width, height), (left, top, left + inside[0], top + inside[1]))


def write_image(image: Image.Image, path: Path) -> None:
    """Write an image file whole or not at all, over an older one; make its folder.

    Args:
        image: The image.
        path: Ends in one of `WRITTEN_FORMATS`, which says the format.

    Raises:
        EnvironmentFault: It cannot be written; names the file.
    """
    encoded = io.BytesIO()
    image.save(encoded, WRITTEN_FORMATS[path.suffix.lower()])
    with storage_faults("cannot write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, encoded.getvalue())


def _resize(
    image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]
) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS, box=box)


def count_of(number: int, noun: str) -> str:
    """Write a number and its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
