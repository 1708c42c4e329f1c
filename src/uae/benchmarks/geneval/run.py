"""GenEval as a benchmark run: one row per image, taken up again after any stop."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from uae.benchmarks.benchmark import Plan, Work
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


def plan_of(task: Task, out: Path) -> Plan:
    """Plan the run over a task; an image that fails is excluded and counted, never wrong.

    Args:
        task: Images, prompts and judges.
        out: Run folder; gets the official files too.
    """
    works = [
        Work(item=task.name_of(sample), make=partial(_row, task, sample, fault), image=sample.path)
        for sample, fault in task.samples
    ]
    gaps, why = task.folder.gaps, "the set of images is incomplete: this is no GenEval score"
    return Plan(
        settings=settings_of(task),
        works=works,
        scores=_scores,
        text=lambda _: write_official(task, out).text(),
        incomplete=lambda result: "" if gaps.is_empty and not result.num_excluded else why,
    )


def write_official(task: Task, out: Path) -> GenEvalResult:
    """Write the official files beside the rows of a run, and return what they hold.

    Raises:
        EnvironmentFault: They cannot be written.
    """
    official = _official(task, read_rows(out / ITEMS))
    with storage_faults("cannot write", out):
        once(lambda: write_result(official, out))
    return official


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


def _row(task: Task, sample: Sample, fault: str, _: Mapping[str, ItemRow]) -> ItemRow:
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
