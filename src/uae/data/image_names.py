"""Names of images in any spelling: as a path, or without suffix.

    names = ImageNames(listing.names, folder)
    names.meant(["./img_0.JPG", "photos\\img_1.jpg", "img_2"])

Of a path all of these mean the same file: `./`, a prefix that ends with the folder's own name (an
absolute path is one), `\\` for `/`, a suffix in capitals, letters composed or not. A name without
suffix, or with that of another picture format, is looser: it holds where no row names the file.
"""

import os
import posixpath
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from uae.core.errors import UsageError
from uae.data.caption_layouts import loose, split
from uae.data.folder import SUFFIXES, UNSUPPORTED


@dataclass(frozen=True, slots=True)
class Meant:
    """The images that a text means: usually one, none where it belongs to no image."""

    images: tuple[str, ...] = ()
    is_same_file: bool = True
    """It names their files, and not only their names without suffix."""


class ImageNames:
    """The images of a folder, found by texts."""

    def __init__(self, names: Sequence[str], folder: Path | None = None) -> None:
        """Hold the names.

        Args:
            names: Paths relative to the folder, with "/".
            folder: Where they lie; texts may begin with its name.
        """
        places = (os.path.abspath(folder), os.path.realpath(folder)) if folder else ()
        self._own = {_composed(os.path.basename(place)) for place in places} - {""}
        self._names = set(names)
        self._whole: dict[str, list[str]] = {}
        self._stems: dict[str, list[str]] = {}
        for name in names:
            spelled = loose(name)
            self._whole.setdefault(spelled, []).append(name)
            self._stems.setdefault(split(spelled)[0], []).append(name)

    @classmethod
    def of_paths(cls, images: Mapping[str, Path]) -> "tuple[ImageNames, Path]":
        """Return the names of images given by name and path, and the folder that they start at."""
        if not images:
            return cls(()), Path.cwd()
        name, path = next(iter(images.items()))
        root = Path(os.path.abspath(path)).parents[len(PurePosixPath(name).parts) - 1]
        return cls(list(images), root), root

    def meant(self, texts: Sequence[str], beside: str = "") -> list[Meant]:
        """Return what the texts of one file mean.

        They start at the folder in which that file lies, or at one above it, whichever fits more
        of them.

        Args:
            texts: Paths, or names without suffix.
            beside: Folder of the file that holds them, relative to that of the images.
        """
        inner = PurePosixPath(beside)
        starts = [inner, *inner.parents]
        found = [[self._find(text, start) for text in texts] for start in starts]
        return max(found, key=lambda all_meant: sum(bool(meant.images) for meant in all_meant))

    def _find(self, text: str, start: PurePosixPath) -> Meant:
        paths = list(dict.fromkeys(self._paths(text, start)))
        for path in paths:
            images = (path,) if path in self._names else self._whole.get(loose(path))
            if images:
                return Meant(tuple(images))
        for path in paths:
            stem, suffix = split(loose(path))
            images = self._stems.get(_composed(path))
            if not images and suffix in SUFFIXES | UNSUPPORTED:
                images = self._stems.get(stem)
            if images:
                return Meant(tuple(images), is_same_file=False)
        return Meant()

    def _paths(self, text: str, start: PurePosixPath) -> Iterator[str]:
        """Yield the paths, relative to the folder of all images, that a text may spell."""
        own = {_composed(start.name)} if start.name else self._own
        for spelled in dict.fromkeys((text, text.replace("\\", "/"))):
            if not spelled.startswith("/"):
                yield posixpath.normpath(start.as_posix() + "/" + spelled)
            parts = spelled.split("/")
            for i, part in enumerate(parts[:-1], start=1):
                if _composed(part) in own:
                    yield posixpath.normpath("/".join([start.as_posix(), *parts[i:]]))


@dataclass(frozen=True, slots=True)
class Row:
    """A caption as a file gives it.

    Attributes:
        name: Of its image, in any spelling.
        caption: The text, "" where it is blank, None where the file has no such column or key.
        where: File and line that it was read from.
    """

    name: str
    caption: str | None
    where: str


def rows_by_image(
    names: ImageNames, rows: Sequence[Row], beside: str = ""
) -> tuple[Mapping[str, list[Row]], list[Row]]:
    """Return the rows of each image that has any, and the rows that belong to no image.

    Where a row names an image's file, those that have its name without suffix are not meant.

    Args:
        names: The images.
        rows: Of one file.
        beside: Folder of that file, relative to that of the images.

    Raises:
        UsageError: Two names without suffix may be meant for one image.
    """
    same: dict[str, list[Row]] = {}
    looser: dict[str, list[Row]] = {}
    for row, meant in zip(rows, names.meant([row.name for row in rows], beside), strict=True):
        for image in meant.images:
            (same if meant.is_same_file else looser).setdefault(image, []).append(row)
    for image in looser.keys() - same.keys():
        first, *others = dict.fromkeys(row.name for row in looser[image])
        if others:
            raise UsageError(
                f"{looser[image][0].where}: two captions may be meant for {image}, of {first} and "
                f"{others[0]}: expected one, or one of just that name"
            )
    found = {**looser, **same}
    used = {id(row) for of_image in found.values() for row in of_image}
    return found, [row for row in rows if id(row) not in used]


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
