"""`uae eval BENCHMARK-images`: a benchmark's prompts drawn into the files its scorer expects."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts.types import NonNegativeInt, PositiveInt

from uae.commands.runs import check_folder, progress_of
from uae.commands.startup import quick_start
from uae.commands.talk import PLAINLY, Talk
from uae.errors import EXIT_DONE

if TYPE_CHECKING:
    from uae.eval.drawing import Picture
    from uae.models.unified import UnifiedAutoEncoder

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


def geneval_images(
    *,
    model: str = "uae-tiny",
    out: Path,
    prompts: Path | None = None,
    num_samples: PositiveInt = 4,
    seed: NonNegativeInt = 0,
    batch_size: PositiveInt = 16,
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Draw GenEval's prompts into its folder layout, for this scorer or the official one.

    Try:
        uae eval geneval-images --model runs/demo/model --out runs/geneval-images

    The same command goes on where it stopped: samples that are there are kept.

    Args:
        model: Model folder, or a preset; its own sampling settings are used.
        out: Folder for the images.
        prompts: The prompts' metadata file; by default the 553 official ones.
        num_samples: Images of each prompt.
        seed: Seed of the starting noise.
        batch_size: Images at once; changes speed and memory alone.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    check_folder(out, "--out")
    from uae.eval.geneval.prompts import official_prompts, read_prompts

    chosen = read_prompts(prompts) if prompts else official_prompts()
    auto_encoder, origin = _begin(model, out, chosen.name, chosen.sha256, seed, device)
    from uae.eval.geneval.drawing import make_folders, pictures_of

    make_folders(out, chosen)
    counts = _draw(auto_encoder, pictures_of(out, chosen, num_samples), seed, batch_size, talk)
    return _drawn("geneval-images", out, out, origin, counts, talk)


def dpg_images(
    *,
    model: str = "uae-tiny",
    out: Path,
    prompts: Path,
    num_images: Literal["1", "4"] = "4",
    seed: NonNegativeInt = 0,
    batch_size: PositiveInt = 16,
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Draw DPG-Bench's prompts as grids of two by two, for this scorer or the official one.

    Try:
        uae eval dpg-images --model runs/demo/model --prompts DIR --out runs/dpg-images

    The same command goes on where it stopped: grids that are there are kept.

    Args:
        model: Model folder, or a preset; its own sampling settings are used.
        out: Folder for the images.
        prompts: Folder with ITEM_ID.txt.
        num_images: 4 for a grid of each prompt, 1 for one image.
        seed: Seed of the starting noise.
        batch_size: Images at once; changes speed and memory alone.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    check_folder(out, "--out")
    with quick_start():
        from uae.eval.dpg.drawing import pictures_of
        from uae.eval.dpg.prompts import prompts_digest, read_prompts

    read = read_prompts(prompts)
    name = f"dpg, {num_images} a prompt"
    auto_encoder, origin = _begin(model, out, name, prompts_digest(read), seed, device)
    pictures = pictures_of(out, read, 4 if num_images == "4" else 1)
    counts = _draw(auto_encoder, pictures, seed, batch_size, talk)
    return _drawn("dpg-images", out, out, origin, counts, talk)


def geneval2_images(
    *,
    model: str = "uae-tiny",
    out: Path,
    prompts: Path,
    seed: NonNegativeInt = 0,
    batch_size: PositiveInt = 16,
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Draw GenEval 2's prompts, one image each, and name them in paths.json.

    Try:
        uae eval geneval2-images --model runs/demo/model --prompts FILE.jsonl --out runs/images

    The same command goes on where it stopped: images that are there are kept.

    Args:
        model: Model folder, or a preset; its own sampling settings are used.
        out: Folder for the images.
        prompts: geneval2_data.jsonl; its licence is CC BY-NC 4.0.
        seed: Seed of the starting noise.
        batch_size: Images at once; changes speed and memory alone.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    check_folder(out, "--out")
    from uae.eval.geneval2.prompts import read_prompts

    read = read_prompts(prompts)
    auto_encoder, origin = _begin(model, out, prompts.name, read.sha256, seed, device)
    from uae.eval.geneval2.run import pictures_of, write_table

    counts = _draw(auto_encoder, pictures_of(out, read), seed, batch_size, talk)
    return _drawn("geneval2-images", out, write_table(out, read), origin, counts, talk)


def geneval_pp_images(
    *,
    model: str = "uae-tiny",
    out: Path,
    prompts: Path,
    seed: NonNegativeInt = 0,
    batch_size: PositiveInt = 16,
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Draw GenEval++'s prompts, one image each, for this scorer or the official one.

    Try:
        uae eval geneval-pp-images --model runs/demo/model --prompts FILE.jsonl --out runs/images

    The same command goes on where it stopped: images that are there are kept.

    Args:
        model: Model folder, or a preset; its own sampling settings are used.
        out: Folder for the images.
        prompts: GenEval++'s prompts, one JSON object a line.
        seed: Seed of the starting noise.
        batch_size: Images at once; changes speed and memory alone.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    check_folder(out, "--out")
    from uae.eval.geneval_pp.prompts import read_prompts

    read = read_prompts(prompts)
    auto_encoder, origin = _begin(model, out, prompts.name, read.sha256, seed, device)
    from uae.eval.geneval_pp.run import pictures_of

    counts = _draw(auto_encoder, pictures_of(out, read), seed, batch_size, talk)
    return _drawn("geneval-pp-images", out, out, origin, counts, talk)


def _begin(
    model: str, out: Path, name: str, sha256: str, seed: int, device: str
) -> tuple["UnifiedAutoEncoder", dict[str, Any]]:
    """Load the model, and make the folder if it may hold these images."""
    with quick_start():
        from uae.commands import loop
        from uae.eval import drawing

        origin = drawing.origin_of(model, seed, name, sha256)
        drawing.check_origin(out, origin)
        auto_encoder = loop.load(model, device)
    drawing.begin(out, origin)
    return auto_encoder, origin


def _draw(
    model: "UnifiedAutoEncoder",
    pictures: Sequence["Picture"],
    seed: int,
    batch_size: int,
    talk: Talk,
) -> dict[str, int]:
    """Draw what is not there yet; return how many files were drawn and kept."""
    from uae.eval.drawing import draw_pictures, not_drawn

    todo = not_drawn(pictures)
    num_kept = len(pictures) - len(todo)
    progress, show = progress_of("drawing", "image", talk)
    show(num_kept, len(pictures))
    for num_drawn in draw_pictures(model, todo, seed, batch_size):
        show(num_kept + num_drawn, len(pictures))
    progress.close()
    return {"num_drawn": len(todo), "num_kept": num_kept}


def _drawn(
    command: str,
    out: Path,
    images: Path,
    origin: dict[str, Any],
    counts: dict[str, int],
    talk: Talk,
) -> int:
    """Say what was drawn and what comes next; `images` is what the scorer is given."""
    plain = str(images)
    if talk.chosen != "quiet":
        drawn = f"drawn   {counts['num_drawn']}, {counts['num_kept']} kept"
        after = NEXT[command].replace("IMAGES", str(out))
        plain = "\n".join([f"images  {images}", drawn, f"next    {after}"])
    talk.result(plain, {"images": str(images)} | origin | counts)
    return EXIT_DONE
