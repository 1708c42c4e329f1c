"""The parts of a model folder, which lie in it or elsewhere: as a folder, or on the hub."""

from pathlib import Path

from huggingface_hub import snapshot_download
from transformers.utils.hub import cached_file, extract_commit_hash

from uae.core.errors import UsageError
from uae.core.identity import folder_digest
from uae.models.hub import found
from uae.models.settings import SETTINGS_FILE, Reference, read_settings, resolve
from uae.models.weightless import CONFIG_FILES, WEIGHT_INDEX, is_weightless

_UNUSED_FILES = ["*.bin", "*.ckpt", "*.pth", "*.gguf", "*.msgpack", "*.h5", "*.onnx*", "*.md"]
"""Weights in other formats beside those that are loaded."""
_UNUSED_IN_PIPELINES = [*_UNUSED_FILES, "*fp16*"]

HALVES = ("encoder", "decoder")
INDEX_FILES = {
    "encoder": "config.json",
    "decoder": "model_index.json",
    "model": SETTINGS_FILE,
}
"""The file that says what a part, or a whole model of this package, is."""


def reference_to(flag: str, name: str, part: str) -> Reference:
    """Return what stands for a folder or a hub id.

    Args:
        flag: It was named by, in errors.
        name: The folder, or the id, which may end in "@" and a revision.
        part: "encoder", "decoder", or "model" for a whole one of this package.

    Raises:
        UsageError: There is none of that name.
        EnvironmentFault: The hub cannot be reached.
    """
    folder = Path(resolve(name))
    if folder.is_dir():
        return Reference(source=str(folder.resolve()), digest=folder_digest(folder))
    model_id, _, revision = name.partition("@")
    with found(flag, name):
        file = cached_file(model_id, INDEX_FILES[part], revision=revision or None)
    return Reference(source=model_id, commit=extract_commit_hash(file, None) or revision)


def locate(folder: Path, part: str, reference: Reference | None) -> Path:
    """Return the folder of a part, downloaded if need be.

    Args:
        folder: The model's.
        part: Its name there.
        reference: Where it lies; None for inside the model's folder.

    Raises:
        UsageError: It is not there, or another than was joined.
        EnvironmentFault: The hub cannot be reached.
    """
    if reference is None:
        return folder / part
    settings = folder / SETTINGS_FILE
    if reference.commit:
        return download(f"{settings}: {part}", reference, part)
    place = Path(reference.source)
    if not place.is_dir():
        raise UsageError(f"{settings}: its {part} {place} is not there: put it back, or join again")
    if folder_digest(place) != reference.digest:
        raise UsageError(
            f"{settings}: its {part} {place} is another than was joined: put that back, or join "
            "again"
        )
    return place


def download(flag: str, reference: Reference, part: str) -> Path:
    """Return the folder of a commit on the hub, kept in the hub's own cache."""
    unused = _UNUSED_IN_PIPELINES if part == "decoder" else _UNUSED_FILES
    wanted = None
    if is_weightless():
        wanted, unused = CONFIG_FILES, [WEIGHT_INDEX]
    with found(flag, f"{reference.source}@{reference.commit}"):
        files = snapshot_download(
            reference.source,
            revision=reference.commit,
            allow_patterns=wanted,
            ignore_patterns=unused,
        )
        return Path(files)


def place_of(folder: Path, part: str) -> Path:
    """Return the folder of a part of a model folder, as `locate` does."""
    return locate(folder, part, read_settings(folder).parts.get(part))


def adapters_of(folder: Path, half: str) -> list[Path]:
    """Return the adapters of the encoder or the decoder, the earliest first."""
    return sorted(folder.glob(f"{half}_lora*"), key=lambda place: (len(place.name), place.name))


def part_of(path: str) -> str:
    """Return the part of a model folder to which a file in it belongs, adapters to their half."""
    return path.split("/")[0].split("_lora")[0]
