"""The verbs that draw a benchmark's prompts: flags, generator, pictures, report."""

import functools
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from uae.benchmarks.benchmark import Picture, PictureSet
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
    from uae.models.unified import UnifiedAutoEncoder

log = logging.getLogger(__name__)

MODEL = "--model"
GIVEN = "folder"
"""The kind whose images are there already: it draws no prompts."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DrawingChoice:
    """What draws, and how."""

    model: str = "uae-tiny"
    """Model folder, preset, ID@REVISION, diffusers:FOLDER_OR_HUB_ID or endpoint:MODEL@URL."""
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
        """Return what draws into `out`, and what it is loaded with; raises `UsageError`."""
        import torch

        from uae.backends.load import kinds
        from uae.backends.reference import Given, Spec, check_dtype
        from uae.backends.roles import Generator

        drawing = tuple(kind for kind in kinds(Generator) if kind != GIVEN)
        spec = Spec.read_model(MODEL, self.model, drawing)
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
    """Read WIDTHxHEIGHT; raises `UsageError` where it is none, or the generator has one size."""
    if text is None:
        return None
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"--size {text}: expected WIDTHxHEIGHT in pixels, such as 1024x1024")
    if spec.is_ours:
        raise UsageError(f"--size {text} with {MODEL} {spec.shown}: a uae model draws in one size")
    return int(width), int(height)


def draw_set(prompts: PictureSet, after: str, chosen: DrawingChoice, out: Path, talk: Talk) -> int:
    """Draw the pictures of a set that are not there yet, and return the exit code.

    Raises:
        UsageError: There is no such generator, it cannot rewrite, or the folder holds other files.
    """
    from uae.backends.refused_parameters import gather_refusals
    from uae.benchmarks.drawing import not_drawn
    from uae.runs.cut_captions import read_cut

    origin, load = _begin(prompts, chosen, out)
    asked, extra = prompts.pictures(out), {}
    pictures = asked
    if chosen.rewrite:
        pictures, extra = _rewritten(load, asked, out, talk)
    todo = once(lambda: not_drawn(pictures))
    num_kept = len(pictures) - len(todo)
    failures = _draw(load(), pictures, todo, chosen.batch_size, out, talk) if todo else {}
    refused = once(lambda: gather_refusals(out))
    if current().is_first:
        warn_of(
            f"left out {len(failures)} of {len(pictures)} images: the same command tries again",
            [f"{path}: {failure}" for path, failure in failures.items()],
        )
    left_out = Counter({"empty rewrite": len(asked) - len(pictures)})
    left_out.update(failure.reason for failure in failures.values())
    num_drawn, num_left_out = len(todo) - len(failures), left_out.total()
    values = origin | {
        "num_drawn": num_drawn,
        "num_kept": num_kept,
        "num_left_out": num_left_out,
        "left_out": dict(+left_out),
        "refused": [refusal.param for refusal in refused],
        "cut_captions": [asdict(cut) for cut in read_cut(out)],
    }
    images = str(once(lambda: prompts.table(out)))
    drawn = f"drawn   {num_drawn}, {num_kept} kept"
    drawn += f", {num_left_out} left out" if num_left_out else ""
    after = after.replace("IMAGES", quote(str(out)))
    plain = "\n".join([f"images  {images}", drawn, f"next    {after}"])
    text = images if talk.chosen == "quiet" else plain
    talk.result(text, {"images": images} | values | extra)
    return EXIT_PARTIAL if num_left_out else EXIT_DONE


def _begin(
    prompts: PictureSet, chosen: DrawingChoice, out: Path
) -> "tuple[dict[str, Any], Callable[[], Generator]]":
    """Check the folder; return what its images depend on, and what loads the generator once."""
    with quick_start():
        from uae.backends.load import generator_of
        from uae.benchmarks import drawing

        spec, given = chosen.read(out)
        origin = drawing.origin_of(
            _identity(spec, given),
            chosen.seed,
            prompts.name,
            prompts.sha256,
            rewrite=chosen.rewrite,
        )
        once(lambda: drawing.check_origin(out, origin))
        load = generator_of(spec, given, {})

    @functools.cache
    def ready() -> "Generator":
        generator = load()
        with storage_faults("cannot write the images to", out):
            once(lambda: (drawing.begin(out, origin), prompts.prepare(out)))
        return generator

    return origin, ready


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


def _draw(
    generator: "Generator",
    pictures: Sequence[Picture],
    todo: Sequence[Picture],
    batch_size: int,
    out: Path,
    talk: Talk,
) -> "dict[Path, Failure]":
    """Draw pictures that are not there; return those that failed."""
    from uae.backends.circuit_breaker import Outages
    from uae.benchmarks.drawing import draw_pictures
    from uae.runs.cut_captions import count_cut

    total = len(pictures)
    num_kept = total - len(todo)
    if current().is_first:
        count_cut(out, "prompts", generator.reader, {x.prompt: x.prompt for x in pictures})
    outages = Outages("generator", out, has_answered=bool(num_kept), again="repeat the command")
    progress, show = progress_of("drawing", "image", talk)
    show(num_kept, total)
    failures = draw_pictures(
        generator, todo, batch_size, outages, lambda done, _: show(num_kept + done, total)
    )
    progress.close()
    return failures


def _rewritten(
    ready: "Callable[[], Generator]", pictures: Sequence[Picture], out: Path, talk: Talk
) -> tuple[list[Picture], dict[str, int]]:
    """Return the pictures in the encoder's words, and counts; without words there is no picture."""
    from uae.backends.uae import Uae
    from uae.benchmarks.rewriting import rewrite_prompts

    def load() -> "UnifiedAutoEncoder":
        generator = ready()
        assert isinstance(generator, Uae), "only a model of this package rewrites"
        return generator.model

    progress, show = progress_of("rewriting", "prompt", talk)
    rewrites = rewrite_prompts(load, [picture.prompt for picture in pictures], out, show)
    progress.close()
    texts = {prompt: written.rewrite for prompt, written in rewrites.items()}
    empty = [prompt for prompt, text in texts.items() if not text]
    warn_of(f"left out {len(empty)} of {len(texts)} prompts: the encoder's rewrite is empty", empty)
    num_truncated = sum(written.is_truncated for written in rewrites.values())
    if num_truncated:
        log.warning("%d rewrites reached the model's limit without an end", num_truncated)
    kept = [replace(x, prompt=texts[x.prompt]) for x in pictures if texts[x.prompt]]
    return kept, {"num_truncated": num_truncated}
