"""Parts that judged benchmarks share: settings of their numbers, and rows without an answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from uae.backends.failure import BackendFailed, Failure
from uae.backends.judge import Judge
from uae.benchmarks.benchmark import Plan, Work
from uae.benchmarks.image_origin import drawn_by, wording_of
from uae.benchmarks.judged.images import ImageSet
from uae.benchmarks.prompt_set import PromptSet
from uae.benchmarks.results.notes import gaps_option, part_option
from uae.benchmarks.results.scores import Score
from uae.core.errors import UsageError
from uae.core.provenance import BenchSettings, image_digests, images_stamp
from uae.data.untrusted.file import UnreadableImage
from uae.runs.rows import ItemRow

P = TypeVar("P")
Rows = Mapping[str, ItemRow]


@dataclass(frozen=True, slots=True)
class JudgedTask(Generic[P]):
    """What is scored, and by whom."""

    prompts: PromptSet[P]
    images: ImageSet
    judge: Judge

    def plan(
        self,
        benchmark: str,
        version: str,
        num_published: int,
        works: Sequence[Work],
        scores: Callable[[Sequence[ItemRow]], Sequence[Score]],
        options: Mapping[str, Any],
    ) -> Plan:
        """Plan a run over the prompts that have an image, of `num_published` in the benchmark.

        Raises:
            UsageError: The images show prompts in different wordings.
        """
        num = len(self.prompts.prompts)
        counts = {"num_prompts": num, **part_option(num, num_published, "prompts")}
        settings = self.settings(benchmark, version, {**counts, **options})
        why = f"the set of images is incomplete:\n{self.images.summary()}"
        incomplete = "" if self.images.is_complete else why
        return Plan(settings, works, scores, incomplete=lambda _: incomplete)

    def settings(self, benchmark: str, version: str, options: Mapping[str, Any]) -> BenchSettings:
        """Return what the numbers depend on; another judge is other data."""
        images, judge = self.images, self.judge.stamp
        digests = image_digests(images.paths)
        return BenchSettings(
            benchmark=benchmark,
            version=version,
            model=images_stamp(images.root, digests),
            data={"prompts": self.prompts.sha256, "judge": judge.identity},
            options={
                "judge": judge.values(),
                "is_complete": images.is_complete,
                **gaps_option(images.by_kind()),
                **options,
                **_origin(images),
            },
            inputs={"image": digests, "prompt": self.prompts.digests},
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
    origins = {str(folder): drawn_by(folder) for folder in folders}
    by, *others = origins.values()
    if any(other != by for other in others):
        by = origins
    return {**first, **({"drawn_by": by} if by else {})}


def failed_row(row: ItemRow, why: BackendFailed | Failure | UnreadableImage) -> ItemRow:
    """Exclude an item that could not be measured."""
    if isinstance(why, UnreadableImage):
        return replace(row, excluded=f"image: {why.reason}", excluded_detail=why.detail)
    return replace(row, excluded=why.reason, excluded_detail=why.detail, can_retry=why.can_retry)


def unscored(row: ItemRow, questions: Sequence[ItemRow]) -> ItemRow:
    """Leave a row without a sample for want of answers: their own rows say why, and are counted."""
    return replace(row, can_retry=any(other.can_retry for other in questions))
