"""What belongs to a trained pair besides its weights, and where models are found by name.

Nothing heavy is imported here: a command looks for its model before it loads torch.
"""

import json
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from uae.core.errors import UsageError
from uae.core.unicode import check_text
from uae.recipe.sampling import SamplingConfig

PRESETS = ("uae-tiny",)
SETTINGS_FILE = "uae.json"


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


def resolve(name: str | Path) -> str | Path:
    """Turn a model name into what `from_pretrained` takes: a folder, or a hub id as it is.

    `uae-tiny` and `uae-tiny/PART` stand for the weights inside this package.
    """
    first, _, rest = str(name).partition("/")
    if first in PRESETS and not Path(name).exists():
        return Path(str(resources.files("uae") / "presets")) / first / rest
    return name


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
        settings = ModelSettings(**{**raw, "sampling": SamplingConfig(**raw["sampling"])})
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} does not hold the settings of a model ({error}): expected a file written by "
            "`uae train`"
        ) from error
    check_text(raw, str(path))
    return settings
