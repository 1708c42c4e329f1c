"""`uae eval unified-bench`: any captioner and any generator, measured by what is redrawn."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeFloat, NonNegativeInt, PositiveInt

from uae.backends.ours import check_named
from uae.cli.address import BY_DEFAULT, AddressChoice
from uae.cli.inputs import find_images
from uae.cli.judge_choice import JudgeChoice
from uae.cli.options import RunChoice, carry_out, ended, stages_of
from uae.cli.output import PLAINLY, SWITCH, Talk
from uae.cli.startup import quick_start
from uae.core.errors import UsageError
from uae.core.unicode import check_text
from uae.rewards.places import KNOWN, OFFICIAL, check_place

if TYPE_CHECKING:
    from uae.benchmarks.unified_bench.budgets import Curve
    from uae.benchmarks.unified_bench.pair import Pair
    from uae.benchmarks.unified_bench.task import Task

log = logging.getLogger(__name__)

SIZES = (8, 16, 32, 64, 128, 256, 512)

NEXT = dict.fromkeys(("unified-bench", "caption-duel"), "uae compare RUN_A RUN_B")
"""What the help of each names as the next command."""

Method = Literal["cut", "ask", "sample"]
Dtype = Literal["float32", "bfloat16", "float16"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PairChoice:
    """What describes and what redraws, and how."""

    model: str = "uae-tiny"
    """Folder, preset or ID@REVISION on the hub: captioner and generator where none is given."""
    captioner: str | None = None
    """uae:MODEL, vlm:FOLDER_OR_HUB_ID, endpoint:MODEL@URL or file:CAPTIONS.jsonl."""
    generator: str | None = None
    """uae:MODEL, diffusers:FOLDER_OR_HUB_ID, endpoint:MODEL@URL or folder:IMAGES."""
    hidden_states: Annotated[bool, SWITCH] = False
    """Redraw from states that saw the image: another benchmark, of a uae model alone."""
    prompt: str = "Describe the image in detail."
    """Asks vlm and endpoint captioners for a caption."""
    temperature: NonNegativeFloat = 0.0
    """Of the captions; 0 takes the most probable words."""
    seed: NonNegativeInt = 0
    """Seed of noise and of sampled captions."""
    batch_size: PositiveInt = 16
    """Images at once; changes speed and memory alone."""
    dtype: Dtype = "float32"
    """Of vlm captioners and diffusers generators."""
    address: AddressChoice = BY_DEFAULT
    """How an address is asked."""

    def check(self, curve: tuple[Method, ...]) -> None:
        """Refuse models of this package that are not there, and curves of given captions."""
        written = [method for method in curve if method != "cut"]
        if written and (self.captioner or "").startswith("file:"):
            raise UsageError(
                f"--curve {written[0]} with --captioner {self.captioner}: a file holds one caption "
                "an image: expected --curve cut"
            )
        for flag, text in (("--captioner", self.captioner), ("--generator", self.generator)):
            if text is None:
                check_named("--model", self.model)
            elif ":" in text:
                check_named(flag, text)

    def read(self, place: RunChoice) -> "Pair":
        """Return both halves, not loaded yet."""
        import torch

        from uae.backends.reference import Given, check_dtype
        from uae.benchmarks.unified_bench.pair import Pair

        check_text(self.prompt, "--prompt")
        dtype = getattr(torch, self.dtype)
        given = Given(self.prompt, self.seed, place.device, dtype, place.out, self.address.config)
        halves = (self.captioner, self.generator)
        pair = Pair.read(given, self.model, *halves, sees_image=self.hidden_states)
        check_dtype(self.dtype, pair.writes, pair.draws)
        return pair


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CurveChoice:
    """Whether similarity is measured against length too."""

    curve: Annotated[tuple[Method, ...], Parameter(negative="")] = ()
    """Captions of other lengths: cut, asked to be short, or chosen by length from several."""
    budgets: Annotated[tuple[PositiveInt, ...], Parameter(negative="")] = SIZES
    """Tokens of the curve's captions."""
    samples: PositiveInt = 8
    """Captions to choose from."""
    tokenizer: str | None = None
    """Folder or hub id of what counts tokens; by default that of the uae model."""

    def read(self) -> "Curve":
        """Return the curve, without sizes where none is asked for; raises as `Curve`."""
        from uae.benchmarks.unified_bench.budgets import Curve

        sizes = self.budgets if self.curve else ()
        return Curve(methods=self.curve, sizes=sizes, num_samples=self.samples)


UAE_TINY, NO_CURVE = PairChoice(), CurveChoice()


