"""GenEval's task: an image folder, its prompts, and the networks that judge."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from uae.benchmarks.geneval.colors import ColorClassifier
from uae.benchmarks.geneval.decisions import DecisionConfig
from uae.benchmarks.geneval.detector import Detector, Variant
from uae.benchmarks.geneval.layout import ImageFolder, Sample
from uae.benchmarks.geneval.prompts import NUM_PROMPTS, PromptSet
from uae.benchmarks.image_origin import drawn_by, wording_of
from uae.benchmarks.results.notes import gaps_option, part_option
from uae.core.device import device_of
from uae.core.provenance import BenchSettings, image_digests, images_stamp, weights_digest
from uae.models.hub import found

RULES = "uae-geneval-1"
"""Of decisions, detector input and output, and colours; a change of them needs another name."""


@dataclass(frozen=True, slots=True)
class Judges:
    """The networks that judge, with their names and the sha256 of their weights."""

    detector: Detector
    classifier: ColorClassifier
    names: Mapping[str, str]
    weights: Mapping[str, str]


def load_judges(detector: str, variant: Variant, clip: str, device: str) -> Judges:
    """Load what a command line names; raises `UsageError` for what is missing or another kind."""
    place = device_of(device)
    with found("--detector", detector):
        if variant == "geneval":
            judge = Detector.from_mmdet(Path(detector), place)
        else:
            judge = Detector.from_pretrained(detector, place)
    with found("--clip", clip):
        classifier = ColorClassifier.from_pretrained(clip, place)
    models = {"detector": judge.model, "clip": classifier.clip}
    weights = {name: weights_digest(model) for name, model in models.items()}
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

    @property
    def samples(self) -> dict[str, Sample]:
        """All by their places in the folder, so that runs on two folders compare."""
        root = self.folder.root
        samples = [*self.folder.samples, *self.folder.unreadable]
        return {sample.path.relative_to(root).as_posix(): sample for sample in samples}

    def settings(self) -> BenchSettings:
        """Return what the numbers of a run depend on."""
        root, gaps = self.folder.root, self.folder.gaps
        digests = image_digests({name: sample.path for name, sample in self.samples.items()})
        by = drawn_by(root)
        return BenchSettings(
            benchmark=self.judges.detector.variant,
            version=RULES,
            model=images_stamp(root, digests),
            data={"prompts": self.prompts.sha256, **self.judges.weights},
            options={
                "prompts": self.prompts.name,
                "num_samples": self.num_samples,
                "is_complete": gaps.is_empty,
                **gaps_option(gaps.by_kind()),
                **self.part,
                "decisions": asdict(self.config),
                **self.judges.names,
                **wording_of(root),
                **({"drawn_by": by} if by else {}),
            },
            inputs={"image": digests, "prompt": self.prompts.digests},
        )
