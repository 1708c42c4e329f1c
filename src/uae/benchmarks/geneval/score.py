"""GenEval of one image, and what is said of a folder's."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from uae.benchmarks.geneval.colors import ColorClassifier
from uae.benchmarks.geneval.decisions import (
    DecisionConfig,
    DetectedObject,
    confident_objects,
    held_relations,
    judge,
)
from uae.benchmarks.geneval.detector import Detector
from uae.benchmarks.geneval.layout import Gaps
from uae.benchmarks.geneval.prompts import PromptLine
from uae.benchmarks.geneval.summary import (
    FailedImage,
    ImageResult,
    Summary,
    summary_text,
    summary_values,
    write_results,
)
from uae.benchmarks.results.notes import marks_of
from uae.core.environment import describe_environment
from uae.data.opening import open_image

RESULTS_NAME, SUMMARY_NAME = "results.jsonl", "summary.json"


@dataclass(frozen=True, slots=True)
class GenEvalResult:
    """A score and all that is needed to tell what it is a score of."""

    variant: str
    """The detector's weights: "geneval" or "geneval-hf"; their scores are not compared."""
    prompts: str
    """Name of the prompt set."""
    prompts_sha256: str
    wording: Mapping[str, str]
    """In whose words the prompts were drawn, and how these were asked for; empty for their own."""
    part: Mapping[str, Any]
    """How many of the published prompts these are, where they are fewer; else empty."""
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
            **self.wording,
            "is_complete": self.is_complete,
            **self.part,
            **summary_values(self.summary),
            "gaps": self.gaps.by_kind(),
            "failed": [asdict(image) for image in self.failed],
            "config": asdict(self.config),
            "numerics": "float32; 8-bit bilinear resize by torch without antialiasing",
            "environment": describe_environment(),
        }

    def text(self) -> str:
        """Say the result in words, what is amiss first."""
        wording = f", {self.wording['wording']}" if self.wording else ""
        lines = [f"{self.variant}, prompts {self.prompts!r}{wording}"]
        if not self.is_complete:
            lines.append(f"INCOMPLETE, no GenEval score: {len(self.failed)} images failed")
            lines += [self.gaps.summary()] if not self.gaps.is_empty else []
        lines += marks_of({"options": self.part})
        return "\n".join([*lines, summary_text(self.summary)])


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
    verdict = judge(line, objects, partial(classifier.classify, image), held_relations)
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
