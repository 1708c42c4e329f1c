"""What a model makes of the held-out scenes, kept on disk: captions, replies and redraws.

An evaluation point is a folder of observations; every score is a pure function of it (`points.py`),
so a report can be written again, and a metric added, without running a model.

    observations.json   captions, lengths, truncations, replies, similarities by backbone
    NAME.png            redraws in rows of 16, NAME one of `PICTURES`
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from uae.data.sources import to_pixels
from uae.models.batches import parts_by_length
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.evaluation import EvaluationConfig
from uae.rewards.similarity import Similarity, cosine
from uae.scenes.evaluation import held_out_scenes
from uae.scenes.graph import Scene
from uae.scenes.language import long_caption
from uae.scenes.prompts import generation_prompts
from uae.scenes.questions import question_text
from uae.scenes.render import render_image
from uae.scenes.understanding import AskedQuestion, question_set

COLUMNS = 16
PICTURES = ("captions", "swap", "generation_raw", "generation_long", "truths")

ShowProgress = Callable[[str, int, int], None]
"""(what is made, images done, images in all): called before the first batch and after each."""


def in_silence(_what: str, _done: int, _total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """What one model made at one evaluation point; row i belongs to held-out scene i."""

    captions: list[str]
    num_tokens: list[int]
    truncated: list[bool]
    replies: list[str]
    similarities: dict[str, list[float]]
    """By backbone: redraw of the model's own caption against the image."""
    swap_similarities: dict[str, list[float]]
    """The same with the redraw of a pair that was never trained by RL; empty without one."""


