"""`uae eval unified-bench`: any captioner and any generator, measured by what is redrawn."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeFloat, NonNegativeInt, PositiveInt

from uae.commands.inputs import find_images
from uae.commands.judge_choice import JudgeChoice
from uae.commands.runs import Resume, check_run, ended, progress_of, stages_of
from uae.commands.startup import quick_start
from uae.commands.talk import PLAINLY, SWITCH, Talk
from uae.errors import UsageError

OFFICIAL = {
    "clip": "openai/clip-vit-large-patch14",
    "longclip": "zer0int/LongCLIP-L-Diffusers",
    "dinov2": "facebook/dinov2-large",
    "dinov3": "facebook/dinov3-vitl16-pretrain-lvd1689m",
}
"""The paper's four."""
KNOWN = OFFICIAL | {
    "siglip2": "google/siglip2-large-patch16-256",
    "dreamsim": "dreamsim:ensemble",
}
SIZES = (8, 16, 32, 64, 128, 256, 512)

NEXT = {
    "unified-bench": "uae compare RUN_A RUN_B",
    "caption-duel": "uae compare RUN_A RUN_B",
}
"""What the help of each names as the next command."""

Method = Literal["cut", "ask", "sample"]
Dtype = Literal["float32", "bfloat16", "float16"]


def unified_bench(
    images: Annotated[list[Path], Parameter(name="IMAGE")],
    /,
    *,
    model: str = "uae-tiny",
    captioner: str | None = None,
    generator: str | None = None,
    out: Path,
    backbone: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    hidden_states: Annotated[bool, SWITCH] = False,
    curve: Annotated[tuple[Method, ...], Parameter(negative="")] = (),
    budgets: Annotated[tuple[PositiveInt, ...], Parameter(negative="")] = SIZES,
    samples: PositiveInt = 8,
    tokenizer: str | None = None,
    prompt: str = "Describe the image in detail.",
    temperature: NonNegativeFloat = 0.0,
    seed: NonNegativeInt = 0,
    batch_size: PositiveInt = 16,
    dtype: Dtype = "float32",
    allow_missing: Annotated[bool, SWITCH] = False,
    resume: Resume = "auto",
    retry_failed: Annotated[bool, SWITCH] = False,
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Describe images, redraw them from the words, and compare, by Unified-Bench's rules.

    Try:
        uae eval unified-bench IMAGES --model runs/demo/model --out runs/unified
        uae eval unified-bench IMAGES --captioner file:captions.jsonl --out runs/theirs

    The same command goes on where it stopped.

    Args:
        images: Image files or folders.
        model: Model folder, or a preset: captioner and generator where these are not given.
        captioner: uae:MODEL, vlm:FOLDER_OR_HUB_ID, endpoint:MODEL@URL or file:CAPTIONS.jsonl.
        generator: uae:MODEL, diffusers:FOLDER_OR_HUB_ID, endpoint:MODEL@URL or folder:IMAGES.
        out: Folder of the run: captions, redraws, one row per image, scores.
        backbone: clip, longclip, dinov2, dinov3, siglip2, dreamsim, or NAME=FOLDER_OR_HUB_ID; by
            default those that the uae model names, without one the paper's first four.
        hidden_states: Redraw from the states of the captioning pass, which saw the image: another
            benchmark, of a uae model alone.
        curve: Measure similarity against length too, with captions that are cut, asked to be short,
            or chosen by length from several samples.
        budgets: Tokens of the curve's captions.
        samples: Captions to choose from.
        tokenizer: Folder or hub id of what counts tokens; by default that of the uae model.
        prompt: Asks vlm and endpoint captioners for a caption.
        temperature: Of the captions; 0 takes the most probable words.
        seed: Seed of noise and of sampled captions.
        batch_size: Images at once; changes speed and memory alone.
        dtype: Of vlm captioners and diffusers generators.
        allow_missing: Measure what a captions file or a folder of redraws covers; the result is
            marked as incomplete.
        resume: must refuses a folder without a run, never one with a run.
        retry_failed: Try again where an address gave no answer.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    check_run(out, resume)
    files = find_images(images, without=out)
    with quick_start():
        import torch

        from uae.commands import halves
        from uae.commands.coverage import gaps_of
        from uae.eval.unified_bench import run, summary
        from uae.eval.unified_bench.budgets import check_sizes
        from uae.eval.unified_bench.captioners import Request
        from uae.eval.unified_bench.task import Curve

        if curve:
            check_sizes(budgets)
        given = halves.Given(prompt, seed, device, getattr(torch, dtype))
        pair = halves.Pair.read(model, captioner, generator, given, sees_image=hidden_states)
        chosen = backbones_of(backbone or halves.own_backbones(pair) or OFFICIAL)
        tokens = halves.tokens_of(pair, tokenizer, is_needed=bool(curve))
        task = replace(
            pair.task(files.paths, out, chosen, tokens, batch_size),
            plain=Request(temperature=temperature),
            curve=Curve(methods=curve, sizes=budgets if curve else (), num_samples=samples),
        )
        gaps = gaps_of(pair, files.paths, allow_missing=allow_missing)
        digests, is_official = halves.digests(chosen, device), chosen == OFFICIAL
        settings = run.settings_of(
            task, pair.stamp(), digests, gaps, sees_image=hidden_states, is_official=is_official
        )
    progress, show = stages_of(talk)
    result = run.evaluate(
        task, settings, list(chosen), resume=resume, retry_failed=retry_failed, show=show
    )
    progress.close()
    return ended(result, out, summary.summary_text(result), talk, files.left_out)


def caption_duel(
    images: Annotated[list[Path], Parameter(name="IMAGE")],
    /,
    *,
    first: Path,
    second: Path,
    chosen: JudgeChoice,
    out: Path,
    resume: Resume = "auto",
    retry_failed: Annotated[bool, SWITCH] = False,
    device: str = "auto",
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
        out: Folder of the run: settings, one row per image with the raw replies, scores.
        resume: must refuses a folder without a run, never one with a run.
        retry_failed: Judge again where the judge gave no verdict.
        device: auto, cpu, cuda or cuda:1, for a local judge.
        talk: Format and verbosity.
    """
    talk.begin()
    check_run(out, resume)
    chosen.check()
    files = find_images(images, without=out)
    with quick_start():
        from uae.commands.coverage import warn_of_extra
        from uae.eval.unified_bench import duel
        from uae.eval.unified_bench.captioners import CaptionsFile
        from uae.eval.unified_bench.summary import summary_text

        duels = duel.pair_up(files.paths, first, second)
        for path in (first, second):
            warn_of_extra(path, CaptionsFile(path).extra(list(files.paths)), "captions")
        judge = chosen.load(device)
    settings = duel.settings_of(judge, duels, first, second)
    progress, show = progress_of("caption-duel", "pair", talk)
    result = duel.judge_duels(
        judge, duels, out, settings, resume=resume, retry_failed=retry_failed, show=show
    )
    progress.close()
    return ended(result, out, summary_text(result), talk, files.left_out)


def backbones_of(texts: Iterable[str]) -> dict[str, str]:
    """Return backbones by name, each a folder or hub id.

    Raises:
        UsageError: A name is not known, or comes twice.
    """
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
    return chosen
