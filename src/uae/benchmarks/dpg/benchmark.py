"""DPG-Bench as the command line offers it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from uae.benchmarks.benchmark import SWITCH, AllowMissing, Asked, Means, Picture, PictureSet, Plan


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """Which grids are drawn."""

    prompts: Path
    """Folder with ITEM_ID.txt."""
    num_images: Literal["1", "4"] = "4"
    """4 for a grid of each prompt, 1 for one image."""


class DpgImages:
    """Draw DPG-Bench's prompts as grids of two by two, for this scorer or the official one.

    Try:
        uae eval dpg-images --model runs/demo/model --prompts DIR --out runs/dpg-images

    The same command goes on where it stopped: grids that are there are kept.
    """

    options = DrawOptions
    after = "uae eval dpg IMAGES --prompts DIR --csv FILE.csv --judge local:MODEL --out RUN"

    def read(self, options: DrawOptions) -> PictureSet:
        from uae.benchmarks.dpg.prompts import image_path, prompts_digest, read_prompts, set_name

        prompts, num_images = read_prompts(options.prompts), int(options.num_images)
        return PictureSet(
            name=set_name(num_images),
            sha256=prompts_digest(prompts),
            pictures=lambda out: [
                Picture(
                    image_path(out, name),
                    prompt,
                    tuple(("dpg", name, i) for i in range(num_images)),
                )
                for name, prompt in prompts.items()
            ],
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DpgOptions:
    """What is scored, and how."""

    prompts: Path
    """Folder with ITEM_ID.txt."""
    csv: Path
    """dpg_bench.csv, the questions."""
    num_images: Literal["1", "4"] = "4"
    """4 for grids, 1 where each file is one image."""
    compat: Annotated[bool, SWITCH] = False
    """Score as upstream's script does, with two of its faults."""
    allow_missing: AllowMissing = False


class Dpg:
    """Score a folder of images by DPG-Bench's questions.

    Try:
        uae eval dpg IMAGES --prompts DIR --csv FILE.csv --judge local:MODEL --out RUN

    The same command goes on where it stopped.
    """

    given = Parameter(
        name="IMAGES", help="Folder with ITEM_ID.png, a grid of two by two images each."
    )
    options = DpgOptions
    unit = "question"
    asked: Asked = "judge"
    images = DpgImages()

    def plan(self, given: Path, options: DpgOptions, means: Means) -> Plan:
        from uae.benchmarks.dpg.prompts import read_dpg
        from uae.benchmarks.dpg.run import DpgTask, find_images, plan_of

        prompts = read_dpg(options.prompts, options.csv, without_first_row=options.compat)
        num_images = int(options.num_images)
        images = find_images(given, prompts, num_images, allow_missing=options.allow_missing)
        return plan_of(DpgTask(prompts, images, means.judge(), num_images, options.compat))