def observe(
    model: UnifiedAutoEncoder,
    untrained: UnifiedAutoEncoder | None,
    backbones: dict[str, Similarity],
    config: EvaluationConfig,
    folder: Path,
    show: ShowProgress = in_silence,
) -> None:
    """Run every part of the evaluation and write the folder, whole or not at all.

    Args:
        model: The model at this point.
        untrained: The pair before training, which redraws for the swap test; None leaves it out.
        backbones: Similarity backbones by name.
        config: How much.
        folder: Where to write; must not exist.
        show: Told of every batch.
    """
    scenes = held_out_scenes(config.num_scenes)
    asked = question_set(scenes, config.num_questions, config.seed)
    draft = folder.with_name(f".{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    images = [render_image(scene, model.decoder.size_px) for scene in scenes]
    originals = to_pixels(images)
    captions, truncated = write(model, images, config, show)
    prompts = generation_prompts(config.prompts_per_category)
    texts = {
        "captions": captions,
        "generation_raw": [p.raw for p in prompts],
        "generation_long": [p.long for p in prompts],
        "truths": true_captions(scenes, config.seed),
    }
    pictures = {name: draw(model, told, config, show, name) for name, told in texts.items()}
    if untrained is model:
        pictures["swap"] = pictures["captions"]
    elif untrained:
        pictures["swap"] = draw(untrained, captions, config, show, "swap")
    for name, pixels in pictures.items():
        save_pictures(pixels, draft / f"{name}.png")
    wanted = features(backbones, originals, config)
    similarities = cosines(wanted, features(backbones, pictures["captions"], config))
    swap_similarities = {}
    if untrained is model:
        swap_similarities = similarities
    elif untrained:
        swap_similarities = cosines(wanted, features(backbones, pictures["swap"], config))
    observations = Observations(
        captions=captions,
        num_tokens=[model.encoder.num_tokens(caption) for caption in captions],
        truncated=truncated,
        replies=answer(model, asked, images, config, show),
        similarities=similarities,
        swap_similarities=swap_similarities,
    )
    (draft / "observations.json").write_text(json.dumps(asdict(observations), indent=1))
    draft.rename(folder)


def load(folder: Path) -> tuple[Observations, dict[str, UInt8[np.ndarray, "n h w 3"]]]:
    """Read an evaluation point back: observations and pictures by name."""
    observations = Observations(**json.loads((folder / "observations.json").read_text()))
    paths = {name: folder / f"{name}.png" for name in PICTURES}
    pictures = {name: load_pictures(path) for name, path in paths.items() if path.exists()}
    return observations, pictures


def true_captions(scenes: Sequence[Scene], seed: int) -> list[str]:
    """Return the complete caption of each scene, worded by the seed."""
    return [long_caption(s, np.random.default_rng([seed, i])) for i, s in enumerate(scenes)]


def batches(num_rows: int, size: int, what: str, show: ShowProgress) -> Iterator[slice]:
    """Split rows into batches, and show each as done when the next is asked for."""
    show(what, 0, num_rows)
    for start in range(0, num_rows, size):
        stop = min(start + size, num_rows)
        yield slice(start, stop)
        show(what, stop, num_rows)


def write(
    model: UnifiedAutoEncoder,
    images: Sequence[Image.Image],
    config: EvaluationConfig,
    show: ShowProgress = in_silence,
) -> tuple[list[str], list[bool]]:
    """Caption images; also say which captions lack an end token."""
    texts, truncated = [], []
    for part in batches(len(images), config.micro_batch, "captioning", show):
        captions = model.sample_captions(images[part], seed=config.seed, first=part.start)
        texts += captions.texts
        truncated += captions.truncated.tolist()
    return texts, truncated


def draw(
    model: UnifiedAutoEncoder,
    captions: Sequence[str],
    config: EvaluationConfig,
    show: ShowProgress = in_silence,
    name: str = "captions",
) -> Float[Tensor, "n 3 h w"]:
    """Draw captions in micro-batches of like length; row i's noise depends on seed and i alone.

    Args:
        model: Draws.
        captions: Of any lengths.
        config: Batch size and seed.
        show: Told of every batch.
        name: What the progress calls them, one of `PICTURES`.
    """
    parts = parts_by_length(captions, config.micro_batch)
    pixels = torch.empty(len(captions), 3, model.decoder.size_px, model.decoder.size_px)
    shown = batches(len(captions), config.micro_batch, f"drawing {name}", show)
    for _, rows in zip(shown, parts, strict=True):
        texts = [captions[i] for i in rows]
        pixels[rows] = model.draw(texts, seed=config.seed, numbers=rows).cpu()
    return pixels


def answer(
    model: UnifiedAutoEncoder,
    asked: Sequence[AskedQuestion],
    images: Sequence[Image.Image],
    config: EvaluationConfig,
    show: ShowProgress = in_silence,
) -> list[str]:
    """Answer the multiple-choice questions, with the most probable words."""
    replies: list[str] = []
    for part in batches(len(asked), config.micro_batch, "answering", show):
        prompts = model.encoder.prompts(
            [images[a.scene_index] for a in asked[part]],
            [question_text(a.question) for a in asked[part]],
        )
        replies += model.encoder.sample(prompts, None, max_new_tokens=4).texts
    return replies


@torch.no_grad()
def features(
    backbones: dict[str, Similarity], pixels: Float[Tensor, "n 3 h w"], config: EvaluationConfig
) -> dict[str, Float[Tensor, "n d"]]:
    """Return the unit-length embeddings of images by backbone, in micro-batches."""
    return {
        name: torch.cat([backbone.features(part) for part in pixels.split(config.micro_batch)])
        for name, backbone in backbones.items()
    }


def cosines(
    wanted: dict[str, Float[Tensor, "n d"]], made: dict[str, Float[Tensor, "n d"]]
) -> dict[str, list[float]]:
    """Compare image by image by every backbone; a redraw that is not finite gives NaN."""
    return {name: cosine(wanted[name], made[name]).tolist() for name in wanted}


def save_pictures(pixels: Float[Tensor, "n 3 h w"], path: Path) -> None:
    """Write images as one PNG, in rows of `COLUMNS`, and their number beside it."""
    rows = -(-len(pixels) // COLUMNS)
    sheet = torch.zeros(rows * COLUMNS, *pixels.shape[1:])
    sheet[: len(pixels)] = pixels
    joined = rearrange(sheet, "(r k) c h w -> (r h) (k w) c", k=COLUMNS)
    image = Image.fromarray((joined * 255).round().byte().numpy())
    (path.with_suffix(".json")).write_text(json.dumps({"num_images": len(pixels)}))
    image.save(path)


def load_pictures(path: Path) -> UInt8[np.ndarray, "n h w 3"]:
    """Read images written by `save_pictures`; they are square."""
    num_images = json.loads(path.with_suffix(".json").read_text())["num_images"]
    sheet = np.asarray(Image.open(path))
    images = rearrange(
        sheet, "(r h) (k w) c -> (r k) h w c", k=COLUMNS, h=sheet.shape[1] // COLUMNS
    )
    return images[:num_images]
