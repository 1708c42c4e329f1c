# diffusers types what it loads as Any
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportAttributeAccessIssue=false
"""Loads pipelines of diffusers whole: no weight is missing, of another shape or left over."""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils.logging import disable_progress_bar

from uae.core.errors import UsageError
from uae.data.shapes import Size
from uae.models.loading import load_whole

_INDEX = "model_index.json"
_LIBRARIES = ("diffusers", "transformers")


def read_index(folder: str | Path) -> dict[str, Any]:
    """Return the parts of a pipeline folder as diffusers lists them.

    Raises:
        UsageError: It holds no pipeline.
    """
    path = Path(folder) / _INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        return {**index, "_class_name": index["_class_name"]}
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} does not say which pipeline the folder holds ({error}): expected a folder "
            "that diffusers wrote"
        ) from error


def read_config_of(folder: Path) -> dict[str, Any]:
    """Return the settings of a model of diffusers.

    Raises:
        UsageError: There are none.
    """
    path = folder / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}): expected a model's settings") from error


def load_pipeline(folder: str | Path, dtype: torch.dtype, unused: Sequence[str] = ()) -> Any:
    """Load a pipeline with all its models.

    Args:
        folder: A pipeline folder.
        dtype: Of all its models.
        unused: Parts that are left out.

    Raises:
        UsageError: A part is not there, or its weights do not fit; names the keys.
    """
    models: dict[str, Any] = dict.fromkeys(unused)
    for name, entry in read_index(folder).items():
        if name in unused or not isinstance(entry, list) or entry[0] not in _LIBRARIES:
            continue
        kind = class_of(entry)
        if issubclass(kind, torch.nn.Module):
            models[name] = load_part(kind, Path(folder) / name, dtype)
    disable_progress_bar()
    return DiffusionPipeline.from_pretrained(folder, dtype=dtype, **models)


def class_of(entry: Sequence[str]) -> Any:
    """Return the class of a part, by its library and its name in the pipeline's index."""
    return getattr(importlib.import_module(entry[0]), entry[1])


def check_sides(size: Size, config: Mapping[str, Any], step_px: int) -> None:
    """Refuse images beyond the positions that a transformer knows, where it knows only so many.

    Raises:
        UsageError: A side is longer.
    """
    known = config.get("pos_embed_max_size")
    if known and max(size) > known * step_px:
        raise UsageError(
            f"{size[1]} x {size[0]} px: {config['_class_name']} draws sides of up to "
            f"{known * step_px} px: expected a smaller size_px, or shapes: square"
        )


def load_part(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load a model of either library, as `load_pipeline` does."""
    return load_whole(kind, folder, is_exact=True, dtype=dtype).eval()
