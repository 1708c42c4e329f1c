"""GenEval from a folder of images to a result: list, detect, decide, summarize."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from uae.data.opening import open_image
from uae.data.untrusted.file import UnreadableImage
from uae.environment import describe_environment
from uae.errors import NonFinite
from uae.eval.geneval.colors import ColorClassifier
from uae.eval.geneval.decisions import (
    DecisionConfig,
    DetectedObject,
    confident_objects,
    judge,
)
from uae.eval.geneval.detector import Detector
from uae.eval.geneval.layout import Gaps, ImageFolder, Sample
from uae.eval.geneval.prompts import PromptLine, PromptSet
from uae.eval.geneval.summary import (
    FailedImage,
    ImageResult,
    Summary,
    summarize,
    summary_text,
    summary_values,
    write_results,
)

RESULTS_NAME, SUMMARY_NAME = "results.jsonl", "summary.json"


@dataclass(frozen=True, slots=True)
class GenEvalResult:
    """A score and all that is needed to tell what it is a score of."""

    variant: str
    """The detector's weights: "geneval" or "geneval-hf"; their scores are not compared."""
    prompts: str
    """Name of the prompt set."""
    prompts_sha256: str
    config: DecisionConfig
    results: tuple[ImageResult, ...]
    failed: tuple[FailedImage, ...]
    gaps: Gaps
    summary: Summary

    @property
    def is_complete(self) -> bool:
        """Whether every image of the set was there and was scored."""
        return self.gaps.is_empty and not self.failed

    def values(self) -> dict[str, Any]:
        """Return the result but for its rows, as JSON values."""
        return {
            "benchmark": self.variant,
            "prompts": self.prompts,
            "prompts_sha256": self.prompts_sha256,
            "is_complete": self.is_complete,
            **summary_values(self.summary),
            "gaps": self.gaps.by_kind(),
            "failed": [asdict(image) for image in self.failed],
            "config": asdict(self.config),
            "numerics": "float32; 8-bit bilinear resize by torch without antialiasing",
            "environment": describe_environment(),
        }

    def text(self) -> str:
        """Say the result in words, what is amiss first."""
        lines = [f"{self.variant}, prompts {self.prompts!r}"]
        if not self.is_complete:
            lines.append(f"INCOMPLETE, no GenEval score: {len(self.failed)} images failed")
            lines += [self.gaps.summary()] if not self.gaps.is_empty else []
        return "\n".join([*lines, summary_text(self.summary)])


def score_folder(
    folder: ImageFolder,
    prompts: PromptSet,
    detector: Detector,
    classifier: ColorClassifier,
    config: DecisionConfig | None = None,
    show: Callable[[int, int], None] = lambda done, total: None,
) -> GenEvalResult:
    """Score each image of a folder; one that fails is excluded and counted.

    folder = read_folder(root, prompts)
    result = score_folder(folder, prompts, Detector.from_mmdet(path), classifier)

    Args:
        folder: As `read_folder` found it for the same prompts.
        prompts: The set that the images were made for.
        detector: Its variant names the result.
        classifier: Of colours.
        config: Which detections count; the benchmark's own limits where it is None.
        show: Told after each image how many are done, and of how many.
    """
    config = config or DecisionConfig()
    results: list[ImageResult] = []
    failed = [
        _failed(item.sample, prompts.lines[item.sample.prompt_id], item.fault)
        for item in folder.gaps.unreadable
    ]
    for done, sample in enumerate(folder.samples, start=1):
        line = prompts.lines[sample.prompt_id]
        try:
            results.append(score_image(sample.path, line, detector, classifier, config))
        except (UnreadableImage, NonFinite) as error:
            failed.append(_failed(sample, line, str(error)))
        show(done, len(folder.samples))
    return GenEvalResult(
        variant=detector.variant,
        prompts=prompts.name,
        prompts_sha256=prompts.sha256,
        config=config,
        results=tuple(results),
        failed=tuple(failed),
        gaps=folder.gaps,
        summary=summarize(results, failed),
    )


def score_image(
    path: Path,
    line: PromptLine,
    detector: Detector,
    classifier: ColorClassifier,
    config: DecisionConfig,
) -> ImageResult:
    """Score one image.

    Raises:
        UnreadableImage: It does not open.
        NonFinite: A network's output is not finite.
    """
    image = open_image(path)
    detections = detector.detect(image, config.threshold_of(line.tag))
    objects = confident_objects(detections, line.tag, config)
    verdict = judge(line, objects, partial(classifier.classify, image))
    return ImageResult(
        filename=str(path),
        tag=line.tag,
        prompt=line.prompt,
        correct=verdict.correct,
        reason=verdict.reason,
        metadata=line.metadata,
        details=json.dumps({name: [_row(o) for o in found] for name, found in objects.items()}),
    )


def write_result(result: GenEvalResult, out: Path) -> None:
    """Write `results.jsonl`, which the official summary reads, and `summary.json`."""
    out.mkdir(parents=True, exist_ok=True)
    write_results(out / RESULTS_NAME, result.results)
    (out / SUMMARY_NAME).write_text(json.dumps(result.values(), indent=2, allow_nan=False) + "\n")


def _row(o: DetectedObject) -> list[float]:
    return [*o.box, o.score]


def _failed(sample: Sample, line: PromptLine, fault: str) -> FailedImage:
    return FailedImage(str(sample.path), line.tag, line.metadata, fault)
