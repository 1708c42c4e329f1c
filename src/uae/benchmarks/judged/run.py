"""A judged benchmark as a run: rows that a judge is asked for, and rows that follow from them.

A judge's answer costs time or money, so it has a row of its own at once; what is computed from
several answers, an image's mean say, has another row, so that runs are compared by it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uae.backends.circuit_breaker import Outages
from uae.backends.judge import JudgeFailed, JudgeStamp
from uae.benchmarks.image_origin import drawn_by, wording_of
from uae.benchmarks.judged.images import ImageSet
from uae.benchmarks.prompt_set import PromptSet
from uae.benchmarks.results.notes import gaps_option
from uae.benchmarks.results.pictures import with_pictures
from uae.benchmarks.results.result import BenchResult
from uae.benchmarks.results.run import BenchRun, Resume
from uae.benchmarks.results.scores import Score
from uae.core.errors import UsageError
from uae.core.provenance import BenchSettings, image_digests, images_stamp
from uae.core.ranks import current
from uae.data.untrusted.file import UnreadableImage
from uae.runs.rows import ItemRow

Rows = Mapping[str, ItemRow]


@dataclass(frozen=True, slots=True)
class Work:
    """A row to be made.

    Attributes:
        item: Its name.
        make: Makes it from the rows that are there, those of its group's earlier works at least.
        is_asked: Whether it asks the judge.
        group: The same for works that need each other's rows.
        image: What is judged, for the row to name.
    """

    item: str
    make: Callable[[Rows], ItemRow]
    is_asked: bool
    group: str
    image: Path


def judged_settings(
    benchmark: str,
    version: str,
    images: ImageSet,
    judge: JudgeStamp,
    prompts: PromptSet[Any],
    options: Mapping[str, Any],
) -> BenchSettings:
    """Return what the numbers of a judged run depend on; another judge is other data.

    Raises:
        UsageError: The images show prompts in different wordings.
    """
    digests = image_digests(images.paths)
    return BenchSettings(
        benchmark=benchmark,
        version=version,
        model=images_stamp(images.root, digests),
        data={"prompts": prompts.sha256, "judge": judge.identity},
        options={
            "judge": judge.values(),
            "is_complete": images.is_complete,
            **gaps_option(images.by_kind()),
            **options,
            **_origin(images),
        },
        inputs={"image": digests, "prompt": prompts.digests},
    )


def _origin(images: ImageSet) -> dict[str, Any]:
    """Return the prompts' wording and who drew, which stand in the folders that the images lie in.

    Where several folders were drawn in different ways, each says its own.
    """
    folders = sorted({path.parent for path in images.paths.values()})
    first = wording_of(folders[0])
    for folder in folders[1:]:
        if wording_of(folder) != first:
            raise UsageError(
                f"{folders[0]} and {folder} show prompts in different wordings: judge them in "
                "runs of their own"
            )
    drawn = {str(folder): drawn_by(folder) for folder in folders}
    by, *others = drawn.values()
    if any(other != by for other in others):
        by = drawn
    return {**first, **({"drawn_by": by} if by else {})}


def run_works(
    works: Sequence[Work],
    folder: Path,
    settings: BenchSettings,
    scores: Callable[[Sequence[ItemRow]], Sequence[Score]],
    *,
    resume: Resume = "auto",
    retry_failed: bool = False,
    show: Callable[[int, int], None] = lambda _done, _total: None,
) -> BenchResult:
    """Make each row that the folder does not hold yet, and score all.

    Args:
        works: In an order in which each finds the rows it needs.
        folder: Run folder, see `eval.results.run`.
        settings: What the numbers depend on.
        scores: Tells from the rows what is computed.
        resume: `must` refuses a folder without a run, `never` one with a run.
        retry_failed: Ask again where the judge gave no answer.
        show: Told (questions done, questions in all), before the first and after each.

    Raises:
        UsageError: The folder is of another run, or the judge is refused.
        RunFailed: The judge failed several times running; what is done stays done.
        EnvironmentFault: The folder cannot be written.
    """
    asked = {work.item for work in works if work.is_asked}
    with BenchRun.open(folder, settings, resume=resume, retry_failed=retry_failed) as run:
        num_done = len(asked & run.rows.keys())
        has_answered = any(row.samples for row in run.rows.values())
        outages = Outages("judge", folder, has_answered=has_answered)
        show(num_done, len(asked))
        for work in run.todo(works, lambda work: work.item, lambda work: work.group):
            row = with_pictures(work.make(run.rows), {"image": work.image}, folder)
            run.add(row)
            if work.is_asked:
                num_done += current().size  # the others are about as far
                outages.count(row)
                show(num_done, len(asked))
        return run.finish(scores)


def failed_row(row: ItemRow, error: JudgeFailed | UnreadableImage) -> ItemRow:
    """Exclude an item that could not be judged."""
    if isinstance(error, JudgeFailed):
        return replace(
            row,
            excluded=error.reason,
            excluded_detail=error.detail,
            can_retry=error.can_retry,
        )
    return replace(row, excluded=f"image: {error.reason}", excluded_detail=error.detail)


def unscored(row: ItemRow, asked: Sequence[ItemRow]) -> ItemRow:
    """Leave a row without a sample for want of answers: their own rows say why, and are counted."""
    return replace(row, can_retry=any(other.can_retry for other in asked))
