"""The first look at a folder to train on: each image file is read once, and none is decoded.

So a start costs what reading costs, about a millisecond for a photo; decoding it takes a hundred.
"""

import hashlib
import io
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from uae.core.errors import UsageError
from uae.core.identity import Inputs, text_digests
from uae.data.folder import FolderListing, count_of, list_images, named
from uae.data.folder_captions import FolderCaptions, captions_of
from uae.data.opening import check_image, regular_file
from uae.data.untrusted.file import MAX_JPEG_BYTES, UnreadableImage

_AT_ONCE = 16
"""Files looked at before threads are thought of, and from one word of progress to the next."""
_SLOW_FILE_S = 1e-3
"""Seconds that a file takes, from which on threads share the others."""


@dataclass(frozen=True, slots=True)
class Look:
    """A look at a file.

    Attributes:
        digest: Its sha256, None where it cannot be read.
        fault: Why it is no picture we open.
        size: Width and height in pixels, upright; 0 where it is none.
    """

    digest: str | None
    fault: UnreadableImage | None = None
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Survey:
    """A folder's images and captions.

    Attributes:
        listing: The image files.
        looks: What a look at each showed, by name.
        captions: Those of the images, and where they come from.
    """

    listing: FolderListing
    looks: Mapping[str, Look]
    captions: FolderCaptions

    @property
    def names(self) -> list[str]:
        """The images whose containers are sound."""
        return [name for name, look in self.looks.items() if look.fault is None]

    @property
    def skipped(self) -> list[UnreadableImage]:
        """Folders that may not be read, and images that are left out."""
        faults = [look.fault for look in self.looks.values() if look.fault is not None]
        return [*self.listing.skipped, *faults]

    @property
    def inputs(self) -> Inputs:
        """The inputs that a run learns from, by name and content."""
        digests = {name: look.digest for name, look in self.looks.items()}
        return {"image": digests, "caption": text_digests(self.captions.texts)}

    def summary(self, max_listed: int = 20) -> str:
        """Say in words how many images there are, and which are left out and why."""
        skipped = self.skipped
        lines = [f"{self.listing.folder}: {count_of(len(self.names), 'image')}"]
        if skipped:
            reasons = Counter(error.reason for error in skipped).most_common()
            counts = ", ".join(f"{count} {reason}" for reason, count in reasons)
            lines[0] += f", {len(skipped)} skipped ({counts})"
        if unused := self.listing.unused:
            ignored = f"{count_of(len(unused), 'file')} of other kinds ignored"
            lines[0] += f", {ignored}: {named(unused)}"
        lines += [f"  {error}" for error in skipped[:max_listed]]
        if len(skipped) > max_listed:
            lines.append(f"  ... and {len(skipped) - max_listed} more")
        return "\n".join(lines)


def survey(
    folder: str | Path, show: Callable[[int, int], None] = lambda _done, _total: None
) -> Survey:
    """List a folder's images, look at each, and read the captions.

    Args:
        folder: With images, those of its subfolders included.
        show: Told (images done, images in all) from the beginning on.

    Raises:
        UsageError: There is no such folder, no sound image in it, or a captions file is wrong.
    """
    listing = list_images(folder)
    captions = captions_of(listing)  # a wrong file is told before a long look
    by_name: dict[str, Look] = {}
    for name, look in zip(listing.names, looks(listing.paths), strict=True):
        if len(by_name) % _AT_ONCE == 0:
            show(len(by_name), len(listing.names))
        by_name[name] = look
    show(len(by_name), len(listing.names))
    result = Survey(listing, by_name, captions)
    if not result.names:
        raise UsageError(f"{folder}: none of its images can be read; {result.summary()}")
    return result


def looks(paths: Sequence[Path]) -> Iterator[Look]:
    """Look at files in their order.

    Threads share them where the first ones show that a file takes long, being large or on a slow
    disk. Small ones on a fast disk go faster without: each thread would wait for the others.
    """
    start = time.perf_counter()
    for path in paths[:_AT_ONCE]:
        yield look_at(path)
    if time.perf_counter() - start < _SLOW_FILE_S * _AT_ONCE:
        yield from map(look_at, paths[_AT_ONCE:])
        return
    workers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="survey")
    try:
        yield from workers.map(look_at, paths[_AT_ONCE:])
    finally:
        workers.shutdown(cancel_futures=True)  # a signal is not to wait for a large folder


def look_at(path: Path) -> Look:
    """Read an image file once; what its container promises is checked, its picture not decoded."""
    try:
        with regular_file(path) as stream:
            data = stream.read(MAX_JPEG_BYTES + 1)
            if len(data) > MAX_JPEG_BYTES:
                stream.seek(0)
                digest, content = hashlib.file_digest(stream, "sha256"), stream
            else:
                digest, content = hashlib.sha256(data), io.BytesIO(data)
            try:
                size = check_image(content, path)
            except UnreadableImage as fault:
                return Look(digest.hexdigest(), fault)
            return Look(digest.hexdigest(), size=size)
    except UnreadableImage as fault:
        return Look(None, fault)
