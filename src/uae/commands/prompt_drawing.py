"""What the commands that draw a benchmark's prompts share: the model, the pictures, the report."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uae.commands.inputs import MAX_LISTED
from uae.commands.runs import progress_of
from uae.commands.startup import quick_start
from uae.commands.talk import Talk
from uae.errors import EXIT_DONE, EXIT_PARTIAL
from uae.ranks import gathered, once

if TYPE_CHECKING:
    from uae.eval.drawing import Picture
    from uae.models.unified import UnifiedAutoEncoder

log = logging.getLogger(__name__)


def begin(
    model: str, out: Path, name: str, sha256: str, seed: int, device: str, *, rewrite: bool
) -> tuple["UnifiedAutoEncoder", dict[str, Any]]:
    """Load the model, and make the folder if it may hold these images.

    Args:
        model: Folder or preset.
        out: Folder for the images.
        name: Of the prompt set.
        sha256: Of the prompt set.
        seed: Of the noise.
        device: As the command has it.
        rewrite: Draw the prompts in the encoder's words.

    Returns:
        The model, and what the images depend on.
    """
    with quick_start():
        from uae.commands import loop
        from uae.eval import drawing

        origin = drawing.origin_of(model, seed, name, sha256, rewrite=rewrite)
        once(lambda: drawing.check_origin(out, origin))
        auto_encoder = loop.load(model, device)
    once(lambda: drawing.begin(out, origin))
    return auto_encoder, origin


def draw(
    model: "UnifiedAutoEncoder",
    pictures: Sequence["Picture"],
    seed: int,
    batch_size: int,
    rewrites: Path | None,
    talk: Talk,
) -> dict[str, int]:
    """Draw what is not there yet.

    Args:
        model: Draws, and rewrites.
        pictures: All that the folder should hold.
        seed: Of the noise.
        batch_size: Samples at once.
        rewrites: Folder that holds the prompts' rewrites, which are drawn; None draws the prompts.
        talk: Format and verbosity.

    Returns:
        How many files were drawn, kept and left out.
    """
    from uae.eval.drawing import draw_pictures, not_drawn

    counts = {"num_left_out": 0}
    if rewrites:
        pictures, counts = _rewritten(model, pictures, rewrites, talk)
    todo = once(lambda: not_drawn(pictures))
    num_kept = len(pictures) - len(todo)
    progress, show = progress_of("drawing", "image", talk)
    show(num_kept, len(pictures))
    for num_drawn in draw_pictures(model, todo, seed, batch_size):
        show(num_kept + num_drawn, len(pictures))
    gathered(None)  # all have drawn
    progress.close()
    return {"num_drawn": len(todo), "num_kept": num_kept, **counts}


def _rewritten(
    model: "UnifiedAutoEncoder", pictures: Sequence["Picture"], folder: Path, talk: Talk
) -> tuple[list["Picture"], dict[str, int]]:
    """Return the pictures in the encoder's words, and counts; without words there is no picture."""
    from uae.eval.rewriting import rewrite_prompts

    progress, show = progress_of("rewriting", "prompt", talk)
    found = rewrite_prompts(model, [picture.prompt for picture in pictures], folder, show)
    progress.close()
    empty = [f"  {prompt}" for prompt, written in found.items() if not written.rewrite]
    if empty:
        more = [f"  ... and {len(empty) - MAX_LISTED} more"] if len(empty) > MAX_LISTED else []
        total = f"left out {len(empty)} of {len(found)} prompts: the encoder's rewrite is empty"
        log.warning("\n".join([total, *empty[:MAX_LISTED], *more]))
    drawn = [
        replace(picture, prompt=found[picture.prompt].rewrite)
        for picture in pictures
        if found[picture.prompt].rewrite
    ]
    num_truncated = sum(written.is_truncated for written in found.values())
    if num_truncated:
        log.warning("%d rewrites reached the model's limit without an end", num_truncated)
    return drawn, {"num_left_out": len(pictures) - len(drawn), "num_truncated": num_truncated}


def finish(
    after: str,
    out: Path,
    images: Path,
    origin: Mapping[str, Any],
    counts: dict[str, int],
    talk: Talk,
) -> int:
    """Say what was drawn and what comes next; return the exit code.

    Args:
        after: The next command, with IMAGES for the folder.
        out: Folder of the images.
        images: What the scorer is given.
        origin: What the images depend on.
        counts: Of `draw`.
        talk: Format and verbosity.
    """
    plain = str(images)
    if talk.chosen != "quiet":
        drawn = f"drawn   {counts['num_drawn']}, {counts['num_kept']} kept"
        left_out = f", {counts['num_left_out']} left out" if counts["num_left_out"] else ""
        after = after.replace("IMAGES", str(out))
        plain = "\n".join([f"images  {images}", drawn + left_out, f"next    {after}"])
    talk.result(plain, {"images": str(images)} | dict(origin) | counts)
    return EXIT_PARTIAL if counts["num_left_out"] else EXIT_DONE
