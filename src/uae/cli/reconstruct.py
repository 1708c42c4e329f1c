"""`uae reconstruct`: the whole loop on the user's own images, with pictures and numbers."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.types import NonNegativeFloat, PositiveInt

from uae.cli.inputs import ImageFiles, ended, find_images, missing, work_through, writing_of
from uae.cli.options import check_folder
from uae.cli.output import PLAINLY, Talk, json_line, write
from uae.cli.startup import quick_start
from uae.core.disks import fitting_name, folded, result_path
from uae.core.errors import UnfitName, UsageError
from uae.data.caption_layouts import CAPTIONS_NAME
from uae.data.captions import CaptionRow, CaptionsWriter, read_rows
from uae.data.folder import NamedImage, write_image
from uae.data.opening import open_image
from uae.data.shapes import fitted
from uae.data.untrusted.file import UnreadableImage
from uae.models.settings import find_settings, pinned
from uae.report.sheet import MAX_ROWS, SheetRow, reconstruction_sheet
from uae.rewards.places import rewarding

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

REDRAWS = "redraws"


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
    cropped to squares, or redrawn in about their own shapes, as the model has it.
    The same command goes on where it stopped.

    Args:
        images: Image files or folders.
        model: Model folder, preset or ID@REVISION on the hub.
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
    _check_folder(out)
    model = pinned("--model", model)
    rewarding((), find_settings(model).similarity, "")  # says here what a backbone lacks
    writing = writing_of(model, seed, temperature)
    if not (todo := missing(out / CAPTIONS_NAME, files.paths, writing)) and files.paths:
        return _finish(out, files, 0, 0, talk)
    with quick_start():
        from uae.backends import own as loop
        from uae.core.device import device_of
        from uae.rewards.loading import load_backbones

        auto_encoder = loop.load(model, device)
        backbones = load_backbones(auto_encoder.settings.similarity, device_of(device))
    with CaptionsWriter(out / CAPTIONS_NAME) as writer:
        taken = {folded(row.redraw) for row in read_rows(writer.path) if row.redraw}

        def work(items: list[NamedImage]) -> int:
            rows = loop.describe(auto_encoder, items, writing)
            _warn_of_overlong(rows, auto_encoder.settings.max_caption_tokens)
            redraws = loop.redraw(auto_encoder, rows, [item.image for item in items], seed)
            scores = loop.compare(backbones, items, redraws)
            return _save(rows, redraws, scores, writer, files, taken)

        todo, seen = writer.missing(todo), auto_encoder.decoder.shapes.seen
        num_done = work_through(files, todo, seen, batch_size, "reconstructed", work)
    return _finish(out, files, len(todo), num_done, talk)


def _finish(out: Path, files: ImageFiles, num_todo: int, num_done: int, talk: Talk) -> int:
    """Write the results of all images asked for, say how it went, and return the exit code."""
    rows = [row for row in read_rows(out / CAPTIONS_NAME) if row.image in files.paths]
    # opened again, so that a folder of any size fits into memory
    if shown := list(_sheet_rows(out, rows[:MAX_ROWS], files)):
        write_image(reconstruction_sheet(shown), out / "sheet.png")
    _write_table(rows, out, talk)
    return ended("reconstructed", num_done, len(files.paths) - num_todo, files)


def _folder_for(images: Sequence[Path]) -> Path:
    if len(images) > 1:
        return Path("reconstructed")
    only = images[0].resolve()
    return Path(fitting_name(f"{only.name if only.is_dir() else only.stem}-reconstructed"))


def _check_folder(out: Path) -> None:
    """Refuse a folder that holds something else than an earlier call of this command."""
    check_folder(out, "--out")
    if not out.exists():
        return
    path = out / CAPTIONS_NAME
    rows = read_rows(path) if path.is_file() else []
    others = {entry.name for entry in out.iterdir()} - {CAPTIONS_NAME, REDRAWS}
    if any(row.redraw is None for row in rows) or (others and not rows):
        raise UsageError(
            f"--out {out} is not empty and was not written by this command (it has no "
            f"{CAPTIONS_NAME} with redraws): choose another folder"
        )


def _save(
    rows: Sequence[CaptionRow],
    redraws: Sequence["Tensor"],
    scores: Sequence[Mapping[str, float]],
    writer: CaptionsWriter,
    files: ImageFiles,
    taken: set[str],
) -> int:
    """Write pictures before their rows, so that a row's picture is always there; return how many.

    A redraw that is not finite, or whose name the disk refuses, is noted in `files` instead.
    """
    from uae.data.sources import to_images

    num_saved = 0
    for row, redraw, score in zip(rows, redraws, scores, strict=True):
        if fault := _not_finite(redraw, score):
            files.leave_out(row.image, "not finite", fault)
            continue
        place = result_path(f"{REDRAWS}/{row.image}.png", taken)
        [image] = to_images(redraw[None])
        try:
            write_image(image, writer.path.parent / place)
        except UnfitName as error:
            files.leave_out(row.image, "unfit name", str(error))
            continue
        taken.add(folded(place))
        writer.append(replace(row, redraw=place, similarities=score))
        num_saved += 1
    return num_saved


def _not_finite(redraw: "Tensor", score: Mapping[str, float]) -> str:
    if not redraw.isfinite().all():
        return "its redraw holds NaN or infinity; the model's decoder may have diverged"
    bad = [f"{name} {value}" for name, value in score.items() if not math.isfinite(value)]
    return f"its similarities hold {', '.join(bad)}" if bad else ""


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


def _sheet_rows(out: Path, rows: Sequence[CaptionRow], files: ImageFiles) -> Iterator[SheetRow]:
    for row in rows:
        if row.redraw is None:
            continue
        try:
            redraw = open_image(out / row.redraw)
            original = fitted(open_image(files.paths[row.image]), (redraw.height, redraw.width))
        except UnreadableImage as error:
            log.warning("not on the sheet: %s", error)
            continue
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
        return write(str(out))
    if talk.for_reader == "json":
        for row in rows:
            write(json_line(asdict(row)))
        return None
    names = list(dict.fromkeys(name for row in rows for name in row.similarities))
    width = max(map(len, ["image", *(row.image for row in rows)]))
    write("  ".join([f"{'image':{width}}", *(f"{name:>8}" for name in names), "caption"]))
    for row in rows:
        values = [row.similarities.get(name) for name in names]
        numbers = [" " * 8 if value is None else f"{value:8.3f}" for value in values]
        write("  ".join([f"{row.image:{width}}", *numbers, row.caption]))
    write(f"\nsheet  {out / 'sheet.png'}")
