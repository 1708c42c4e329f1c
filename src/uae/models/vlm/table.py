"""The encoder families there are, by the `model_type` of a folder's config."""

from functools import partial
from pathlib import Path
from typing import Literal

from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    Gemma3ForConditionalGeneration,
    Gemma4ForConditionalGeneration,
    InternVLForConditionalGeneration,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)

from uae.core.errors import UsageError
from uae.models.loading import read_config
from uae.models.vlm.captioner import Captioner
from uae.models.vlm.causal import CausalVlm
from uae.models.vlm.family import LoadFamily
from uae.models.vlm.gemma import Gemma3, Gemma4
from uae.models.vlm.internvl import InternVl
from uae.models.vlm.qwen_vl import QwenVl

_KINDS = {
    "qwen2_5_vl": (Qwen2_5_VLForConditionalGeneration, QwenVl),
    "qwen3_vl": (Qwen3VLForConditionalGeneration, QwenVl),
    "qwen3_5": (Qwen3_5ForConditionalGeneration, QwenVl),
    "internvl": (InternVLForConditionalGeneration, InternVl),
    "gemma3": (Gemma3ForConditionalGeneration, Gemma3),
    "gemma4": (Gemma4ForConditionalGeneration, Gemma4),
}
FAMILIES: dict[str, LoadFamily] = {
    name: partial(CausalVlm.from_pretrained, model_class=model_class, kind=kind)
    for name, (model_class, kind) in _KINDS.items()
}
"""Families that are trained, and that read captions for a projector. Any other vision-language
model of transformers is a captioner."""
SEEN_PIXELS = {
    **dict.fromkeys(("qwen2_5_vl", "qwen3_vl", "qwen3_5"), 65_536),
    "internvl": 448 * 448,
}
"""Most pixels of an image, unless said otherwise: the paper's number where any number is seen, one
tile where tiles are; of other families as their image processors have it."""


def vlm_loader(
    folder: str | Path, condition: Literal["projector", "native"] = "native"
) -> LoadFamily:
    """Return what loads a transformers folder, refusing others before weights load.

    Raises:
        UsageError: It is of no family for this condition; names those there are.
    """
    config = read_config(folder)
    name = config.model_type
    if name in FAMILIES:
        return FAMILIES[name]
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise UsageError(
            f"{folder} is a {name!r} model, which describes no images: an encoder is one of "
            f"{', '.join(FAMILIES)}, or a captioner that transformers knows as image-text-to-text"
        )
    if condition == "projector":
        raise UsageError(
            f"{folder} is a {name!r} model, which writes captions here and no more: with "
            f"condition projector an encoder is one of {', '.join(FAMILIES)}"
        )
    return Captioner.from_pretrained


def check_learning(source: str | Path, revision: str, what: str) -> None:
    """Refuse an encoder that cannot learn, before it is loaded.

    Args:
        source: Folder of transformers, or hub id.
        revision: Of the id.
        what: Would train it, in the error.

    Raises:
        OSError: There is no such model.
        UsageError: It is of no family; names those there are.
    """
    name = read_config(source, revision).model_type
    if name not in FAMILIES:
        raise UsageError(
            f"{what} trains the encoder, and {source} is a {name!r} model, which writes captions "
            f"here and no more: expected schedule: decoder, or an encoder of {', '.join(FAMILIES)}"
        )
