"""`uae caption`, `uae draw` and `uae reconstruct`: a trained model on the user's own images."""

import contextlib
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import NonNegativeFloat, PositiveFloat, PositiveInt
from PIL import Image

from uae.commands.inputs import STDIN, ImageFiles, check_same_writer, find_images, opened
from uae.commands.startup import quick_start
from uae.commands.talk import PLAINLY, Talk, json_line, write
from uae.data.captions_file import CAPTIONS_NAME, CaptionRow, CaptionsWriter, read_rows
from uae.data.images import fit_square
from uae.data.opening import open_image
from uae.data.sheet import MAX_ROWS, SheetRow, reconstruction_sheet
from uae.data.untrusted.file import UnreadableImage
from uae.errors import EXIT_DONE, EXIT_PARTIAL, UsageError

log = logging.getLogger(__name__)

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_MAX_LISTED = 50


def caption(
    images: Annotated[list[Path], Parameter(name="IMAGE")],
    /,
    *,
    model: str = "uae-tiny",
    out: Path | None = None,
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

    One image gives its caption alone; several give JSON Lines. With --out rows
    are appended as they are made and images that have one are skipped: the same
    command goes on where it stopped.

    Args:
        images: Image files, folders, or - for an image on stdin.
        model: Model folder, or a preset.
        out: JSON Lines file to append to.
        seed: Seed of the sampling; a caption depends on it and on the image's name.
        temperature: 0 takes the most probable words.
        max_new_tokens: Longest caption; by default the model's.
        batch_size: Images captioned at once.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    files = find_images(images, allow_stdin=True)
    if out is not None:
        check_same_writer(out, model, seed)
    with quick_start():
        from uae.commands import loop

        auto_encoder = loop.load(model, device)
    with CaptionsWriter(out) if out else contextlib.nullcontext() as writer:
        todo = writer.missing(files.paths) if writer else list(files.paths)
        num_done = 0
        for items in opened(files, todo, auto_encoder.decoder.size_px, batch_size):
            rows = loop.describe(
                auto_encoder,
                items,
                model,
                seed=seed,
                temperature=temperature,
                max_new_tokens=max_new_tokens,
            )
            for row in rows:
                if writer:
                    writer.append(row)
                else:
                    _write_caption(row, files.is_one, talk)
            num_done += len(rows)
            if not files.is_one:
                log.info("captioned %d of %d", num_done, len(todo))
    return _ended("captioned", num_done, len(files.paths) - len(todo), files)


def _write_caption(row: CaptionRow, is_one: bool, talk: Talk) -> None:
    if is_one and talk.chosen != "json":
        write(row.caption)
    else:
        write(json_line(asdict(row)))


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
        model: Model folder, or a preset.
        out: Image file (PNG, JPEG, WebP), or a folder; by default named after caption and seed.
        seed: Seed of the starting noise.
        steps: Steps from noise to image; by default the model's.
        guidance_scale: Classifier-free guidance, 1 is without; by default the model's.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    text = (sys.stdin.read() if caption == STDIN else caption).strip()
    if not text:
        raise UsageError('the caption is empty: expected a text, e.g. uae draw "A red circle."')
    path = _picture_path(out, text, seed)
    with quick_start():
        from uae.commands import loop
        from uae.data.sources import to_images

        auto_encoder = loop.load(model, device)
    sampling = auto_encoder.settings.sampling
    if steps is not None:
        sampling = replace(sampling, num_steps=steps)
    if guidance_scale is not None:
        sampling = replace(sampling, guidance_scale=guidance_scale)
    [image] = to_images(auto_encoder.draw([text], seed=seed, sampling=sampling))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    values = {
        "image": str(path),
        "caption": text,
        "seed": seed,
        "num_tokens": auto_encoder.encoder.num_tokens(text),
        "max_caption_tokens": auto_encoder.settings.max_caption_tokens,
        "sampling": asdict(sampling),
    }
    talk.result(str(path), values)
    return EXIT_DONE


def _picture_path(out: Path | None, caption: str, seed: int) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", caption.lower())[:48].strip("-") or "drawing"
    if out is None or out.is_dir():
        return (out or Path()) / f"{slug}-{seed}.png"
    if out.suffix.lower() not in PICTURE_SUFFIXES:
        raise UsageError(f"--out {out}: expected a file that ends in {', '.join(PICTURE_SUFFIXES)}")
    return out


def reconstruct(
    images: Annotated[list[Path], Parameter(name="IMAGE")],
    /,
    *,
    model: str = "uae-tiny",
    out: Path | None = None,
    seed: int = 0,
    temperature: NonNegativeFloat = 0.7,
    batch_size: PositiveInt = 16,
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Describe images, draw them again from the words alone, and compare.

    Try:
        uae reconstruct photo.jpg
        uae reconstruct photos/ --out photos-again

    The output folder holds captions.jsonl, redraws/ and sheet.png. Images are
    cropped to a square in the model's size. The same command goes on where it
    stopped.

    Args:
        images: Image files or folders.
        model: Model folder, or a preset.
        out: Output folder; by default NAME-reconstructed.
        seed: Seed of captions and redraws.
        temperature: Of the captions; 0 takes the most probable words.
        batch_size: Images at once.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    out = out or _folder_for(images)
    files = find_images(images, without=out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file: expected a folder")
    check_same_writer(out / CAPTIONS_NAME, model, seed)
    with quick_start():
        from uae.commands import loop
        from uae.data.sources import to_images

        auto_encoder = loop.load(model, device)
        backbones = loop.load_backbones(auto_encoder, device)
    size_px = auto_encoder.decoder.size_px
    num_done = 0
    with CaptionsWriter(out / CAPTIONS_NAME) as writer:
        todo = writer.missing(files.paths)
        for items in opened(files, todo, size_px, batch_size):
            rows = loop.describe(
                auto_encoder,
                items,
                model,
                seed=seed,
                temperature=temperature,
                max_new_tokens=None,
            )
            _warn_of_overlong(rows, auto_encoder.settings.max_caption_tokens)
            redraws = loop.redraw(auto_encoder, rows, seed)
            scores = loop.compare(backbones, items, redraws)
            for row, image, score in zip(rows, to_images(redraws), scores, strict=True):
                place = Path("redraws", f"{row.image}.png")
                (out / place).parent.mkdir(parents=True, exist_ok=True)
                image.save(out / place)
                writer.append(replace(row, redraw=place.as_posix(), similarities=score))
            num_done += len(rows)
            if not files.is_one:
                log.info("reconstructed %d of %d", num_done, len(todo))
    rows = [row for row in read_rows(out / CAPTIONS_NAME) if row.image in files.paths]
    _write_sheet(out, rows, files, size_px)
    _write_table(rows, out, talk)
    return _ended("reconstructed", num_done, len(files.paths) - len(todo), files)


def _folder_for(images: Sequence[Path]) -> Path:
    if len(images) > 1:
        return Path("reconstructed")
    only = images[0].resolve()
    return Path(f"{only.name if only.is_dir() else only.stem}-reconstructed")


def _warn_of_overlong(rows: Sequence[CaptionRow], max_caption_tokens: int) -> None:
    for row in rows:
        if (row.num_tokens or 0) > max_caption_tokens:
            log.warning(
                "%s: the caption has %d tokens, the decoder was trained for %d: its end may be "
                "ignored",
                row.image,
                row.num_tokens,
                max_caption_tokens,
            )


def _write_sheet(out: Path, rows: Sequence[CaptionRow], files: ImageFiles, size_px: int) -> None:
    """Draw the first rows, opened again, so that a folder of any size fits into memory."""
    shown = list(_sheet_rows(out, rows[:MAX_ROWS], files, size_px))
    if shown:
        reconstruction_sheet(shown).save(out / "sheet.png")


def _sheet_rows(
    out: Path, rows: Sequence[CaptionRow], files: ImageFiles, size_px: int
) -> Iterator[SheetRow]:
    for row in rows:
        try:
            original: Image.Image = fit_square(open_image(files.paths[row.image]), size_px)
            redraw = open_image(out / row.redraw) if row.redraw else None
        except UnreadableImage as error:
            log.warning("not on the sheet: %s", error)
            continue
        if redraw is not None:
            yield SheetRow(
                name=row.image,
                original=original,
                caption=row.caption,
                redraw=redraw,
                similarities=row.similarities,
            )


def _write_table(rows: Sequence[CaptionRow], out: Path, talk: Talk) -> None:
    """Write the results of all images asked for, those of earlier runs included."""
    if talk.for_reader == "quiet":
        write(str(out))
        return
    if talk.for_reader == "json":
        for row in rows:
            write(json_line(asdict(row)))
        return
    names = list(dict.fromkeys(name for row in rows for name in row.similarities))
    width = max([len(row.image) for row in rows] + [len("image")])
    write("  ".join([f"{'image':{width}}", *(f"{name:>8}" for name in names), "caption"]))
    for row in rows:
        numbers = [
            f"{row.similarities[n]:8.3f}" if n in row.similarities else " " * 8 for n in names
        ]
        write("  ".join([f"{row.image:{width}}", *numbers, row.caption]))
    write(f"\nsheet  {out / 'sheet.png'}")


def _ended(verb: str, num_done: int, num_before: int, files: ImageFiles) -> int:
    """Say how it went, list what was left out, and return the exit code."""
    before = f", {num_before} done before" if num_before else ""
    if files.left_out:
        reasons = Counter(str(error.reason) for error in files.left_out).most_common()
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons)
        lines = [f"  {error}" for error in files.left_out[:_MAX_LISTED]]
        if len(files.left_out) > _MAX_LISTED:
            lines.append(f"  ... and {len(files.left_out) - _MAX_LISTED} more")
        total = f"{verb} {num_done}{before}, left out {len(files.left_out)} ({counts})"
        log.warning("\n".join([total, *lines]))
        return EXIT_PARTIAL
    if not files.is_one:
        others = f", {files.num_other} other files ignored" if files.num_other else ""
        log.info("%s %d%s%s", verb, num_done, before, others)
    return EXIT_DONE
