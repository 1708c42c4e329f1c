"""Captions of a folder of images: from the tables and sidecars of `caption_layouts`.

What goes before what where an image has several is said there; that it happened is said at every
start, with how many images have captions at all.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from uae.core.errors import UsageError
from uae.data.caption_layouts import CAPTIONS_NAME, sidecars, split, tables
from uae.data.folder import FolderListing, list_images, named
from uae.data.given_captions import check_has_caption, read_table
from uae.data.image_names import ImageNames, rows_by_image

log = logging.getLogger(__name__)

_MAX_SIDECAR_BYTES = 2**20
_MAX_ROWS_NAMED = 5


@dataclass(frozen=True, slots=True)
class FolderCaptions:
    """The captions of a folder's images.

    Attributes:
        texts: By image; one without a caption is not in it.
        num_images: In the folder.
        sources: How many come from each table, and from sidecars of each suffix.
        outranked: How many were passed over, by (what went before, what was passed over).
    """

    texts: Mapping[str, str]
    num_images: int
    sources: Mapping[str, int]
    outranked: Mapping[tuple[str, str], int]

    @property
    def is_whole(self) -> bool:
        """True where all images have a caption, or none has."""
        return len(self.texts) in (0, self.num_images)

    @property
    def summary(self) -> str:
        """Say how many images have a caption, from where, and what went before what."""
        lines = [coverage(len(self.texts), self.num_images, self.sources)]
        lines += [
            f"{count:,} of these have one in {second} too: {first} goes before it"
            for (first, second), count in self.outranked.items()
        ]
        if missing := self.num_images - len(self.texts):
            whose = "those" if missing == self.num_images else f"those of the other {missing:,}"
            lines.append(f"in pre-training the frozen encoder writes {whose}")
        return "; ".join(lines)


def coverage(num_captions: int, num_images: int, sources: Mapping[str, int]) -> str:
    """Say how many images have captions, and how many of these come from each source."""
    one = len(sources) == 1
    places = [name if one else f"{count:,} from {name}" for name, count in sources.items()]
    origin = f" ({'from ' if one else ''}{named(places)})" if places else ""
    return f"captions for {num_captions:,} of {num_images:,} images{origin}"


def read_captions(folder: str | Path) -> dict[str, str]:
    """Return the captions of a folder's images by name, where there are any.

    Raises:
        UsageError: As `folder_captions`.
    """
    return dict(folder_captions(folder).texts)


def folder_captions(folder: str | Path) -> FolderCaptions:
    """Read the captions of a folder's images. Blank ones count as none.

    Raises:
        UsageError: The folder has no images, a file of captions is wrong, or its rows belong to no
            image.
        EnvironmentFault: A table needs a package that is not installed.
    """
    return captions_of(list_images(folder))


def captions_of(listing: FolderListing) -> FolderCaptions:
    """Do as `folder_captions` with the listing of a folder."""
    texts: dict[str, str] = {}
    from_: dict[str, str] = {}
    outranked: Counter[tuple[str, str]] = Counter()
    for source, found in _sources(listing):
        for name, text in found.items():
            if name in texts:
                outranked[from_[name], source] += 1
            else:
                texts[name], from_[name] = text, source
    ordered = {name: texts[name] for name in listing.names if name in texts}
    return FolderCaptions(ordered, len(listing.names), Counter(from_.values()), outranked)


def _sources(listing: FolderListing) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield each source with its captions by image, what goes first first."""
    names = ImageNames(listing.names, listing.folder)
    for table in tables(listing.others):
        yield table, _of_table(listing, names, table)
    beside: dict[str, dict[str, str]] = {}
    for name, files in sidecars(listing.names, listing.others).items():
        for file in files:
            if text := read_sidecar(os.path.join(listing.folder, file)):
                beside.setdefault(split(file)[1].lower(), {}).setdefault(name, text)
    yield from sorted(beside.items())  # .caption goes before .txt


def _of_table(listing: FolderListing, names: ImageNames, table: str) -> dict[str, str]:
    path = listing.folder / table
    rows = read_table(path)
    if PurePosixPath(table).name == CAPTIONS_NAME:
        for row in rows:
            check_has_caption(row)
    elif all(row.caption is None for row in rows):
        log.warning("%s has no captions: expected caption or text beside file_name", path)
        return {}
    found, unused = rows_by_image(names, rows, PurePosixPath(table).parent.as_posix())
    if unused:
        first = ", ".join(
            f"{row.name!r} ({row.where.rpartition(', ')[2]})" for row in unused[:_MAX_ROWS_NAMED]
        )
        raise UsageError(
            f"{path}: {len(unused):,} of {len(rows):,} rows belong to no image, first {first}: "
            f"expected names of images in {listing.folder}, such as {listing.names[0]!r}; mend "
            "the names, put the images back or delete the rows"
        )
    last = {image: of_image[-1].caption for image, of_image in found.items()}
    return {image: text for image, text in last.items() if text}


def read_sidecar(path: str | Path) -> str:
    """Return the caption that a file beside an image holds.

    Raises:
        UsageError: It is too large, or no UTF-8.
    """
    with open(path, "rb") as file:
        content = file.read(_MAX_SIDECAR_BYTES + 1)
    if len(content) > _MAX_SIDECAR_BYTES:
        raise UsageError(f"{path} is larger than 1 MiB: expected a caption")
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8: expected a caption") from error
