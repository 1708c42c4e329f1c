"""GenEval 2 as the command line offers it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from uae.benchmarks.benchmark import AllowMissing, Asked, Means, Picture, PictureSet, Plan
from uae.core.durable import replace_file, storage_faults

if TYPE_CHECKING:
    from uae.benchmarks.geneval2.prompts import Prompt
    from uae.benchmarks.prompt_set import PromptSet

TABLE_NAME = "paths.json"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """Which prompts are drawn."""

    prompts: Path
    """geneval2_data.jsonl; its licence is CC BY-NC 4.0."""


class GenEval2Images:
    """Draw GenEval 2's prompts, one image each, and name them in paths.json.

    Try:
        uae eval geneval2-images --model runs/demo/model --prompts FILE.jsonl --out runs/images

    The same command goes on where it stopped: images that are there are kept.
    """

    options = DrawOptions
    after = "uae eval geneval2 IMAGES/paths.json --prompts FILE.jsonl --judge local:MODEL --out RUN"

    def read(self, options: DrawOptions) -> PictureSet:
        from uae.benchmarks.geneval2.prompts import read_prompts

        prompts = read_prompts(options.prompts)
        return PictureSet(
            name=options.prompts.name,
            sha256=prompts.sha256,
            pictures=lambda out: pictures_of(out, prompts),
            table=lambda out: write_table(out, pictures_of(out, prompts)),
        )


def pictures_of(root: Path, prompts: "PromptSet[Prompt]") -> list[Picture]:
    return [
        Picture(root / f"{name}.png", prompt.text, (("geneval2", name),))
        for name, prompt in prompts.by_name.items()
    ]


def write_table(root: Path, pictures: Sequence[Picture]) -> Path:
    """Write the JSON object that names each prompt's image; return its path.

    Paths are absolute, as the official scorer takes them from where it is started.
    """
    table = root / TABLE_NAME
    paths = {picture.prompt: str(picture.path.resolve()) for picture in pictures}
    with storage_faults("cannot write", table):
        replace_file(table, (json.dumps(paths, indent=1) + "\n").encode())
    return table


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class GenEval2Options(DrawOptions):
    """What is scored."""

    allow_missing: AllowMissing = False


class GenEval2:
    """Score images by GenEval 2's questions, by Soft-TIFA.

    Try:
        uae eval geneval2 IMAGES.json --prompts FILE.jsonl --judge local:MODEL --out RUN

    The same command goes on where it stopped.
    """

    given = Parameter(name="IMAGES.json", help="JSON object that names each prompt's image.")
    options = GenEval2Options
    unit = "question"
    asked: Asked = "judge"
    images = GenEval2Images()

    def plan(self, given: Path, options: GenEval2Options, means: Means) -> Plan:
        from uae.benchmarks.geneval2.prompts import find_images, read_prompts
        from uae.benchmarks.geneval2.run import Task, plan_of

        prompts = read_prompts(options.prompts)
        images = find_images(given, prompts, allow_missing=options.allow_missing)
        return plan_of(Task(prompts, images, means.judge()))
