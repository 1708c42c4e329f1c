"""GenEval as a benchmark run: one row per image, taken up again after any stop."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from uae.benchmarks.benchmark import Plan, Work
from uae.benchmarks.geneval.clauses import TAGS
from uae.benchmarks.geneval.colors import ColorClassifier
from uae.benchmarks.geneval.decisions import (
    DecisionConfig,
    confident_objects,
    held_relations,
    judge,
)
from uae.benchmarks.geneval.detector import Detector, Variant
from uae.benchmarks.geneval.layout import ImageFolder, Sample
from uae.benchmarks.geneval.official import (
    SCORES,
    FailedImage,
    GenEvalResult,
    ImageResult,
    score_row,
    summarize,
)
from uae.benchmarks.geneval.prompts import NUM_PROMPTS, PromptLine, PromptSet
from uae.benchmarks.image_origin import drawn_by, wording_of
from uae.benchmarks.results.notes import gaps_option, part_option
from uae.benchmarks.results.scores import Score
from uae.core.device import device_of
from uae.core.durable import storage_faults
from uae.core.errors import NonFinite
from uae.core.provenance import BenchSettings, image_digests, images_stamp, weights_digest
from uae.core.ranks import once
from uae.data.opening import open_image
from uae.data.untrusted.file import UnreadableImage
from uae.models.hub import found
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


def load_judges(detector: str, variant: Variant, clip: str, device: str) -> Judges:
    """Load detector and colour classifier as a command line names them.

    Raises:
        UsageError: One is not there, or is another kind of model.
    """
    place = device_of(device)
    with found("--detector", detector):
        if variant == "geneval":
            judge = Detector.from_mmdet(Path(detector), place)
        else:
            judge = Detector.from_pretrained(detector, place)
    with found("--clip", clip):
        classifier = ColorClassifier.from_pretrained(clip, place)
    weights = {
        "detector": weights_digest(judge.model),
        "clip": weights_digest(classifier.clip),
    }
    return Judges(judge, classifier, {"detector": detector, "clip": clip}, weights)


@dataclass(frozen=True, slots=True)
class Task:
    """What is scored, and by whom."""

    folder: ImageFolder
    prompts: PromptSet
    num_samples: int
    judges: Judges
    config: DecisionConfig = field(default_factory=DecisionConfig)

    @property
    def part(self) -> dict[str, Any]:
        """How many of the published prompts these are, where they are fewer."""
        return part_option(len(self.prompts.lines), NUM_PROMPTS, "prompts")

    def name_of(self, sample: Sample) -> str:
        """Name a sample by its place in the folder, so that runs on two folders compare."""
        return sample.path.relative_to(self.folder.root).as_posix()


def plan_of(task: Task, out: Path) -> Plan:
    """Plan the run over a task, whose folder `out` gets the official files too.

    An image that fails is excluded and counted, never wrong.
    """
    samples = [*task.folder.samples, *task.folder.unreadable]
    works = [
        Work(item=task.name_of(sample), make=partial(_row, task, sample), image=sample.path)
        for sample in samples
    ]
    gaps, why = task.folder.gaps, "the set of images is incomplete: this is no GenEval score"
    return Plan(
        settings=_settings(task, {task.name_of(sample): sample.path for sample in samples}),
        works=works,
        scores=_scores,
        text=lambda _: write_official(task, out).text(),
        incomplete=lambda result: "" if gaps.is_empty and not result.num_excluded else why,
    )


def _settings(task: Task, images: Mapping[str, Path]) -> BenchSettings:
    digests, root = image_digests(images), task.folder.root
    by = drawn_by(root)
    return BenchSettings(
        benchmark=task.judges.detector.variant,
        version=RULES,
        model=images_stamp(root, digests),
        data={"prompts": task.prompts.sha256, **task.judges.weights},
        options={
            "prompts": task.prompts.name,
            "num_samples": task.num_samples,
            "is_complete": task.folder.gaps.is_empty,
            **gaps_option(task.folder.gaps.by_kind()),
            **task.part,
            "decisions": asdict(task.config),
            **task.judges.names,
            **wording_of(root),
            **({"drawn_by": by} if by else {}),
        },
        inputs={"image": digests, "prompt": task.prompts.digests},
    )


def _row(task: Task, sample: Sample, _: Mapping[str, ItemRow]) -> ItemRow:
    """Score one image; its row holds the official one, so that a resumed run can write it."""
    line = task.prompts.lines[sample.prompt_id]
    failed = FailedImage(str(sample.path), line.tag, line.metadata, sample.fault)
    image: ImageResult | FailedImage = failed
    if not sample.fault:
        try:
            image = score_image(sample.path, line, task.judges, task.config)
        except (UnreadableImage, NonFinite) as error:
            image = replace(failed, fault=str(error))
    return replace(score_row(image), item=task.name_of(sample), details=asdict(image))


def score_image(
    path: Path, line: PromptLine, judges: Judges, config: DecisionConfig
) -> ImageResult:
    """Score one image.

    Raises:
        UnreadableImage: It does not open.
        NonFinite: A network's output is not finite.
    """
    image = open_image(path)
    detections = judges.detector.detect(image, config.threshold_of(line.tag))
    objects = confident_objects(detections, line.tag, config)
    verdict = judge(line, objects, partial(judges.classifier.classify, image), held_relations)
    boxes = {name: [[*o.box, o.score] for o in of_class] for name, of_class in objects.items()}
    return ImageResult(
        filename=str(path),
        tag=line.tag,
        prompt=line.prompt,
        correct=verdict.correct,
        reason=verdict.reason,
        metadata=line.metadata,
        details=json.dumps(boxes),
    )


def _scores(rows: Sequence[ItemRow]) -> Sequence[Score]:
    """Return the scores that rows allow: a mean of categories needs all six."""
    tags = {row.labels["tag"] for row in rows}
    return [OVERALL, *SCORES] if tags == set(TAGS) else SCORES


def write_official(task: Task, out: Path) -> GenEvalResult:
    """Write the official files beside the rows of a run, and return what they hold.

    Raises:
        EnvironmentFault: They cannot be written.
    """
    rows = sorted(read_rows(out / ITEMS), key=lambda row: row.item)
    results = tuple(_image_of(ImageResult, row) for row in rows if not row.excluded)
    failed = tuple(_image_of(FailedImage, row) for row in rows if row.excluded)
    official = GenEvalResult(
        variant=task.judges.detector.variant,
        prompts=task.prompts.name,
        prompts_sha256=task.prompts.sha256,
        wording=wording_of(task.folder.root),
        part=task.part,
        config=task.config,
        results=results,
        failed=failed,
        gaps=task.folder.gaps,
        summary=summarize(results, failed),
    )
    with storage_faults("cannot write", out):
        once(lambda: official.write(out))
    return official


def _image_of(kind: type[T], row: ItemRow) -> T:
    """Return the official row that a row holds."""
    return kind(**{x.name: row.details[x.name] for x in fields(kind)})
