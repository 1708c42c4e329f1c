"""Images that a command line names, opened one after the other."""

import io
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from uae.cli.options import warn_of
from uae.cli.output import STDIN
from uae.core.errors import EXIT_DONE, EXIT_PARTIAL, UsageError
from uae.data.captions import Writing, read_rows
from uae.data.folder import NamedImage, list_images, named
from uae.data.opening import open_image, read_image
from uae.data.untrusted.file import FORMATS, MAX_JPEG_BYTES, UnreadableImage
from uae.models.settings import find_settings

log = logging.getLogger(__name__)


class LeftOut(NamedTuple):
    """An image that opened and has no result all the same."""

    path: Path
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}: {self.detail}"


@dataclass(slots=True)
class ImageFiles:
    """Images by name: the path relative to the folder that holds all of them, with "/"."""

    paths: Mapping[str, Path]
    is_one: bool
    others: Sequence[str] = ()
    """Files in the folders that are neither pictures nor their captions."""
    left_out: list[UnreadableImage | LeftOut] = field(default_factory=list)
    """Grows while images are opened and worked on."""

    def leave_out(self, name: str, reason: str, detail: str) -> None:
        """Note an image that opened and has no result."""
        self.left_out.append(LeftOut(self.paths[name], reason, detail))


def find_images(
    arguments: Sequence[Path], without: Path | None = None, *, allow_stdin: bool = False
) -> ImageFiles:
    """List the images that files and folders stand for, without opening them.

    Those in the folder `without` are results, not inputs. `STDIN` may stand alone, where allowed.

    Raises:
        UsageError: A path does not exist, or a folder holds no images.
    """
    if STDIN in map(str, arguments):
        if len(arguments) > 1 or not allow_stdin:
            raise UsageError("- for stdin is for one image of `uae caption`: give files or folders")
        return ImageFiles({"stdin": Path(STDIN)}, is_one=True)
    images: list[Path] = []
    others: list[Path] = []
    left_out: list[UnreadableImage | LeftOut] = []
    for argument in arguments:
        if argument.is_dir():
            listing = list_images(argument)
            images += listing.paths
            others += [argument / name for name in listing.unused]
            left_out += listing.skipped
        elif argument.exists():
            images.append(argument)
        else:
            raise UsageError(f"{argument} does not exist: expected {FORMATS} files or folders")
    absolute = {os.path.abspath(path): path for path in images}
    if without is not None:
        inside = os.path.abspath(without) + os.sep
        absolute = {a: path for a, path in absolute.items() if not a.startswith(inside)}
        others = [path for path in others if not os.path.abspath(path).startswith(inside)]
    is_one = len(arguments) == 1 and not arguments[0].is_dir()
    root = os.path.commonpath([os.path.dirname(a) for a in absolute] or ["/"])
    if len(arguments) == 1 and not is_one:
        root = os.path.abspath(arguments[0])
    paths = {Path(os.path.relpath(a, root)).as_posix(): path for a, path in absolute.items()}
    return ImageFiles(paths, is_one, list(map(str, others)), left_out)


def work_through(
    files: ImageFiles,
    names: Sequence[str],
    fit: Callable[[Image.Image], Image.Image],
    batch_size: int,
    verb: str,
    work: Callable[[list[NamedImage]], int],
) -> int:
    """Open the named images in batches, fitted to the model; bad ones are noted.

    `work` makes the results of a batch and returns their number; `verb` says in the progress what
    is done, "captioned" say. Returns the number of all results.
    """
    num_done = 0
    for start in range(0, len(names), batch_size):
        items = []
        for name in names[start : start + batch_size]:
            try:
                image = _open(files.paths[name])
            except UnreadableImage as error:
                files.left_out.append(error)
                continue
            items.append(NamedImage(name, fit(image)))
        if items:
            num_done += work(items)
            if not files.is_one:
                log.info("%s %d of %d", verb, num_done, len(names))
    return num_done


def _open(path: Path) -> Image.Image:
    if str(path) != STDIN:
        return open_image(path)
    stream = io.BytesIO(sys.stdin.buffer.read(MAX_JPEG_BYTES + 1))
    return read_image(stream, Path("stdin"))


def writing_of(
    model: str, seed: int, temperature: float, max_new_tokens: int | None = None
) -> Writing:
    """Say how captions are written; by default as long as the model's settings let them be."""
    limit = max_new_tokens or find_settings(model).max_new_tokens
    return Writing(model=model, seed=seed, temperature=temperature, max_new_tokens=limit)


def missing(path: Path | None, images: Iterable[str], writing: Writing) -> list[str]:
    """Return the images without a row in a captions file, which may not be there (yet).

    Captions of several models, seeds or ways of sampling are not mixed in one file. Rows without a
    model are anybody's; what a row does not say is not compared.
    """
    if path is None:
        return list(images)
    if path.is_dir():
        raise UsageError(
            f"{path} is a folder: expected a file name, e.g. {path / 'captions.jsonl'}"
        )
    rows = read_rows(path) if path.exists() else []
    for row in (row for row in rows if row.model is not None):
        changed = [
            f"--{key.replace('_', '-')} {before}, not {now}"
            for key, now in asdict(writing).items()
            if (before := getattr(row, key)) not in (None, now)
        ]
        if changed:
            raise UsageError(
                f"{path} holds captions of other settings ({'; '.join(changed)}): choose another "
                "--out, or the same settings to go on"
            )
    done = {row.image for row in rows}
    return [image for image in images if image not in done]


def ended(verb: str, num_done: int, num_before: int, files: ImageFiles) -> int:
    """Say how it went, list what was left out, and return the exit code."""
    before = f", {num_before} done before" if num_before else ""
    num_others = len(files.others)
    others = f", {num_others} other files ignored: {named(files.others)}" if num_others else ""
    if left_out := files.left_out:
        reasons = Counter(str(error.reason) for error in left_out).most_common()
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons)
        warn_of(f"{verb} {num_done}{before}, left out {len(left_out)} ({counts}){others}", left_out)
        return EXIT_PARTIAL
    if not files.is_one:
        log.info("%s %d%s%s", verb, num_done, before, others)
    return EXIT_DONE
