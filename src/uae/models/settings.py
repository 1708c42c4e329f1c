"""Settings of a pair besides its weights, and the places of models by name.

Nothing heavy is imported here: a command looks for its model before it loads torch.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

from uae.core.errors import UsageError
from uae.core.unicode import check_text
from uae.recipe.sampling import SamplingConfig

PRESETS = ("uae-tiny",)
SETTINGS_FILE = "uae.json"

_ON_HUB = re.compile(r"[\w.-]+/[\w.-]+(@.+)?")
_downloads: dict[str, Path] = {}
"""Folders of what `pinned` downloaded in this process."""

_UNLESS_SAID = {
    "condition": "projector",
    "size_px": None,
    "shapes": "square",
    "max_pixels": None,
    "parts": {},
}


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A part of a model whose weights lie elsewhere."""

    source: str
    """A folder, or an id on the hub."""
    commit: str = ""
    """Of a hub id: the version that is loaded, whatever comes after it."""
    digest: str = ""
    """Of a folder: that of its files, see `core.identity.folder_digest`."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What belongs to a trained pair besides its weights."""

    caption_prompt: str
    """User turn that asks for a caption."""
    negative_caption: str = ""
    """Caption behind the unconditional branch of guidance and of condition dropout."""
    max_caption_tokens: int = 512
    """Longest caption the decoder was trained for, in tokens of the encoder's tokenizer."""
    max_new_tokens: int = 512
    """Longest caption the encoder writes."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How images are drawn unless said otherwise."""
    similarity: dict[str, str] = field(default_factory=dict)
    """Similarity backbones for this kind of image: name to folder, preset or hub id."""
    condition: Literal["projector", "native"] = "projector"
    """What the decoder reads: the encoder's states through a trained projector (the paper), or
    those of its own text encoder."""
    size_px: int | None = None
    """Side of the square images it draws; by default the decoder's own."""
    shapes: Literal["square", "own"] = "square"
    """Whether an image is cut to a square, or is seen whole and redrawn in about its own shape."""
    max_pixels: int | None = None
    """Most pixels that the encoder sees of an image, its shape kept; the paper's is 65,536. By
    default as its image processor has it."""
    parts: dict[str, Reference] = field(default_factory=dict)
    """The parts, encoder or decoder, that lie elsewhere."""


def resolve(name: str | Path) -> str | Path:
    """Turn a model name into what `from_pretrained` takes: a folder, or a hub id as it is.

    `uae-tiny` and `uae-tiny/PART` stand for the weights inside this package, a name that `pinned`
    returned for its download.

    Raises:
        UsageError: It is no Unicode, which what reads weights does not take.
    """
    check_text(str(name), "the name of a model")
    first, _, rest = str(name).partition("/")
    if Path(name).exists():
        return name
    if first in PRESETS:
        return Path(str(resources.files("uae") / "presets")) / first / rest
    return _downloads.get(str(name), name)


def pinned(flag: str, name: str) -> str:
    """Return the name under which a model of this package is found and recorded.

    That of a folder or a preset is its own; ID or ID@REVISION on the hub becomes ID@COMMIT, and is
    downloaded to the hub's cache. A folder of the same name goes first.

    Args:
        flag: It was named by, in errors.
        name: As the user gave it.

    Raises:
        UsageError: The hub has no such model or revision, or keeps it from this user.
        EnvironmentFault: The hub cannot be reached.
    """
    if isinstance(resolve(name), Path) or Path(name).exists() or not _ON_HUB.fullmatch(name):
        return name
    from uae.models.parts import download, reference_to

    reference = reference_to(flag, name, "model")
    commit = f"{reference.source}@{reference.commit}"
    if commit not in _downloads:
        _downloads[commit] = download(flag, reference, "model")
    return commit


def find_settings(name: str | Path) -> ModelSettings:
    """Read the settings of a model by folder or preset.

    Raises:
        UsageError: There is none of that name.
    """
    folder = Path(resolve(name))
    if not (folder / SETTINGS_FILE).is_file():
        raise UsageError(
            f"model {str(name)!r}: no {SETTINGS_FILE} in {folder}; {expected_model(folder)}"
        )
    return read_settings(folder)


def expected_model(folder: Path) -> str:
    """Say what would be right where a folder is no model: the model in it, if it is a run's."""
    inside = folder / "model"
    if (inside / SETTINGS_FILE).is_file():
        return f"it is the folder of a run: name its model, {inside}"
    return f"expected a folder written by `uae train`, or one of {', '.join(PRESETS)}"


def read_settings(folder: Path) -> ModelSettings:
    """Read the settings of a model folder.

    Raises:
        UsageError: The file was not written by this package.
    """
    path = folder / SETTINGS_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        parts = {name: Reference(**part) for name, part in raw.get("parts", {}).items()}
        sampling = SamplingConfig(**raw["sampling"])
        settings = ModelSettings(**{**raw, "sampling": sampling, "parts": parts})
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} does not hold the settings of a model ({error}): expected a file written by "
            "`uae train`"
        ) from error
    check_text(raw, str(path))
    return settings


def write_settings(folder: Path, settings: ModelSettings) -> None:
    """Write the settings of a model folder; those that say nothing are left out."""
    values = {
        key: value
        for key, value in asdict(settings).items()
        if key not in _UNLESS_SAID or value != _UNLESS_SAID[key]
    }
    (folder / SETTINGS_FILE).write_text(json.dumps(values, indent=2) + "\n")
