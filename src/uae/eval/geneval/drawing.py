"""GenEval's prompts drawn by our decoder into the official folder layout.

What drew a folder stands in its `images.json`, beside the folders of the prompts, where the
official scorer looks at nothing but folders.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uae.config import config_differences
from uae.data.opening import open_image
from uae.data.sources import to_images
from uae.data.untrusted.file import UnreadableImage
from uae.durable import replace_file, storage_faults
from uae.errors import UsageError
from uae.eval.geneval.layout import folder_of, write_metadata, write_sample
from uae.eval.geneval.prompts import PromptSet
from uae.eval.results.stamp import folder_digests
from uae.flow.noise import stream
from uae.models.settings import SETTINGS_FILE, resolve
from uae.models.unified import UnifiedAutoEncoder

log = logging.getLogger(__name__)

ORIGIN = "images.json"


@dataclass(frozen=True, slots=True)
class Place:
    """A sample to be drawn."""

    prompt_id: int
    sample_id: int


def origin_of(model: str, seed: int, prompts: PromptSet) -> dict[str, Any]:
    """Say what the images depend on: the model's files, the seed and the prompts.

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
        "prompts": prompts.name,
        "prompts_sha256": prompts.sha256,
    }


def check_origin(root: Path, origin: Mapping[str, Any]) -> None:
    """Refuse to mix images of several models, seeds or prompt sets in one folder.

    Raises:
        UsageError: Says what the folder holds.
    """
    path = root / ORIGIN
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UsageError(f"{path} is damaged: choose another folder") from error
        changed = config_differences(before, dict(origin))
        if changed:
            raise UsageError(
                f"--out {root} holds other images ({'; '.join(changed)}): choose another folder"
            )
    elif root.is_dir() and any(root.iterdir()):
        raise UsageError(
            f"--out {root} is not empty and was not written by this command (it has no {ORIGIN}): "
            "choose another folder"
        )


def begin(root: Path, origin: Mapping[str, Any], prompts: PromptSet) -> None:
    """Write down what draws, then make the prompts' folders.

    Raises:
        EnvironmentFault: They cannot be written.
    """
    with storage_faults("cannot write the images to", root):
        root.mkdir(parents=True, exist_ok=True)
        replace_file(root / ORIGIN, (json.dumps(origin, indent=1) + "\n").encode())
        write_metadata(root, prompts)


def missing_samples(root: Path, prompts: PromptSet, num_samples: int) -> list[Place]:
    """List the samples that are not there, or do not open: their writing was stopped."""
    return [
        Place(prompt_id, sample_id)
        for prompt_id in range(len(prompts.lines))
        for sample_id in range(num_samples)
        if not _is_there(folder_of(root, prompt_id) / "samples" / f"{sample_id:04d}.png")
    ]


def _is_there(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        open_image(path)
    except UnreadableImage:
        return False
    return True


def draw_samples(
    model: UnifiedAutoEncoder,
    root: Path,
    prompts: PromptSet,
    places: Sequence[Place],
    seed: int,
    batch_size: int,
) -> Iterator[int]:
    """Draw samples, each with noise of its own; yield how many are written after each batch.

    Raises:
        EnvironmentFault: They cannot be written.
    """
    _warn_of_overlong(model, [prompts.lines[i].prompt for i in {p.prompt_id for p in places}])
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        noise = model.decoder.noise(
            [stream(seed, "geneval", place.prompt_id, place.sample_id) for place in batch]
        )
        texts = [prompts.lines[place.prompt_id].prompt for place in batch]
        pixels = model.draw_conditions(model.condition(texts), noise, model.settings.sampling)
        with storage_faults("cannot write the images to", root):
            for place, image in zip(batch, to_images(pixels), strict=True):
                write_sample(root, place.prompt_id, place.sample_id, image)
        yield start + len(batch)


def _warn_of_overlong(model: UnifiedAutoEncoder, texts: Sequence[str]) -> None:
    limit = model.settings.max_caption_tokens
    num_overlong = sum(model.encoder.num_tokens(text) > limit for text in texts)
    if num_overlong:
        log.warning(
            "%d prompts have more than the %d tokens that the decoder was trained for: their ends "
            "may be ignored",
            num_overlong,
            limit,
        )
