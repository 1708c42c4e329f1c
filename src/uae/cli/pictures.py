"""`uae caption` and `uae draw`: one half of the loop at a time."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeFloat, PositiveFloat, PositiveInt

from uae.cli.inputs import ImageFiles, ended, find_images, missing, work_through, writing_of
from uae.cli.output import PLAINLY, STDIN, Talk, json_line, write
from uae.cli.startup import quick_start
from uae.core.errors import EXIT_DONE, UsageError
from uae.core.unicode import check_text
from uae.data.captions import CaptionRow, CaptionsWriter, Writing
from uae.data.folder import WRITTEN_FORMATS, NamedImage, write_image
from uae.data.sidecars_writer import RECORD_NAME, SidecarsWriter
from uae.models.settings import find_settings, pinned


def caption(
    images: Annotated[list[Path], Parameter(name="IMAGE")],
    /,
    *,
    model: str = "uae-tiny",
    out: Path | None = None,
    write_as: Annotated[Literal["jsonl", "txt"], Parameter(name="--write")] = "jsonl",
    seed: int = 0,
    temperature: NonNegativeFloat = 0.7,
    max_new_tokens: PositiveInt | None = None,
    batch_size: PositiveInt = 16,
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Describe images in words.

    Try:
        uae caption photo.jpg
        uae caption photos/ --out photos/captions.jsonl
        uae caption photos/ --write txt

    One image gives its caption alone; several give JSON Lines. With --out rows
    are appended as they are made and images that have one are skipped: the same
    command goes on where it stopped. So does --write txt, which leaves out images
    that have a caption file of their own.

    Args:
        images: Image files, folders, or - for an image on stdin.
        model: Model folder, preset or ID@REVISION on the hub.
        out: JSON Lines file to append to; with --write txt by default a hidden one.
        write_as: txt writes each caption into a file beside its image.
        seed: Seed of the sampling; a caption depends on it and on the image's name.
        temperature: 0 takes the most probable words.
        max_new_tokens: Longest caption; by default the model's.
        batch_size: Images captioned at once.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    files = find_images(images, allow_stdin=True)
    if write_as == "txt":
        out = _record(images, out)
    writing = writing_of(pinned("--model", model), seed, temperature, max_new_tokens)
    if not (todo := missing(out, files.paths, writing)) and write_as == "jsonl":
        return ended("captioned", 0, len(files.paths), files)
    with _writer(out, write_as, files, talk) as writer:
        todo = writer.missing(files.paths)
        num_done = _describe(files, todo, writing, device, batch_size, writer.append)
    foreign = writer.left_out if isinstance(writer, SidecarsWriter) else {}
    for name, why in foreign.items():
        files.leave_out(name, *why)
    num_before = len(files.paths.keys() - set(todo) - foreign.keys())
    return ended("captioned", num_done - len(foreign.keys() & set(todo)), num_before, files)


def _describe(
    files: ImageFiles,
    todo: Sequence[str],
    writing: Writing,
    device: str,
    batch_size: int,
    keep: Callable[[CaptionRow], None],
) -> int:
    """Caption images and keep each row; return how many. Without images no model is loaded."""
    if not todo:
        return 0
    with quick_start():
        from uae.backends import own as loop

        auto_encoder = loop.load(writing.model, device)

    def describe(items: list[NamedImage]) -> int:
        rows = loop.describe(auto_encoder, items, writing)
        for row in rows:
            keep(row)
        return len(rows)

    return work_through(
        files, todo, auto_encoder.decoder.shapes.seen, batch_size, "captioned", describe
    )


@dataclass(frozen=True, slots=True)
class _Printer(contextlib.AbstractContextManager):
    """Writes captions to stdout: `bare` ones, or JSON Lines."""

    bare: bool

    def missing(self, images: Iterable[str]) -> list[str]:
        return list(images)

    def append(self, row: CaptionRow) -> None:
        write(row.caption if self.bare else json_line(asdict(row)))

    def __exit__(self, *_: object) -> None: ...


def _writer(
    out: Path | None, write_as: Literal["jsonl", "txt"], files: ImageFiles, talk: Talk
) -> _Printer | CaptionsWriter | SidecarsWriter:
    if out is None:
        return _Printer(files.is_one and talk.chosen != "json")
    return SidecarsWriter(out, files.paths) if write_as == "txt" else CaptionsWriter(out)


def _record(images: Sequence[Path], out: Path | None) -> Path:
    """Return the file that keeps what --write txt wrote."""
    if STDIN in map(str, images):
        raise UsageError(
            "--write txt with - : expected files or folders, with captions beside them"
        )
    if out is None and len(images) > 1:
        raise UsageError(
            "--write txt with several files or folders: give --out, a JSON Lines file that keeps "
            "what was written"
        )
    return out or (images[0] if images[0].is_dir() else images[0].parent) / RECORD_NAME


def draw(
    caption: str,
    /,
    *,
    model: str = "uae-tiny",
    out: Path | None = None,
    seed: int = 0,
    steps: PositiveInt | None = None,
    guidance_scale: PositiveFloat | None = None,
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Draw an image from a caption and print its path.

    Try:
        uae draw "A large red circle in the middle."
        uae caption photo.jpg | uae draw - --out again.png

    Args:
        caption: The text, or - to read it from stdin.
        model: Model folder, preset or ID@REVISION on the hub.
        out: Image file (PNG, JPEG, WebP), or a folder; by default named after caption and seed.
        seed: Seed of the starting noise.
        steps: Steps from noise to image; by default the model's.
        guidance_scale: Classifier-free guidance, 1 is without; by default the model's.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    try:
        text = (sys.stdin.read() if caption == STDIN else caption).strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin: byte {error.start} is not UTF-8: expected a text") from error
    check_text(text, "the caption")
    if not text:
        raise UsageError('the caption is empty: expected a text, e.g. uae draw "A red circle."')
    path = _picture_path(out, text, seed)
    model = pinned("--model", model)
    find_settings(model)
    with quick_start():
        from uae.backends import own as loop
        from uae.data.sources import to_images

        auto_encoder = loop.load(model, device)
    chosen = {"num_steps": steps, "guidance_scale": guidance_scale}
    given = {key: value for key, value in chosen.items() if value is not None}
    sampling = replace(auto_encoder.settings.sampling, **given)
    [image] = to_images(auto_encoder.draw([text], seed=seed, sampling=sampling))
    write_image(image, path)
    values = {
        "image": str(path),
        "caption": text,
        "model": model,
        "seed": seed,
        "num_tokens": auto_encoder.conditioner.num_tokens(text),
        "max_caption_tokens": auto_encoder.settings.max_caption_tokens,
        "sampling": asdict(sampling),
    }
    talk.result(str(path), values)
    return EXIT_DONE


def _picture_path(out: Path | None, caption: str, seed: int) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", caption.lower())[:48].strip("-") or "drawing"
    if out is None or out.is_dir():
        return (out or Path()) / f"{slug}-{seed}.png"
    if out.suffix.lower() not in WRITTEN_FORMATS:
        raise UsageError(f"--out {out}: expected a file that ends in {', '.join(WRITTEN_FORMATS)}")
    return out
