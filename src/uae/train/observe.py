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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

from uae.data.shapes import Size, buckets_of, fitted
from uae.data.sources import to_images, to_pixels
from uae.models.batches import parts_by_length, parts_of
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.recipe import EvaluationConfig
from uae.rewards.reward import Reward
from uae.rewards.similarity import Similarity, cosine

COLUMNS = 16

Pictures = Sequence[Float[Tensor, "3 _ _"]]
"""Pixels in [0, 1] of images, each in its own size."""

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
    readings: dict[str, list[str]] = field(default_factory=dict)
    """Texts of `read_back.Readings`; empty where nothing was read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subjects:
    """All that a model is shown and asked at an evaluation point.

    Attributes:
        images: Held-out images, as the encoder sees them: captioned, redrawn and compared.
        texts: More to draw, by the name of its pictures.
        described: Of texts whose redraws are compared, the image that each of them describes.
        replies: Answers the evaluator's questions, when all is drawn.
        read_back: Name of pictures of `described`, or "captions", that the encoder reads again, and
            the images they are of a second time; see `read_back.py`.
    """

    images: Sequence[Image.Image]
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    described: Mapping[str, Sequence[int]] = field(default_factory=dict)
    replies: Callable[[], list[str]] = list
    read_back: str = ""


def observe(
    model: UnifiedAutoEncoder,
    untrained: Began | Literal["same"] | None,
    backbones: Mapping[str, Reward],
    subjects: Subjects,
    config: EvaluationConfig,
    folder: Path,
    show: ShowProgress = in_silence,
) -> None:
    """Caption, redraw and compare images, and write the folder, whole or not at all.

    Args:
        model: The model at this point.
        untrained: Redraws for the swap test; "same" for the model itself, None for no test.
        backbones: Similarity backbones, and other rewards, by name.
        subjects: All that it is shown and asked.
        config: Batch size and seed.
        folder: Where to write; must not exist.
        show: Told of every batch.
    """
    images, described, at_work = subjects.images, subjects.described, model.offload.at_work
    sizes = [model.decoder.shapes.of_image(image) for image in images]
    originals = [
        to_pixels([fitted(image, size)])[0] for image, size in zip(images, sizes, strict=True)
    ]
    with at_work("encoder"):
        captions, truncated = write(model, images, config, show)
    pictures = draw_all(model, untrained, captions, sizes, subjects, config, show)
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
        answers = subjects.replies()
        readings = read_again(model, subjects, captions, pictures, config, show)
    observations = Observations(
        captions=captions,
        num_tokens=[model.conditioner.num_tokens(caption) for caption in captions],
        truncated=truncated,
        replies=answers,
        similarities=similarities,
        swap_similarities=swap,
        more_similarities=more,
        readings=readings,
    )
    _save(observations, pictures, folder)


def read_again(
    model: UnifiedAutoEncoder,
    subjects: Subjects,
    captions: Sequence[str],
    pictures: Mapping[str, Pictures],
    config: EvaluationConfig,
    show: ShowProgress,
) -> dict[str, list[str]]:
    """Caption redraws, and the images that they are of once more, where the subjects say so."""
    name = subjects.read_back
    if not name:
        return {}
    rows = subjects.described.get(name, range(len(captions)))
    images = [subjects.images[row] for row in rows]
    redraws = [to_images(picture[None])[0] for picture in pictures[name]]
    other = replace(config, seed=config.seed + 1)
    return {
        "captions": list(subjects.texts.get(name, captions)),
        "photos": [captions[row] for row in rows],
        "photos_again": write(model, images, other, show, "reading again")[0],
        "redraws": write(model, redraws, config, show, "reading redraws")[0],
    }


def _save(observations: Observations, pictures: Mapping[str, Pictures], folder: Path) -> None:
    draft = folder.with_name(f".{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name, pixels in pictures.items():
        save_pictures(pixels, draft / f"{name}.png")
    (draft / "observations.json").write_text(json.dumps(asdict(observations), indent=1))
    draft.rename(folder)


def load(folder: Path) -> tuple[Observations, dict[str, list[UInt8[np.ndarray, "_ _ 3"]]]]:
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
    what: str = "captioning",
) -> tuple[list[str], list[bool]]:
    """Caption images; also say which captions lack an end token."""
    texts, truncated = [], []
    for part in batches(len(images), config.micro_batch, what, show):
        captions = model.sample_captions(images[part], seed=config.seed, first=part.start)
        texts += captions.texts
        truncated += captions.truncated.tolist()
    return texts, truncated


def draw_all(
    model: UnifiedAutoEncoder,
    untrained: Began | Literal["same"] | None,
    captions: Sequence[str],
    sizes: Sequence[Size],
    subjects: Subjects,
    config: EvaluationConfig,
    show: ShowProgress,
) -> dict[str, Pictures]:
    """Draw captions and other texts, and captions by the untrained pair too, see `observe`."""
    with model.offload.at_work(*model.drawing):
        pictures = {"captions": draw(model, captions, config, show, sizes=sizes)}
        for name, lines in subjects.texts.items():
            their_sizes = [sizes[row] for row in subjects.described.get(name, ())]
            pictures[name] = draw(model, lines, config, show, name, their_sizes or None)
    if untrained == "same":
        pictures["swap"] = pictures["captions"]
    elif untrained:
        with untrained() as pair, pair.offload.at_work(*pair.drawing):
            pictures["swap"] = draw(pair, captions, config, show, "swap", sizes)
    return pictures


def draw(
    model: UnifiedAutoEncoder,
    captions: Sequence[str],
    config: EvaluationConfig,
    show: ShowProgress = in_silence,
    name: str = "captions",
    sizes: Sequence[Size] | None = None,
) -> Pictures:
    """Draw captions in micro-batches of like length; row i's noise depends on seed and i alone.

    Args:
        model: Draws.
        captions: Of any lengths.
        config: Batch size and seed.
        show: Told of every batch.
        name: What the progress calls them.
        sizes: Height and width of each picture; by default squares.
    """
    sizes = sizes or [model.decoder.shapes.square] * len(captions)
    pixels: dict[int, Tensor] = {}
    what = f"drawing {name}"
    show(what, 0, len(captions))
    for bucket in buckets_of(sizes, least=1):
        inside = [captions[i] for i in bucket.indices]
        for part in parts_by_length(inside, config.micro_batch):
            rows = [bucket.indices[i] for i in part]
            texts = [captions[i] for i in rows]
            drawn = model.draw(texts, seed=config.seed, numbers=rows, size=bucket.size)
            pixels |= zip(rows, drawn.cpu(), strict=True)
            show(what, len(pixels), len(captions))
    return [pixels[i] for i in range(len(captions))]


@torch.no_grad()
def features(
    backbones: Mapping[str, Similarity], pictures: Pictures, config: EvaluationConfig
) -> dict[str, Float[Tensor, "n d"]]:
    """Return the unit-length embeddings of images by backbone, in micro-batches of one shape."""
    rows = batches_of(pictures, config)
    made = {
        name: torch.cat([backbone.features(stacked(pictures, part)) for part in rows])
        for name, backbone in backbones.items()
    }
    places = torch.tensor([i for part in rows for i in part]).argsort()
    return {name: column[places.to(column.device)] for name, column in made.items()}


@torch.no_grad()
def scores(
    rewards: Mapping[str, Reward],
    originals: Pictures,
    redraws: Pictures,
    captions: Sequence[str],
    config: EvaluationConfig,
) -> dict[str, list[float]]:
    """Score redraws by rewards that are no similarity backbones, in micro-batches of one shape."""
    columns: dict[str, list[float]] = {}
    for name, reward in rewards.items():
        if isinstance(reward, Similarity):
            continue
        of_rows: dict[int, float] = {}
        for part in batches_of(redraws, config):
            texts = [captions[i] for i in part]
            values = reward(stacked(originals, part), stacked(redraws, part), texts)
            of_rows |= zip(part, values.tolist(), strict=True)
        columns[name] = [of_rows[i] for i in range(len(captions))]
    return columns


def batches_of(pictures: Pictures, config: EvaluationConfig) -> list[list[int]]:
    """Return the rows of micro-batches, each of pictures of one shape."""
    sizes = [(picture.shape[1], picture.shape[2]) for picture in pictures]
    return [
        [*bucket.indices[part]]
        for bucket in buckets_of(sizes, least=1)
        for part in parts_of(len(bucket.indices), config.micro_batch)
    ]


def stacked(pictures: Pictures, rows: Sequence[int]) -> Float[Tensor, "n 3 h w"]:
    """Stack some pictures, which have one shape."""
    return torch.stack([pictures[i] for i in rows])


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


def save_pictures(pictures: Pictures, path: Path) -> None:
    """Write images as one PNG, in rows of `COLUMNS` cells, and their sizes beside it."""
    sizes = [(picture.shape[1], picture.shape[2]) for picture in pictures]
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    rows = -(-len(pictures) // COLUMNS)
    sheet = torch.zeros(rows * COLUMNS, 3, height, width)
    for cell, picture, (y, x) in zip(sheet, pictures, sizes, strict=False):
        cell[:, :y, :x] = picture
    joined = rearrange(sheet, "(r k) c h w -> (r h) (k w) c", k=COLUMNS)
    image = Image.fromarray((joined * 255).round().byte().numpy())
    (path.with_suffix(".json")).write_text(json.dumps({"sizes": sizes}))
    image.save(path)


def load_pictures(path: Path) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """Read images written by `save_pictures`."""
    sizes = json.loads(path.with_suffix(".json").read_text())["sizes"]
    sheet = np.asarray(PngImageFile(path))  # not Image.open, which refuses large sheets
    rows = -(-len(sizes) // COLUMNS)
    cells = rearrange(sheet, "(r h) (k w) c -> (r k) h w c", k=COLUMNS, r=rows)
    return [cell[:y, :x] for cell, (y, x) in zip(cells, sizes, strict=False)]
