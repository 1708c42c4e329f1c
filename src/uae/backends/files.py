"""Captions and redraws that are there already: a file of captions, a folder of images."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from uae.backends.failure import Failure
from uae.backends.reference import Given, Spec
from uae.backends.roles import Caption, Captioner, Generator, Request, Written
from uae.core.errors import UsageError
from uae.core.identity import file_digest
from uae.core.provenance import ModelStamp, image_digests, images_stamp
from uae.data.folder import NamedImage, list_images
from uae.data.folder_captions import coverage
from uae.data.given_captions import read_given_captions
from uae.data.image_names import ImageNames, rows_by_image
from uae.data.opening import open_image
from uae.data.untrusted.file import UnreadableImage

log = logging.getLogger(__name__)

PREFIX = "recon_"
"""What the upstream repository writes before a redraw's name."""


class CaptionsFile(Captioner):
    """Captions that are there already.

    Attributes:
        path: The file.
        texts: Of each image that has one.
        extra: Names in the file that belong to no image.
    """

    in_batches = False

    def __init__(self, path: Path, images: Mapping[str, Path]) -> None:
        """Read a file, and find the image of each caption, see `ImageNames`.

        Args:
            path: The file, see `given_captions`.
            images: Path of each image by its name.

        Raises:
            UsageError: It is wrong, or two captions may be meant for one image.
            EnvironmentFault: The package that reads it is not installed.
        """
        self.path = path
        names, root = ImageNames.of_paths(images)
        inside = Path(os.path.abspath(path.parent))
        beside = inside.relative_to(root).as_posix() if inside.is_relative_to(root) else ""
        found, unused = rows_by_image(names, read_given_captions(path), beside)
        for image, rows in found.items():
            if len(rows) > 1:
                raise UsageError(
                    f"{path} has two captions that may be meant for {image}, of {rows[0].name} and "
                    f"{rows[1].name}: expected one, or one of just that name"
                )
        self.texts = {image: text for image, [row] in found.items() if (text := row.caption)}
        self.extra = [row.name for row in unused]
        self._num_images = len(images)

    @classmethod
    def open(cls, spec: Spec, given: Given) -> "Callable[[], CaptionsFile]":
        """Return it, read already; see `Backend.open`."""
        captions = cls(Path(spec.name), given.images)
        return lambda: captions

    @classmethod
    def stamp_of(cls, spec: Spec, given: Given) -> ModelStamp:
        """Say what its captions depend on; see `Backend.stamp_of`."""
        files = {"captions": file_digest(Path(spec.name))}
        return ModelStamp(name=spec.name, dtype="none", backend="captions", files=files)

    @property
    def summary(self) -> str:
        """Say how many images have a caption in it."""
        return coverage(len(self.texts), self._num_images, {str(self.path): len(self.texts)})

    def write(self, items: Sequence[NamedImage], request: Request) -> list[Written | Failure]:
        """Return the captions.

        Raises:
            UsageError: Something else than the one caption of each image is asked.
        """
        if request.instruction or request.draw:
            raise UsageError(
                f"{self.path} holds one caption an image: a budget can only cut it, not ask for "
                "another"
            )
        missing = Failure("the captions file has no caption for it")
        texts = self.texts
        return [Written(texts[item.name]) if item.name in texts else missing for item in items]


class ImageFolder(Generator):
    """Images that are there already, each at its image's relative path but for the suffix.

    `recon_` may stand before the file's name. Where no image is found so, those folders below are
    looked through that hold such paths: RUN/images/plain/0.png is found below RUN/images.
    """

    in_batches = False

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """Look for the redraw of each image.

        Args:
            folder: Where the redraws lie.
            names: Images, by relative paths.

        Raises:
            UsageError: There is no such folder, it holds no images, or two are of one image.
        """
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder: expected one with redrawn images")
        listing = list_images(folder)
        for fault in listing.skipped:
            log.warning("%s", fault)
        self.folder = folder
        self._files = listing.names
        self._found = _by_name(folder, names, listing.names, below=False)
        self._found = self._found or _by_name(folder, names, listing.names, below=True)

    @classmethod
    def open(cls, spec: Spec, given: Given) -> "Callable[[], ImageFolder]":
        """Return it, listed already; see `Backend.open`."""
        redraws = cls(Path(spec.name), list(given.images))
        return lambda: redraws

    @classmethod
    def stamp_of(cls, spec: Spec, given: Given) -> ModelStamp:
        """Say what its redraws depend on; see `Backend.stamp_of`."""
        root = Path(spec.name)
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        digests = image_digests({path.relative_to(root).as_posix(): path for path in paths})
        return images_stamp(root, digests)

    @property
    def found(self) -> Mapping[str, str]:
        """The file of each image that has one, relative to the folder."""
        return self._found

    @property
    def extra(self) -> list[str]:
        """Files that belong to no image."""
        used = set(self._found.values())
        return [file for file in self._files if file not in used]

    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        """Return the images, opened."""
        return [self._open(caption.name) for caption in captions]

    def _open(self, name: str) -> Image.Image | Failure:
        if name not in self._found:
            return Failure("the folder has no redraw of it")
        try:
            return open_image(self.folder / self._found[name])
        except UnreadableImage as error:
            return Failure("unreadable redraw", str(error))


def _by_name(
    folder: Path, names: Sequence[str], files: Sequence[str], *, below: bool
) -> dict[str, str]:
    """Return each image's file; `below` the folder its path may begin with other folders."""
    by_path: dict[str, list[str]] = {}
    for file in files:
        for path in _paths_meant(file, below=below):
            by_path.setdefault(path, []).append(file)
    found: dict[str, str] = {}
    for name in names:
        fitting = by_path.get(PurePosixPath(name).with_suffix("").as_posix(), [])
        if len(fitting) > 1:
            raise UsageError(
                f"{folder} has {len(fitting)} redraws of {name}, {fitting[0]} and {fitting[1]} "
                "among them: expected one file for each image"
            )
        if fitting:
            found[name] = fitting[0]
    return found


def _paths_meant(file: str, *, below: bool) -> set[str]:
    """Return the paths, without suffix, of images whose redraw a file may be."""
    path = PurePosixPath(file).with_suffix("")
    paths = {path, path.with_name(path.name.removeprefix(PREFIX) or path.name)}
    starts = range(len(path.parts)) if below else (0,)
    return {PurePosixPath(*x.parts[i:]).as_posix() for x in paths for i in starts}
