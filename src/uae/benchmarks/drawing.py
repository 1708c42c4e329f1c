"""A benchmark's prompts drawn by a generator into the files that its scorer expects.

What drew a folder stands in its `images.json`, see `image_origin`. An image depends on model, seed,
prompt and number of the sample, and but for last digits not on its batch.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from uae.backends.circuit_breaker import Outages
from uae.backends.failure import Failure
from uae.backends.roles import Caption, Generator
from uae.benchmarks.benchmark import Picture
from uae.benchmarks.image_origin import ORIGIN, read_origin
from uae.benchmarks.rewriting import INSTRUCTION, WORDING
from uae.core.config import config_differences
from uae.core.durable import holds_nothing_but, replace_file, storage_faults
from uae.core.errors import UsageError
from uae.core.provenance import folder_digests
from uae.core.ranks import gathered, share
from uae.data.opening import opens
from uae.models.settings import resolve
from uae.runs.cut_captions import CUT

_JPEG: dict[str, Any] = {"quality": 95, "subsampling": 0}


def captions_of(picture: Picture) -> list[Caption]:
    """Return what a generator is given: the prompt, once for each sample."""
    return [Caption("/".join(map(str, key)), picture.prompt, key) for key in picture.keys]


def identity_of(model: str) -> dict[str, str]:
    """Name a model of this package, and the sha256 of its files."""
    files = json.dumps(folder_digests(Path(resolve(model))), sort_keys=True)
    return {"model": model, "model_sha256": hashlib.sha256(files.encode()).hexdigest()}


def origin_of(
    identity: Mapping[str, str],
    seed: int,
    prompts: str,
    prompts_sha256: str,
    *,
    rewrite: bool = False,
) -> dict[str, Any]:
    """Say what the images depend on: what draws, the seed, the prompts and their wording."""
    return {
        **identity,
        "seed": seed,
        "prompts": prompts,
        "prompts_sha256": prompts_sha256,
        **({"wording": WORDING, "instruction": INSTRUCTION} if rewrite else {}),
    }


def check_origin(root: Path, origin: Mapping[str, Any]) -> None:
    """Refuse to mix images of several models, seeds or prompt sets in one folder.

    A folder that holds none yet may hold others.
    """
    if (root / ORIGIN).is_file():
        is_begun = not holds_nothing_but(root, {ORIGIN, CUT})
        changed = config_differences(read_origin(root), dict(origin)) if is_begun else []
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
    """Make the folder, and write down what draws."""
    with storage_faults("cannot write the images to", root):
        root.mkdir(parents=True, exist_ok=True)
        replace_file(root / ORIGIN, (json.dumps(origin, indent=1) + "\n").encode())


def not_drawn(pictures: Sequence[Picture]) -> list[Picture]:
    """List the pictures that are not there, or do not open: their writing was stopped."""
    return [picture for picture in pictures if not opens(picture.path)]


def draw_pictures(
    generator: Generator,
    pictures: Sequence[Picture],
    batch_size: int,
    outages: Outages,
    show: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[Path, Failure]:
    """Draw pictures, each sample with noise of its own; return those that failed, of all processes.

    Several processes (`uae.core.ranks`) share the batches, and each goes its own pace.

    Args:
        generator: Draws.
        pictures: All of equally many samples.
        batch_size: Samples at once, of a generator that draws in batches.
        outages: Ends the run where a generator is down that draws one sample after the other.
        show: Told (pictures done, pictures in all) after each batch.

    Raises:
        RunFailed: The generator failed several times running; what is drawn stays.
    """
    num_samples = len(pictures[0].keys) if pictures else 1
    step = max(1, batch_size // num_samples) if generator.in_batches else 1
    failures: dict[Path, Failure] = {}
    for start in share(range(0, len(pictures), step)):
        batch = pictures[start : start + step]
        for picture, drawn in zip(batch, _drawn(generator, batch, outages), strict=True):
            if isinstance(drawn, Failure):
                failures[picture.path] = drawn
            else:
                with storage_faults("cannot write the images to", picture.path.parent):
                    _save(drawn, picture.path)
        show(start + len(batch), len(pictures))
    return {path: failure for part in gathered(failures) for path, failure in part.items()}


def _drawn(
    generator: Generator, pictures: Sequence[Picture], outages: Outages
) -> list[Image.Image | Failure]:
    """Return each picture whole, or why one of its samples failed."""
    if not generator.in_batches:
        return [_whole(_one_by_one(generator, picture, outages)) for picture in pictures]
    samples = generator.draw([caption for picture in pictures for caption in captions_of(picture)])
    size = len(samples) // len(pictures)
    return [_whole(samples[i : i + size]) for i in range(0, len(samples), size)]


def _one_by_one(
    generator: Generator, picture: Picture, outages: Outages
) -> list[Image.Image | Failure]:
    """Draw one sample after the other; the first that fails is the last."""
    samples: list[Image.Image | Failure] = []
    for caption in captions_of(picture):
        samples += generator.draw([caption])
        if isinstance(failure := samples[-1], Failure):
            outages.add(caption.name, failure.reason, failure.detail)
            break
        outages.add(caption.name, "", "")
    return samples


def _whole(samples: Sequence[Image.Image | Failure]) -> Image.Image | Failure:
    """Return the samples as one picture, or why there is none."""
    images = []
    for sample in samples:
        if isinstance(sample, Failure):
            return sample
        images.append(sample)
    sizes = sorted({f"{image.width}x{image.height}" for image in images})
    if len(sizes) > 1:
        return Failure("generator: samples of several sizes", ", ".join(sizes))
    return in_grid(images)


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
    image.save(path, **(_JPEG if path.suffix == ".jpg" else {}))
