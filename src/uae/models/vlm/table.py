"""The encoder families there are, by the `model_type` of a folder's config."""

from functools import partial
from pathlib import Path

from transformers import Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration

from uae.core.errors import UsageError
from uae.models.loading import read_config
from uae.models.vlm.family import LoadFamily
from uae.models.vlm.qwen_vl import QwenVl

FAMILIES: dict[str, LoadFamily] = {
    "qwen2_5_vl": partial(QwenVl.from_pretrained, kind=Qwen2_5_VLForConditionalGeneration),
    "qwen3_vl": partial(QwenVl.from_pretrained, kind=Qwen3VLForConditionalGeneration),
}


def vlm_loader(folder: str | Path) -> LoadFamily:
    """Return what loads a transformers folder, refusing other families before weights load.

    Raises:
        UsageError: It is of none; names those there are.
    """
    kind = read_config(folder).model_type
    if kind not in FAMILIES:
        raise UsageError(
            f"{folder} is a {kind!r} model: an encoder is one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]
