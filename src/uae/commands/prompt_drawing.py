"""What the commands that draw a benchmark's prompts share: flags, generator, pictures, report."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from uae.commands.runs import progress_of, warn_of
from uae.commands.startup import quick_start
from uae.commands.talk import SWITCH, Talk
from uae.commands.unified_bench import Dtype
from uae.errors import EXIT_DONE, EXIT_PARTIAL, UsageError
from uae.ranks import current, once

if TYPE_CHECKING:
    from uae.commands.halves import Given, Spec
    from uae.eval.drawing import Picture
    from uae.eval.unified_bench.generators import Generator
    from uae.models.unified import UnifiedAutoEncoder

log = logging.getLogger(__name__)

MODEL = "--model"
KINDS = ("uae", "diffusers", "endpoint")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DrawingChoice:
    """What draws, and how."""

    model: str = "uae-tiny"
    """Model folder, preset, diffusers:FOLDER_OR_HUB_ID or endpoint:MODEL@URL."""
    rewrite: Annotated[bool, SWITCH] = False
    """Draw each prompt as the uae model's own encoder expands it."""
    seed: NonNegativeInt = 0
    """Seed of the starting noise."""
    batch_size: PositiveInt = 16
    """Images at once, where a uae model draws; changes speed and memory alone."""
    dtype: Dtype = "float32"
    """Of a diffusers pipeline."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A folder that holds these images alone, and what draws them.

    Attributes:
        chosen: The flags.
        out: The folder.
        origin: What the images depend on.
        generator: Draws.
        model: The model of this package that the generator is of; None of any other.
    """

    chosen: DrawingChoice
    out: Path
    origin: Mapping[str, Any]
    generator: "Generator"
    model: "UnifiedAutoEncoder | None"


def begin(chosen: DrawingChoice, out: Path, name: str, sha256: str) -> Drawing:
    """Load the generator, and make the folder if it may hold these images.

    Args:
        chosen: What draws, and how.
        out: Folder for the images.
        name: Of the prompt set.
        sha256: Of the prompt set.

    Raises:
        UsageError: There is no such generator, it cannot rewrite, or the folder holds other files.
    """
    with quick_start():
        import torch

        from uae.commands import halves
        from uae.eval import drawing
        from uae.eval.unified_bench.generators import DecoderGenerator

        spec = halves.Spec.read_model(MODEL, chosen.model, KINDS)
        if chosen.rewrite and not spec.is_ours:
            raise UsageError(
                f"--rewrite with {MODEL} {chosen.model}: the encoder of a uae model rewrites, and "
                "this generator has none: leave --rewrite out, or give a uae model"
            )
        given = halves.Given("", chosen.seed, chosen.device, getattr(torch, chosen.dtype))
        origin = drawing.origin_of(
            _identity(spec, given), chosen.seed, name, sha256, rewrite=chosen.rewrite
        )
        once(lambda: drawing.check_origin(out, origin))
        generator = halves.generator_of(spec, given, {})()
        model = generator.model if isinstance(generator, DecoderGenerator) else None
    once(lambda: drawing.begin(out, origin))
    return Drawing(chosen, out, origin, generator, model)


def _identity(spec: "Spec", given: "Given") -> dict[str, str]:
    """Say what draws: the sha256 of a folder's files, a hub id's commit, or an address."""
    from uae.commands.halves import stamp_of
    from uae.eval.drawing import identity_of

    if spec.is_ours:
        return identity_of(spec.name)
    identity = {"model": spec.shown}
    if spec.kind == "endpoint":
        return identity
    stamp = stamp_of(spec, given)
    names = {"weights": "model_sha256"}
    files = {names.get(key, key): digest for key, digest in stamp.files.items()}
    return identity | files | {"dtype": stamp.dtype}


def draw(drawing: Drawing, pictures: Sequence["Picture"], talk: Talk) -> dict[str, Any]:
    """Draw what is not there yet.

    Args:
        drawing: What `begin` returned.
        pictures: All that the folder should hold.
        talk: Format and verbosity.

    Returns:
        How many files were drawn, kept and left out, and these by reason.
    """
    from uae.eval.drawing import draw_pictures, not_drawn, warn_of_overlong
    from uae.eval.results.outages import Outages

    asked, extra = len(pictures), {}
    if drawing.chosen.rewrite:
        assert drawing.model is not None, "only a model of this package rewrites"
        pictures, extra = _rewritten(drawing.model, pictures, drawing.out, talk)
    left_out = Counter({"empty rewrite": asked - len(pictures)})
    todo = once(lambda: not_drawn(pictures))
    num_kept = len(pictures) - len(todo)
    if drawing.model is not None:
        warn_of_overlong(drawing.model, todo)
    progress, show = progress_of("drawing", "image", talk)
    show(num_kept, len(pictures))
    failures = draw_pictures(
        drawing.generator,
        todo,
        drawing.chosen.batch_size,
        Outages("generator", drawing.out, again="repeat the command"),
        lambda num_done, _: show(num_kept + num_done, len(pictures)),
    )
    progress.close()
    left_out.update(failure.reason for failure in failures.values())
    if current().is_first:
        warn_of(
            f"left out {len(failures)} of {len(pictures)} images: the same command tries again",
            [f"{path}: {failure}" for path, failure in failures.items()],
        )
    return {
        "num_drawn": len(todo) - len(failures),
        "num_kept": num_kept,
        "num_left_out": left_out.total(),
        "left_out": dict(+left_out),
        **extra,
    }


def _rewritten(
    model: "UnifiedAutoEncoder", pictures: Sequence["Picture"], folder: Path, talk: Talk
) -> tuple[list["Picture"], dict[str, int]]:
    """Return the pictures in the encoder's words, and counts; without words there is no picture."""
    from uae.eval.rewriting import rewrite_prompts

    progress, show = progress_of("rewriting", "prompt", talk)
    found = rewrite_prompts(model, [picture.prompt for picture in pictures], folder, show)
    progress.close()
    empty = [prompt for prompt, written in found.items() if not written.rewrite]
    warn_of(f"left out {len(empty)} of {len(found)} prompts: the encoder's rewrite is empty", empty)
    drawn = [
        replace(picture, prompt=found[picture.prompt].rewrite)
        for picture in pictures
        if found[picture.prompt].rewrite
    ]
    num_truncated = sum(written.is_truncated for written in found.values())
    if num_truncated:
        log.warning("%d rewrites reached the model's limit without an end", num_truncated)
    return drawn, {"num_truncated": num_truncated}


def finish(
    after: str, drawing: Drawing, images: Path, counts: Mapping[str, Any], talk: Talk
) -> int:
    """Say what was drawn and what comes next; return the exit code.

    Args:
        after: The next command, with IMAGES for the folder.
        drawing: What `begin` returned.
        images: What the scorer is given.
        counts: Of `draw`.
        talk: Format and verbosity.
    """
    plain = str(images)
    if talk.chosen != "quiet":
        drawn = f"drawn   {counts['num_drawn']}, {counts['num_kept']} kept"
        left_out = f", {counts['num_left_out']} left out" if counts["num_left_out"] else ""
        after = after.replace("IMAGES", str(drawing.out))
        plain = "\n".join([f"images  {images}", drawn + left_out, f"next    {after}"])
    talk.result(plain, {"images": str(images)} | dict(drawing.origin) | dict(counts))
    return EXIT_PARTIAL if counts["num_left_out"] else EXIT_DONE
