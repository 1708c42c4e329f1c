"""What the commands that draw a benchmark's prompts share: flags, generator, pictures, report."""

import functools
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from uae.cli.address import BY_DEFAULT, AddressChoice
from uae.cli.options import progress_of, warn_of
from uae.cli.output import SWITCH, Talk
from uae.cli.startup import quick_start
from uae.cli.unified_bench import Dtype
from uae.core.durable import storage_faults
from uae.core.errors import EXIT_DONE, EXIT_PARTIAL, UsageError
from uae.core.ranks import current, once

if TYPE_CHECKING:
    from uae.backends.failure import Failure
    from uae.backends.reference import Given, Spec
    from uae.backends.roles import Generator
    from uae.benchmarks.drawing import Picture
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
    size: str | None = None
    """WIDTHxHEIGHT asked of a pipeline or an address, by default its own."""
    dtype: Dtype = "float32"
    """Of a diffusers pipeline."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    address: AddressChoice = BY_DEFAULT
    """How an address is asked."""

    def read(self, out: Path) -> "tuple[Spec, Given]":
        """Return what draws into `out`, and what it is loaded with.

        Raises:
            UsageError: It names nothing, or cannot do what is asked of it.
        """
        import torch

        from uae.backends.reference import Given, Spec, check_dtype

        spec = Spec.read_model(MODEL, self.model, KINDS)
        if self.rewrite and not spec.is_ours:
            raise UsageError(
                f"--rewrite with {MODEL} {spec.shown}: the encoder of a uae model rewrites, and "
                "this generator has none: leave --rewrite out, or give a uae model"
            )
        check_dtype(self.dtype, spec)
        size = _size_of(self.size, spec)
        dtype = getattr(torch, self.dtype)
        return spec, Given("", self.seed, self.device, dtype, out, self.address.config, size)


def _size_of(text: str | None, spec: "Spec") -> tuple[int, int] | None:
    """Read WIDTHxHEIGHT.

    Raises:
        UsageError: It is none, or the generator has one size.
    """
    if text is None:
        return None
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"--size {text}: expected WIDTHxHEIGHT in pixels, such as 1024x1024")
    if spec.is_ours:
        raise UsageError(f"--size {text} with {MODEL} {spec.shown}: a uae model draws in one size")
    return int(width), int(height)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A folder that holds these images alone, and what draws them.

    Attributes:
        chosen: The flags.
        out: The folder.
        origin: What the images depend on.
        load: Loads what draws, and makes the folder.
    """

    chosen: DrawingChoice
    out: Path
    origin: Mapping[str, Any]
    load: "Callable[[], Generator]"


def begin(
    chosen: DrawingChoice,
    out: Path,
    name: str,
    sha256: str,
    prepare: Callable[[], None] = lambda: None,
) -> Drawing:
    """Check what draws and whether the folder may hold these images; nothing is loaded yet.

    Args:
        chosen: What draws, and how.
        out: Folder for the images.
        name: Of the prompt set.
        sha256: Of the prompt set.
        prepare: Writes what the folder holds besides images, before the first is drawn.

    Raises:
        UsageError: There is no such generator, it cannot rewrite, or the folder holds other files.
    """
    with quick_start():
        from uae.backends.load import generator_of
        from uae.benchmarks import drawing

        spec, given = chosen.read(out)
        origin = drawing.origin_of(
            _identity(spec, given), chosen.seed, name, sha256, rewrite=chosen.rewrite
        )
        once(lambda: drawing.check_origin(out, origin))
        load = generator_of(spec, given, {})

    @functools.cache
    def ready() -> "Generator":
        generator = load()
        with storage_faults("cannot write the images to", out):
            once(lambda: (drawing.begin(out, origin), prepare()))
        return generator

    return Drawing(chosen, out, origin, ready)


def _identity(spec: "Spec", given: "Given") -> dict[str, str]:
    """Say what draws: the sha256 of a folder's files, a hub id's commit, or an address."""
    from uae.backends.load import stamp_of
    from uae.benchmarks.drawing import identity_of

    if spec.is_ours:
        spec.check()
        return identity_of(spec.name)
    size = {"size": "x".join(map(str, given.size))} if given.size else {}
    identity = {"model": spec.shown, **size}
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
        How many files were drawn, kept and left out, these by reason, and what an address refused.
    """
    from uae.backends.refused_parameters import gather_refusals
    from uae.benchmarks.drawing import not_drawn

    asked, extra = len(pictures), {}
    if drawing.chosen.rewrite:
        pictures, extra = _rewritten(drawing, pictures, talk)
    left_out = Counter({"empty rewrite": asked - len(pictures)})
    todo = once(lambda: not_drawn(pictures))
    failures = _draw(drawing, todo, len(pictures) - len(todo), talk) if todo else {}
    refused = once(lambda: gather_refusals(drawing.out))
    left_out.update(failure.reason for failure in failures.values())
    if current().is_first:
        warn_of(
            f"left out {len(failures)} of {len(pictures)} images: the same command tries again",
            [f"{path}: {failure}" for path, failure in failures.items()],
        )
    return {
        "num_drawn": len(todo) - len(failures),
        "num_kept": len(pictures) - len(todo),
        "num_left_out": left_out.total(),
        "left_out": dict(+left_out),
        "refused": [refusal.param for refusal in refused],
        **extra,
    }


def _draw(
    drawing: Drawing, todo: Sequence["Picture"], num_kept: int, talk: Talk
) -> "dict[Path, Failure]":
    """Draw pictures that are not there; return those that failed."""
    from uae.backends.circuit_breaker import Outages
    from uae.backends.uae import Uae
    from uae.benchmarks.drawing import draw_pictures, warn_of_overlong

    generator, total = drawing.load(), num_kept + len(todo)
    if isinstance(generator, Uae) and current().is_first:
        warn_of_overlong(generator.model, todo)
    outages = Outages(
        "generator", drawing.out, has_answered=bool(num_kept), again="repeat the command"
    )
    progress, show = progress_of("drawing", "image", talk)
    show(num_kept, total)
    failures = draw_pictures(
        generator,
        todo,
        drawing.chosen.batch_size,
        outages,
        lambda num_done, _: show(num_kept + num_done, total),
    )
    progress.close()
    return failures


def _rewritten(
    drawing: Drawing, pictures: Sequence["Picture"], talk: Talk
) -> tuple[list["Picture"], dict[str, int]]:
    """Return the pictures in the encoder's words, and counts; without words there is no picture."""
    from uae.backends.uae import Uae
    from uae.benchmarks.rewriting import rewrite_prompts

    def load() -> "UnifiedAutoEncoder":
        generator = drawing.load()
        assert isinstance(generator, Uae), "only a model of this package rewrites"
        return generator.model

    progress, show = progress_of("rewriting", "prompt", talk)
    prompts = [picture.prompt for picture in pictures]
    found = rewrite_prompts(load, prompts, drawing.out, show)
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
        after = after.replace("IMAGES", quote(str(drawing.out)))
        plain = "\n".join([f"images  {images}", drawn + left_out, f"next    {after}"])
    talk.result(plain, {"images": str(images)} | dict(drawing.origin) | dict(counts))
    return EXIT_PARTIAL if counts["num_left_out"] else EXIT_DONE
