"""GenEval as the command line offers it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from uae.benchmarks.benchmark import AllowMissing, Means, Picture, PictureSet, Plan
from uae.core.errors import UsageError

if TYPE_CHECKING:
    from uae.benchmarks.geneval.prompts import PromptSet

Variant = Literal["geneval", "geneval-hf"]

OFFICIAL_CLIP = "openai/clip-vit-large-patch14"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """Which samples are drawn."""

    prompts: Path | None = None
    """The prompts' metadata file; by default the 553 official ones."""
    num_samples: PositiveInt = 4
    """Images of each prompt."""


class GenEvalImages:
    """Draw GenEval's prompts into its folder layout, for this scorer or the official one.

    Try:
        uae eval geneval-images --model runs/demo/model --out runs/geneval-images

    The same command goes on where it stopped: samples that are there are kept.
    """

    options = DrawOptions
    after = "uae eval geneval IMAGES --detector DETECTOR --variant geneval --out DIR"

    def read(self, options: DrawOptions) -> PictureSet:
        from uae.benchmarks.geneval.layout import sample_path, write_metadata

        prompts = _prompts(options.prompts)
        return PictureSet(
            name=prompts.name,
            sha256=prompts.sha256,
            pictures=lambda out: [
                Picture(sample_path(out, i, k), line.prompt, (("geneval", i, k),))
                for i, line in enumerate(prompts.lines)
                for k in range(options.num_samples)
            ],
            prepare=lambda out: write_metadata(out, prompts),
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class GenEvalOptions:
    """What is scored, and by which networks."""

    detector: str
    """For geneval mmdet's .pth file; for geneval-hf a folder or hub id of a Mask2Former."""
    variant: Variant
    """Which weights the detector has; scores of the two are never compared."""
    clip: str = OFFICIAL_CLIP
    """Folder or hub id of the CLIP that names colours."""
    prompts: Path | None = None
    """The prompts' metadata file; by default the 553 official ones."""
    num_samples: PositiveInt = 4
    """Images expected of each prompt."""
    allow_missing: AllowMissing = False


class GenEval:
    """Score a folder of images in GenEval's layout with a detector.

    Try:
        uae eval geneval IMAGES --detector mask2former.pth --variant geneval --out runs/geneval

    The same command goes on where it stopped. Besides the run's own files the
    folder gets results.jsonl in the official format, and summary.json.
    """

    given = Parameter(
        name="IMAGES", help="Folder with 00000/metadata.jsonl, 00000/samples/0000.png and so on."
    )
    options = GenEvalOptions
    unit = "image"
    asked = None
    images = GenEvalImages()

    def plan(self, given: Path, options: GenEvalOptions, means: Means) -> Plan:
        from uae.benchmarks.geneval.layout import read_folder

        _check_detector(options.detector, options.variant)
        prompts = _prompts(options.prompts)
        folder = read_folder(
            given, prompts, options.num_samples, allow_missing=options.allow_missing
        )
        from uae.benchmarks.geneval.run import plan_of
        from uae.benchmarks.geneval.task import Task, load_judges

        judges = load_judges(options.detector, options.variant, options.clip, means.device)
        return plan_of(Task(folder, prompts, options.num_samples, judges), means.out)


def _check_detector(detector: str, variant: Variant) -> None:
    is_checkpoint = Path(detector).suffix == ".pth"
    if variant == "geneval" and not is_checkpoint:
        raise UsageError(
            f"--detector {detector}: --variant geneval takes mmdet's checkpoint, a .pth file; a "
            "model in transformers' format is --variant geneval-hf"
        )
    if variant == "geneval" and not Path(detector).is_file():
        raise UsageError(f"--detector {detector} does not exist: expected mmdet's .pth file")
    if variant == "geneval-hf" and is_checkpoint:
        raise UsageError(f"--detector {detector}: a .pth file is --variant geneval")


def _prompts(path: Path | None) -> "PromptSet":
    from uae.benchmarks.geneval.prompts import official_prompts, read_prompts

    return read_prompts(path) if path else official_prompts()
