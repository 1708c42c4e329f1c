"""GenEval as a benchmark run: one row per image, taken up again after any stop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from uae.benchmarks.geneval.clauses import TAGS
from uae.benchmarks.geneval.colors import ColorClassifier
from uae.benchmarks.geneval.decisions import DecisionConfig
from uae.benchmarks.geneval.detector import Detector
from uae.benchmarks.geneval.layout import ImageFolder, Sample
from uae.benchmarks.geneval.prompts import NUM_PROMPTS, PromptSet
from uae.benchmarks.geneval.score import GenEvalResult, score_image, write_result
from uae.benchmarks.geneval.summary import SCORES, FailedImage, ImageResult, score_row, summarize
from uae.benchmarks.image_origin import drawn_by, wording_of
from uae.benchmarks.results.notes import gaps_option, part_option
from uae.benchmarks.results.pictures import with_pictures
from uae.benchmarks.results.result import BenchResult
from uae.benchmarks.results.run import BenchRun, Resume
from uae.benchmarks.results.scores import Score
from uae.core.durable import storage_faults
from uae.core.errors import NonFinite
from uae.core.provenance import BenchSettings, image_digests, images_stamp
from uae.core.ranks import once
from uae.data.untrusted.file import UnreadableImage
from uae.runs.rows import ITEMS, ItemRow, read_rows

T = TypeVar("T", ImageResult, FailedImage)

RULES = "uae-geneval-1"
"""Of decisions, detector input and output, and colours; a change of them needs another name."""
OVERALL = Score(name="overall", sample="correct", mean_over="tag")


@dataclass(frozen=True, slots=True)
class Judges:
    """The networks that judge, with their names and the sha256 of their weights."""

    detector: Detector
    classifier: ColorClassifier
    names: Mapping[str, str]
    weights: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Task:
    """What is scored, and by whom."""

    folder: ImageFolder
    prompts: PromptSet
    num_samples: int
    judges: Judges
    config: DecisionConfig = field(default_factory=DecisionConfig)

    @property
    def samples(self) -> list[tuple[Sample, str]]:
        """Every sample with its fault, "" where it opens."""
        unreadable = [(item.sample, item.fault) for item in self.folder.gaps.unreadable]
        return [*((sample, "") for sample in self.folder.samples), *unreadable]

    def name_of(self, sample: Sample) -> str:
        """Name a sample by its place in the folder, so that runs on two folders compare."""
        return sample.path.relative_to(self.folder.root).as_posix()


def score(
    task: Task, out: Path, resume: Resume, show: Callable[[int, int], None]
) -> tuple[BenchResult, GenEvalResult]:
    """Score each image that has no row in the folder yet, and write all results.

    An image that fails is excluded and counted, never wrong.

    Args:
        task: Images, prompts and judges.
        out: Run folder, see `eval.results.run`; gets the official files too.
        resume: `must` refuses a folder without a run, `never` one with a run.
        show: Told (images done, images in all), before the first and after each.

    Raises:
        UsageError: The folder is of another run.
        EnvironmentFault: It cannot be written.
    """
    samples = task.samples
    with BenchRun.open(out, settings_of(task), resume=resume) as run:
        show(run.num_done, len(samples))
        for sample, fault in run.todo(samples, lambda pair: task.name_of(pair[0])):
            row = _row(task, sample, fault)
            run.add(with_pictures(row, {"image": sample.path}, out))
            show(run.num_done, len(samples))
        result = run.finish(_scores)
    official = _official(task, read_rows(out / ITEMS))
    with storage_faults("cannot write", out):
        once(lambda: write_result(official, out))
    return result, official


def settings_of(task: Task) -> BenchSettings:
    """Return what the numbers of a run depend on."""
    digests = image_digests({task.name_of(sample): sample.path for sample, _ in task.samples})
    by = drawn_by(task.folder.root)
    return BenchSettings(
        benchmark=task.judges.detector.variant,
        version=RULES,
        model=images_stamp(task.folder.root, digests),
        data={"prompts": task.prompts.sha256, **task.judges.weights},
        options={
            "prompts": task.prompts.name,
            "num_samples": task.num_samples,
            "is_complete": task.folder.gaps.is_empty,
            **gaps_option(task.folder.gaps.by_kind()),
            **_part(task),
            "decisions": asdict(task.config),
            **task.judges.names,
            **wording_of(task.folder.root),
            **({"drawn_by": by} if by else {}),
        },
        inputs={"image": digests, "prompt": task.prompts.digests},
    )


def _part(task: Task) -> dict[str, Any]:
    return part_option(len(task.prompts.lines), NUM_PROMPTS, "prompts")


def _row(task: Task, sample: Sample, fault: str) -> ItemRow:
    """Score one image; its row holds the official one, so that a resumed run can write it."""
    line = task.prompts.lines[sample.prompt_id]
    try:
        image: ImageResult | FailedImage = (
            FailedImage(str(sample.path), line.tag, line.metadata, fault)
            if fault
            else score_image(
                sample.path, line, task.judges.detector, task.judges.classifier, task.config
            )
        )
    except (UnreadableImage, NonFinite) as error:
        image = FailedImage(str(sample.path), line.tag, line.metadata, str(error))
    return replace(score_row(image), item=task.name_of(sample), details=asdict(image))


def _scores(rows: Sequence[ItemRow]) -> Sequence[Score]:
    """Return the scores that rows allow: a mean of categories needs all six."""
    tags = {row.labels["tag"] for row in rows}
    return [OVERALL, *SCORES] if tags == set(TAGS) else SCORES


def _image_of(kind: type[T], row: ItemRow) -> T:
    """Return the official row that a row holds."""
    names = [x.name for x in fields(kind)]
    return kind(**{name: row.details[name] for name in names})


def _official(task: Task, rows: Sequence[ItemRow]) -> GenEvalResult:
    """Return the rows as the official scorer's, in the order of the images' names."""
    ordered = sorted(rows, key=lambda row: row.item)
    results = [_image_of(ImageResult, row) for row in ordered if not row.excluded]
    failed = [_image_of(FailedImage, row) for row in ordered if row.excluded]
    return GenEvalResult(
        variant=task.judges.detector.variant,
        prompts=task.prompts.name,
        prompts_sha256=task.prompts.sha256,
        wording=wording_of(task.folder.root),
        part=_part(task),
        config=task.config,
        results=tuple(results),
        failed=tuple(failed),
        gaps=task.folder.gaps,
        summary=summarize(results, failed),
    )
