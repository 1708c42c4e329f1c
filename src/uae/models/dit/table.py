"""The decoder families there are, by the pipeline class of a folder's `model_index.json`."""

import json
from pathlib import Path

from uae.core.errors import UsageError
from uae.models.dit.family import LoadFamily
from uae.models.dit.sd3 import Sd3

FAMILIES: dict[str, LoadFamily] = {"StableDiffusion3Pipeline": Sd3.from_pretrained}


def dit_loader(folder: str | Path) -> LoadFamily:
    """Return what loads a pipeline folder, refusing other families before weights load.

    Raises:
        UsageError: It is of none; names those there are.
    """
    path = Path(folder) / "model_index.json"
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["_class_name"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} does not say which pipeline the folder holds ({error}): expected a folder "
            "that diffusers wrote"
        ) from error
    if name not in FAMILIES:
        raise UsageError(f"{folder} is a {name}: a decoder is one of {', '.join(FAMILIES)}")
    return FAMILIES[name]
