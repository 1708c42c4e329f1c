"""A benchmark's prompts drawn by our decoder into the files that its scorer expects.

What drew a folder stands in its `images.json`, see `image_origin`. An image depends on model, seed,
prompt and number of the sample, not on its batch.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from uae.config import config_differences
from uae.data.opening import opens
from uae.data.sources import to_images
from uae.durable import replace_file, storage_faults
from uae.errors import UsageError
from uae.eval.image_origin import ORIGIN, read_origin
from uae.eval.results.stamp import folder_digests
from uae.eval.rewriting import INSTRUCTION, WORDING
from uae.flow.noise import stream
from uae.models.settings import SETTINGS_FILE, resolve
from uae.models.unified import UnifiedAutoEncoder
from uae.ranks import share

log = logging.getLogger(__name__)

JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Picture:
    """A file to be drawn: one sample of a prompt, or a square grid of several, row by row.

    Attributes:
        path: Ends in .png or .jpg.
        prompt: What to draw.
        keys: Of each sample, what its noise depends on besides the seed.
    """

    path: Path
    prompt: str
    keys: tuple[tuple[int | str, ...], ...]


def origin_of(
    model: str, seed: int, prompts: str, prompts_sha256: str, *, rewrite: bool = False
) -> dict[str, Any]:
    """Say what the images depend on: the model's files, the seed, the prompts and their wording.

    Raises:
        UsageError: There is no such model.
    """
    folder = Path(resolve(model))
    if not (folder / SETTINGS_FILE).is_file():
        raise UsageError(
            f"model {model!r}: no {SETTINGS_FILE} in {folder}: expected a model folder"
        )
    files = json.dumps(folder_digests(folder), sort_keys=True)
    return {
        "model": model,
        "model_sha256": hashlib.sha256(files.encode()).hexdigest(),
        "seed": seed,
        "prompts": prompts,
        "prompts_sha256": prompts_sha256,
        **({"wording": WORDING, "instruction": INSTRUCTION} if rewrite else {}),
    }


def check_origin(root: Path, origin: Mapping[str, Any]) -> None:
    """Refuse to mix images of several models, seeds or prompt sets in one folder.

    Raises:
        UsageError: Says what the folder holds.
    """
    if (root / ORIGIN).is_file():
        changed = config_differences(read_origin(root), dict(origin))
        if changed:
            raise UsageError(
                f"--out {root} holds other images ({'; '.join(changed)}): choose another folder"
            )
    elif root.is_dir() and any(root.iterdir()):
        raise UsageError(
            f"--out {root} is not empty and was not written by this command (it has no {ORIGIN}): "
            "choose another folder"
        )


def begin(root: Path, origin: Mapping[str, Any]) -> None:
    """Make the folder, and write down what draws.

    Raises:
        EnvironmentFault: It cannot be written.
    """
    with storage_faults("cannot write the images to", root):
        root.mkdir(parents=True, exist_ok=True)
        replace_file(root / ORIGIN, (json.dumps(origin, indent=1) + "\n").encode())


def not_drawn(pictures: Sequence[Picture]) -> list[Picture]:
    """List the pictures that are not there, or do not open: their writing was stopped."""
    return [picture for picture in pictures if not opens(picture.path)]


def draw_pictures(
    model: UnifiedAutoEncoder, pictures: Sequence[Picture], seed: int, batch_size: int
) -> Iterator[int]:
    """Draw pictures, each sample with noise of its own; yield up to which all are written.

    Several processes (`uae.ranks`) share the batches, and each goes its own pace.

    Args:
        model: Draws by its own sampling settings.
        pictures: All of equally many samples.
        seed: Of the noise.
        batch_size: Samples at once.

    Raises:
        EnvironmentFault: They cannot be written.
    """
    _warn_of_overlong(model, {picture.prompt for picture in pictures})
    num_samples = len(pictures[0].keys) if pictures else 1
    step = max(1, batch_size // num_samples)
    for start in share(range(0, len(pictures), step)):
        batch = pictures[start : start + step]
        noise = model.decoder.noise([stream(seed, *key) for p in batch for key in p.keys])
        texts = [picture.prompt for picture in batch for _ in picture.keys]
        images = to_images(
            model.draw_conditions(model.condition(texts), noise, model.settings.sampling)
        )
        for i, picture in enumerate(batch):
            with storage_faults("cannot write the images to", picture.path.parent):
                _save(in_grid(images[i * num_samples : (i + 1) * num_samples]), picture.path)
        yield start + len(batch)


def in_grid(images: Sequence[Image.Image]) -> Image.Image:
    """Lay images of one size out as a square grid, row by row."""
    side = round(len(images) ** 0.5)
    assert side * side == len(images), f"{len(images)} images make no square grid"
    width, height = images[0].size
    grid = Image.new("RGB", (side * width, side * height))
    for i, image in enumerate(images):
        grid.paste(image, ((i % side) * width, (i // side) * height))
    return grid


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        image.save(path, quality=JPEG_QUALITY, subsampling=0)
    else:
        image.save(path)


def _warn_of_overlong(model: UnifiedAutoEncoder, texts: set[str]) -> None:
    limit = model.settings.max_caption_tokens
    num_overlong = sum(model.encoder.num_tokens(text) > limit for text in texts)
    if num_overlong:
        log.warning(
            "%d prompts have more than the %d tokens that the decoder was trained for: their ends "
            "may be ignored",
            num_overlong,
            limit,
        )
