"""Observations of a model on held-out images, kept on disk: captions, redraws and similarities.

An evaluation point is a folder of observations; every score is a pure function of it, so a report
can be written again, and a metric added, without running a model.

    observations.json   captions, lengths, truncations, replies, similarities by backbone
    NAME.png            redraws in rows of 16: `captions` of the model's own, `swap` of the same by
                        the pair that was never trained, and what else an evaluator has drawn
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from uae.data.sources import to_pixels
from uae.models.batches import parts_by_length, parts_of
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.recipe import EvaluationConfig
from uae.rewards.reward import Reward
from uae.rewards.similarity import Similarity, cosine

COLUMNS = 16

ShowProgress = Callable[[str, int, int], None]
"""(what is made, images done, images in all): called before the first batch and after each."""


Began = Callable[[], AbstractContextManager[UnifiedAutoEncoder]]
"""Within its context, the pair as it was before training."""


def in_silence(_what: str, _done: int, _total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """What one model made at one evaluation point; row i belongs to held-out image i."""

    captions: list[str]
    num_tokens: list[int]
    truncated: list[bool]
    replies: list[str]
    similarities: dict[str, list[float]]
    """By backbone or other reward: redraw of the model's own caption against the image."""
    swap_similarities: dict[str, list[float]]
    """The same with the redraw of a pair that was never trained by RL; empty without one."""
    more_similarities: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """By name of other pictures: their similarities by backbone; NaN for an image without one."""


def observe(
    model: UnifiedAutoEncoder,
    untrained: Began | Literal["same"] | None,
    backbones: Mapping[str, Reward],
    images: Sequence[Image.Image],
    config: EvaluationConfig,
    folder: Path,
    show: ShowProgress = in_silence,
    *,
    texts: Mapping[str, Sequence[str]],
    described: Mapping[str, Sequence[int]],
    replies: Callable[[], list[str]],
) -> None:
    """Caption, redraw and compare images, and write the folder, whole or not at all.

    Args:
        model: The model at this point.
        untrained: Redraws for the swap test; "same" for the model itself, None for no test.
        backbones: Similarity backbones, and other rewards, by name.
        images: The held-out images, of the model's size.
        config: Batch size and seed.
        folder: Where to write; must not exist.
        show: Told of every batch.
        texts: More to draw, by the name of its pictures.
        described: Of texts whose redraws are compared, the image that each of them describes.
        replies: Answers the evaluator's questions, when all is drawn.
    """
    originals, at_work = to_pixels(list(images)), model.offload.at_work
    with at_work("encoder"):
        captions, truncated = write(model, images, config, show)
    pictures = draw_all(model, untrained, {"captions": captions, **texts}, config, show)
    similar = {name: x for name, x in backbones.items() if isinstance(x, Similarity)}
    every = range(len(images))

    def compared(name: str, rows: Sequence[int]) -> dict[str, list[float]]:
        there = {key: column[rows] for key, column in wanted.items()}
        made = features(similar, pictures[name], config)
        return spread(cosines(there, made), rows, len(images))

    with at_work("rewards"):
        wanted = features(similar, originals, config)
        similarities = compared("captions", every)
        similarities |= scores(backbones, originals, pictures["captions"], captions, config)
        swap = similarities if untrained == "same" else compared("swap", every) if untrained else {}
        more = {name: compared(name, rows) for name, rows in described.items()}
    with at_work("encoder"):
        answers = replies()
    observations = Observations(
        captions=captions,
        num_tokens=[model.conditioner.num_tokens(caption) for caption in captions],
        truncated=truncated,
        replies=answers,
        similarities=similarities,
        swap_similarities=swap,
        more_similarities=more,
    )
    _save(observations, pictures, folder)


def _save(
    observations: Observations, pictures: Mapping[str, Float[Tensor, "n 3 h w"]], folder: Path
) -> None:
    draft = folder.with_name(f".{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name, pixels in pictures.items():
        save_pictures(pixels, draft / f"{name}.png")
    (draft / "observations.json").write_text(json.dumps(asdict(observations), indent=1))
    draft.rename(folder)


def load(folder: Path) -> tuple[Observations, dict[str, UInt8[np.ndarray, "n h w 3"]]]:
    """Read an evaluation point back: observations and pictures by name."""
    observations = Observations(**json.loads((folder / "observations.json").read_text()))
    pictures = {path.stem: load_pictures(path) for path in sorted(folder.glob("*.png"))}
    return observations, pictures


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


def draw_all(
    model: UnifiedAutoEncoder,
    untrained: Began | Literal["same"] | None,
    texts: Mapping[str, Sequence[str]],
    config: EvaluationConfig,
    show: ShowProgress,
) -> dict[str, Float[Tensor, "n 3 h w"]]:
    """Draw texts by name; of `captions` also the swap test's redraws, see `observe`."""
    with model.offload.at_work(*model.drawing):
        pictures = {name: draw(model, lines, config, show, name) for name, lines in texts.items()}
    if untrained == "same":
        pictures["swap"] = pictures["captions"]
    elif untrained:
        with untrained() as pair, pair.offload.at_work(*pair.drawing):
            pictures["swap"] = draw(pair, texts["captions"], config, show, "swap")
    return pictures


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
        name: What the progress calls them.
    """
    parts = parts_by_length(captions, config.micro_batch)
    pixels = torch.empty(len(captions), 3, model.decoder.size_px, model.decoder.size_px)
    shown = batches(len(captions), config.micro_batch, f"drawing {name}", show)
    for _, rows in zip(shown, parts, strict=True):
        texts = [captions[i] for i in rows]
        pixels[rows] = model.draw(texts, seed=config.seed, numbers=rows).cpu()
    return pixels


@torch.no_grad()
def features(
    backbones: Mapping[str, Similarity], pixels: Float[Tensor, "n 3 h w"], config: EvaluationConfig
) -> dict[str, Float[Tensor, "n d"]]:
    """Return the unit-length embeddings of images by backbone, in micro-batches."""
    return {
        name: torch.cat([backbone.features(part) for part in pixels.split(config.micro_batch)])
        for name, backbone in backbones.items()
    }


@torch.no_grad()
def scores(
    rewards: Mapping[str, Reward],
    originals: Float[Tensor, "n 3 h w"],
    redraws: Float[Tensor, "n 3 h w"],
    captions: Sequence[str],
    config: EvaluationConfig,
) -> dict[str, list[float]]:
    """Score redraws by rewards that are no similarity backbones, in micro-batches."""
    parts = parts_of(len(captions), config.micro_batch)
    return {
        name: torch.cat([reward(originals[p], redraws[p], captions[p]) for p in parts]).tolist()
        for name, reward in rewards.items()
        if not isinstance(reward, Similarity)
    }


def cosines(
    wanted: Mapping[str, Float[Tensor, "n d"]], made: Mapping[str, Float[Tensor, "n d"]]
) -> dict[str, list[float]]:
    """Compare image by image by every backbone; a redraw that is not finite gives NaN."""
    return {name: cosine(wanted[name], made[name]).tolist() for name in wanted}


def spread(
    columns: Mapping[str, Sequence[float]], rows: Sequence[int], num_rows: int
) -> dict[str, list[float]]:
    """Put the values of some rows in their places; NaN in the others."""
    places = {row: i for i, row in enumerate(rows)}
    return {
        name: [column[places[row]] if row in places else math.nan for row in range(num_rows)]
        for name, column in columns.items()
    }


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