def unified_bench(
    images: Annotated[list[Path], Parameter(name="IMAGE")],
    /,
    *,
    halves: PairChoice = UAE_TINY,
    backbone: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    lengths: CurveChoice = NO_CURVE,
    place: RunChoice,
    allow_missing: Annotated[bool, SWITCH] = False,
    retry_failed: Annotated[bool, SWITCH] = False,
    talk: Talk = PLAINLY,
) -> int:
    """Describe images, redraw them from the words, and compare, by Unified-Bench's rules.

    Try:
        uae eval unified-bench IMAGES --model runs/demo/model --out runs/unified
        uae eval unified-bench IMAGES --captioner file:captions.jsonl --out runs/theirs

    The same command goes on where it stopped.

    Args:
        images: Image files or folders.
        halves: What describes and what redraws.
        backbone: clip, longclip, dinov2, dinov3, siglip2, dreamsim, or NAME=FOLDER_OR_HUB_ID; by
            default those that the uae model names, without one the paper's first four.
        lengths: Whether similarity is measured against length too.
        place: The run.
        allow_missing: Measure the images that open, and of given captions or redraws what they
            cover; the result is marked.
        retry_failed: Try again where an address gave no answer.
        talk: Format and verbosity.
    """
    talk.begin()
    place.check()
    halves.check(lengths.curve)
    named = backbones_of(backbone)
    files = find_images(images, without=place.out)
    with quick_start():
        from uae.backends.backbones import digests
        from uae.benchmarks.unified_bench import run
        from uae.cli.coverage import image_gaps, pair_gaps, settled

        pair = halves.read(place)
        chosen = named or backbones_of(pair.backbones or OFFICIAL)
        task = _task(pair, files.paths, place.out, chosen, halves, lengths)
        lacks = {**image_gaps(files.paths), **pair_gaps(pair, files.paths)}
        gaps = settled(lacks, len(files.paths), allow_missing=allow_missing)
        weights = digests(chosen, place.device)
        stamp, given = pair.stamp(), pair.given_inputs(files.paths)
        settings = run.settings_of(task, stamp, weights, gaps, given, sees_image=pair.sees_image)
    progress, show = stages_of(talk)
    result = run.evaluate(
        task, settings, list(chosen), resume=place.resume, retry_failed=retry_failed, show=show
    )
    progress.close()
    return ended(result, place.out, run.summary_text(result), talk, files.left_out)


def _task(
    pair: "Pair",
    images: Mapping[str, Path],
    out: Path,
    chosen: Mapping[str, str],
    halves: PairChoice,
    lengths: CurveChoice,
) -> "Task":
    from uae.backends.roles import Request

    tokens = pair.tokens(lengths.tokenizer, is_needed=bool(lengths.curve))
    return replace(
        pair.task(images, out, chosen, tokens, halves.batch_size),
        plain=Request(temperature=halves.temperature),
        curve=lengths.read(),
        counted=counted_of(chosen),
    )


def caption_duel(
    images: Annotated[list[Path], Parameter(name="IMAGE")],
    /,
    *,
    first: Path,
    second: Path,
    chosen: JudgeChoice,
    place: RunChoice,
    allow_missing: Annotated[bool, SWITCH] = False,
    retry_failed: Annotated[bool, SWITCH] = False,
    talk: Talk = PLAINLY,
) -> int:
    """Have a judge choose between two captions of each image, by Unified-Bench's second protocol.

    Try:
        uae eval caption-duel IMAGES --first A.jsonl --second B.jsonl --judge local:MODEL --out RUN

    Each pair is judged in both orders. The same command goes on where it stopped.

    Args:
        images: Image files or folders.
        first: Captions as `uae caption` writes them.
        second: Captions of the same images by another model: what is measured.
        chosen: Who judges.
        place: The run.
        allow_missing: Judge the images that open; the result is marked.
        retry_failed: Judge again where the judge gave no verdict.
        talk: Format and verbosity.
    """
    talk.begin()
    place.check()
    chosen.check()
    for flag, path in (("--first", first), ("--second", second)):
        check_named(flag, f"file:{path}")
    files = find_images(images, without=place.out)
    with quick_start():
        from uae.benchmarks.unified_bench import duel
        from uae.cli.coverage import image_gaps, settled, warn_of_extra

        duels, captions = duel.pair_up(files.paths, first, second)
        for given in captions:
            log.info(given.summary)
            warn_of_extra(given.path, given.extra, "captions")
        gaps = settled(image_gaps(files.paths), len(duels), allow_missing=allow_missing)
        judge = chosen.load(place.device, place.out)
    plan = duel.plan_of(judge, duels, first, second, gaps)
    return carry_out("caption-duel", "pair", plan, place, talk, retry_failed, files.left_out)


def backbones_of(texts: Iterable[str]) -> dict[str, str]:
    """Return backbones by name, each a folder or hub id."""
    chosen: dict[str, str] = {}
    for text in texts:
        name, _, place = text.partition("=")
        if not place and name not in KNOWN:
            raise UsageError(
                f"--backbone {text}: expected {', '.join(KNOWN)}, or NAME=FOLDER_OR_HUB_ID"
            )
        if not name or name in chosen:
            raise UsageError(f"--backbone {text}: expected a name that no other one has")
        chosen[name] = place or KNOWN[name]
        check_place(chosen[name])
    return chosen


def counted_of(chosen: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the paper's four backbones if all are there; others are columns beside.

    A folder under one of the names is taken to be a copy.
    """
    is_whole = all(
        name in chosen and (chosen[name] == hub_id or Path(chosen[name]).is_dir())
        for name, hub_id in OFFICIAL.items()
    )
    return tuple(OFFICIAL) if is_whole else ()
