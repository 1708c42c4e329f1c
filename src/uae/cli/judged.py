"""`uae eval dpg`, `uae eval geneval2`, `uae eval geneval-pp`: benchmarks with a judge."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from uae.cli.judge_choice import JudgeChoice
from uae.cli.options import RunChoice, ended, progress_of
from uae.cli.output import PLAINLY, SWITCH, Talk
from uae.cli.startup import quick_start
from uae.core.errors import EXIT_PARTIAL

if TYPE_CHECKING:
    from uae.benchmarks.judged.images import ImageSet
    from uae.benchmarks.results.result import BenchResult

log = logging.getLogger(__name__)

NEXT = {
    "dpg": "uae compare RUN_A RUN_B",
    "geneval2": "uae compare RUN_A RUN_B",
    "geneval-pp": "uae compare RUN_A RUN_B",
}
"""What the help of each names as the next command."""


def dpg(
    images: Annotated[Path, Parameter(name="IMAGES")],
    /,
    *,
    prompts: Path,
    csv: Path,
    chosen: JudgeChoice,
    place: RunChoice,
    num_images: Literal["1", "4"] = "4",
    compat: Annotated[bool, SWITCH] = False,
    allow_missing: Annotated[bool, SWITCH] = False,
    retry_failed: Annotated[bool, SWITCH] = False,
    talk: Talk = PLAINLY,
) -> int:
    """Score a folder of images by DPG-Bench's questions.

    Try:
        uae eval dpg IMAGES --prompts DIR --csv FILE.csv --judge local:MODEL --out RUN

    The same command goes on where it stopped.

    Args:
        images: Folder with ITEM_ID.png, a grid of two by two images each.
        prompts: Folder with ITEM_ID.txt.
        csv: dpg_bench.csv, the questions.
        chosen: Who judges.
        place: The run.
        num_images: 4 for grids, 1 where each file is one image.
        compat: Score as upstream's script does, with two of its faults.
        allow_missing: Score what is there; the result is marked as incomplete.
        retry_failed: Ask again where the judge gave no answer.
        talk: Format and verbosity.
    """
    talk.begin()
    place.check()
    chosen.check()
    with quick_start():
        from uae.benchmarks.dpg import run
        from uae.benchmarks.dpg.drawing import NumImages
        from uae.benchmarks.dpg.prompts import read_dpg

    read = read_dpg(prompts, csv, without_first_row=compat)
    count: NumImages = 4 if num_images == "4" else 1
    found = run.find_images(images, read, count, allow_missing=allow_missing)
    with quick_start():
        judge = chosen.load(place.device, place.out)
    task = run.DpgTask(read, found, judge, count, compat)
    return _finish(
        "dpg",
        lambda show: run.score(
            task, place.out, resume=place.resume, retry_failed=retry_failed, show=show
        ),
        found,
        place,
        talk,
    )


def geneval2(
    table: Annotated[Path, Parameter(name="IMAGES.json")],
    /,
    *,
    prompts: Path,
    chosen: JudgeChoice,
    place: RunChoice,
    allow_missing: Annotated[bool, SWITCH] = False,
    retry_failed: Annotated[bool, SWITCH] = False,
    talk: Talk = PLAINLY,
) -> int:
    """Score images by GenEval 2's questions, by Soft-TIFA.

    Try:
        uae eval geneval2 IMAGES.json --prompts FILE.jsonl --judge local:MODEL --out RUN

    The same command goes on where it stopped.

    Args:
        table: JSON object that names each prompt's image.
        prompts: geneval2_data.jsonl; its licence is CC BY-NC 4.0.
        chosen: Who judges.
        place: The run.
        allow_missing: Score what is there; the result is marked as incomplete.
        retry_failed: Ask again where the judge gave no answer.
        talk: Format and verbosity.
    """
    talk.begin()
    place.check()
    chosen.check()
    with quick_start():
        from uae.benchmarks.geneval2 import run
        from uae.benchmarks.geneval2.prompts import find_images, read_prompts

    read = read_prompts(prompts)
    found = find_images(table, read, allow_missing=allow_missing)
    with quick_start():
        judge = chosen.load(place.device, place.out)
    task = run.Task(read, found, judge)
    return _finish(
        "geneval2",
        lambda show: run.score(
            task, place.out, resume=place.resume, retry_failed=retry_failed, show=show
        ),
        found,
        place,
        talk,
    )


def geneval_pp(
    images: Annotated[Path, Parameter(name="IMAGES")],
    /,
    *,
    prompts: Path,
    chosen: JudgeChoice,
    place: RunChoice,
    allow_missing: Annotated[bool, SWITCH] = False,
    retry_failed: Annotated[bool, SWITCH] = False,
    talk: Talk = PLAINLY,
) -> int:
    """Have a judge say of each image of GenEval++ whether it is right.

    Try:
        uae eval geneval-pp IMAGES --prompts FILE.jsonl --judge URL --judge-model NAME --out RUN

    The same command goes on where it stopped.

    Args:
        images: Folder with 1.jpg for the first prompt, and so on.
        prompts: GenEval++'s prompts, one JSON object a line.
        chosen: Who judges.
        place: The run.
        allow_missing: Score what is there; the result is marked as incomplete.
        retry_failed: Ask again where the judge gave no verdict.
        talk: Format and verbosity.
    """
    talk.begin()
    place.check()
    chosen.check()
    with quick_start():
        from uae.benchmarks.geneval_pp import run
        from uae.benchmarks.geneval_pp.prompts import find_images, read_prompts

    read = read_prompts(prompts)
    found = find_images(images, read, allow_missing=allow_missing)
    with quick_start():
        judge = chosen.load(place.device, place.out)
    task = run.Task(read, found, judge)
    return _finish(
        "geneval-pp",
        lambda show: run.score(
            task, place.out, resume=place.resume, retry_failed=retry_failed, show=show
        ),
        found,
        place,
        talk,
    )


def _finish(
    stage: str,
    score: Callable[[Callable[[int, int], None]], "BenchResult"],
    images: "ImageSet",
    place: RunChoice,
    talk: Talk,
) -> int:
    """Score with a progress line, write the result, and return the exit code."""
    from uae.benchmarks.judged.summary import summary_text

    progress, show = progress_of(stage, "question", talk)
    result = score(show)
    progress.close()
    code = ended(result, place.out, summary_text(result), talk)
    if not images.is_complete:
        log.warning("the set of images is incomplete:\n%s", images.summary())
        return EXIT_PARTIAL
    return code
