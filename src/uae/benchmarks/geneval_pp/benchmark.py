"""GenEval++ as the command line offers it."""

from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from uae.benchmarks.benchmark import AllowMissing, Asked, Means, Picture, PictureSet, Plan


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """Which prompts are drawn."""

    prompts: Path
    """GenEval++'s prompts, one JSON object a line."""


class GenEvalPlusPlusImages:
    """Draw GenEval++'s prompts, one image each, for this scorer or the official one.

    Try:
        uae eval geneval-pp-images --model runs/demo/model --prompts FILE.jsonl --out runs/images

    The same command goes on where it stopped: images that are there are kept.
    """

    options = DrawOptions
    after = (
        "uae eval geneval-pp IMAGES --prompts FILE.jsonl --judge URL --judge-model NAME --out RUN"
    )

    def read(self, options: DrawOptions) -> PictureSet:
        from uae.benchmarks.geneval_pp.prompts import image_path, read_prompts

        prompts = read_prompts(options.prompts)
        return PictureSet(
            name=options.prompts.name,
            sha256=prompts.sha256,
            pictures=lambda out: [
                Picture(image_path(out, name), prompt.text, (("geneval-pp", name),))
                for name, prompt in prompts.by_name.items()
            ],
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class GenEvalPlusPlusOptions(DrawOptions):
    """What is scored."""

    allow_missing: AllowMissing = False


class GenEvalPlusPlus:
    """Have a judge say of each image of GenEval++ whether it is right.

    Try:
        uae eval geneval-pp IMAGES --prompts FILE.jsonl --judge URL --judge-model NAME --out RUN

    The same command goes on where it stopped.
    """

    given = Parameter(name="IMAGES", help="Folder with 1.jpg for the first prompt, and so on.")
    options = GenEvalPlusPlusOptions
    unit = "question"
    asked: Asked = "judge"
    images = GenEvalPlusPlusImages()

    def plan(self, given: Path, options: GenEvalPlusPlusOptions, means: Means) -> Plan:
        from uae.benchmarks.geneval_pp.prompts import find_images, read_prompts
        from uae.benchmarks.geneval_pp.run import Task, plan_of

        prompts = read_prompts(options.prompts)
        images = find_images(given, prompts, allow_missing=options.allow_missing)
        return plan_of(Task(prompts, images, means.judge()))
