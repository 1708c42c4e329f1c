"""`uae eval BENCHMARK-images`: a benchmark's prompts drawn into the files its scorer expects."""

from pathlib import Path
from typing import Literal

from cyclopts.types import PositiveInt

from uae.cli.options import check_folder
from uae.cli.output import PLAINLY, Talk
from uae.cli.prompt_drawing import DrawingChoice, begin, draw, finish
from uae.cli.startup import quick_start
from uae.core.ranks import once

NEXT = {
    "geneval-images": "uae eval geneval IMAGES --detector DETECTOR --variant geneval --out DIR",
    "dpg-images": "uae eval dpg IMAGES --prompts DIR --csv FILE.csv --judge local:MODEL --out RUN",
    "geneval2-images": (
        "uae eval geneval2 IMAGES/paths.json --prompts FILE.jsonl --judge local:MODEL --out RUN"
    ),
    "geneval-pp-images": (
        "uae eval geneval-pp IMAGES --prompts FILE.jsonl --judge URL --judge-model NAME --out RUN"
    ),
}
"""What the help of each names as the next command."""

UAE_TINY = DrawingChoice()


def geneval_images(
    *,
    out: Path,
    prompts: Path | None = None,
    num_samples: PositiveInt = 4,
    chosen: DrawingChoice = UAE_TINY,
    talk: Talk = PLAINLY,
) -> int:
    """Draw GenEval's prompts into its folder layout, for this scorer or the official one.

    Try:
        uae eval geneval-images --model runs/demo/model --out runs/geneval-images

    The same command goes on where it stopped: samples that are there are kept.

    Args:
        out: Folder for the images.
        prompts: The prompts' metadata file; by default the 553 official ones.
        num_samples: Images of each prompt.
        chosen: What draws, and how.
        talk: Format and verbosity.
    """
    talk.begin()
    check_folder(out, "--out")
    from uae.benchmarks.geneval.prompts import official_prompts, read_prompts

    read = read_prompts(prompts) if prompts else official_prompts()

    def prepare() -> None:
        from uae.benchmarks.geneval.drawing import make_folders

        make_folders(out, read)

    drawing = begin(chosen, out, read.name, read.sha256, prepare)
    from uae.benchmarks.geneval.drawing import pictures_of

    counts = draw(drawing, pictures_of(out, read, num_samples), talk)
    return finish(NEXT["geneval-images"], drawing, out, counts, talk)


def dpg_images(
    *,
    out: Path,
    prompts: Path,
    num_images: Literal["1", "4"] = "4",
    chosen: DrawingChoice = UAE_TINY,
    talk: Talk = PLAINLY,
) -> int:
    """Draw DPG-Bench's prompts as grids of two by two, for this scorer or the official one.

    Try:
        uae eval dpg-images --model runs/demo/model --prompts DIR --out runs/dpg-images

    The same command goes on where it stopped: grids that are there are kept.

    Args:
        out: Folder for the images.
        prompts: Folder with ITEM_ID.txt.
        num_images: 4 for a grid of each prompt, 1 for one image.
        chosen: What draws, and how.
        talk: Format and verbosity.
    """
    talk.begin()
    check_folder(out, "--out")
    with quick_start():
        from uae.benchmarks.dpg.drawing import NumImages, pictures_of, set_name
        from uae.benchmarks.dpg.prompts import prompts_digest, read_prompts

    read = read_prompts(prompts)
    count: NumImages = 4 if num_images == "4" else 1
    drawing = begin(chosen, out, set_name(count), prompts_digest(read))
    counts = draw(drawing, pictures_of(out, read, count), talk)
    return finish(NEXT["dpg-images"], drawing, out, counts, talk)


def geneval2_images(
    *,
    out: Path,
    prompts: Path,
    chosen: DrawingChoice = UAE_TINY,
    talk: Talk = PLAINLY,
) -> int:
    """Draw GenEval 2's prompts, one image each, and name them in paths.json.

    Try:
        uae eval geneval2-images --model runs/demo/model --prompts FILE.jsonl --out runs/images

    The same command goes on where it stopped: images that are there are kept.

    Args:
        out: Folder for the images.
        prompts: geneval2_data.jsonl; its licence is CC BY-NC 4.0.
        chosen: What draws, and how.
        talk: Format and verbosity.
    """
    talk.begin()
    check_folder(out, "--out")
    from uae.benchmarks.geneval2.prompts import read_prompts

    read = read_prompts(prompts)
    drawing = begin(chosen, out, prompts.name, read.sha256)
    from uae.benchmarks.geneval2.run import pictures_of, write_table

    counts = draw(drawing, pictures_of(out, read), talk)
    table = once(lambda: write_table(out, read))
    return finish(NEXT["geneval2-images"], drawing, table, counts, talk)


def geneval_pp_images(
    *,
    out: Path,
    prompts: Path,
    chosen: DrawingChoice = UAE_TINY,
    talk: Talk = PLAINLY,
) -> int:
    """Draw GenEval++'s prompts, one image each, for this scorer or the official one.

    Try:
        uae eval geneval-pp-images --model runs/demo/model --prompts FILE.jsonl --out runs/images

    The same command goes on where it stopped: images that are there are kept.

    Args:
        out: Folder for the images.
        prompts: GenEval++'s prompts, one JSON object a line.
        chosen: What draws, and how.
        talk: Format and verbosity.
    """
    talk.begin()
    check_folder(out, "--out")
    from uae.benchmarks.geneval_pp.prompts import read_prompts

    read = read_prompts(prompts)
    drawing = begin(chosen, out, prompts.name, read.sha256)
    from uae.benchmarks.geneval_pp.run import pictures_of

    counts = draw(drawing, pictures_of(out, read), talk)
    return finish(NEXT["geneval-pp-images"], drawing, out, counts, talk)
