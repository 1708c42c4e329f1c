# classes of both libraries share no type
# pyright: reportAttributeAccessIssue=false, reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
"""Models as their configs describe them, without weights: for counting what they would take.

    with weightless():
        model = UnifiedAutoEncoder.from_pretrained("pair", device="meta")

Within it all models are of torch's `meta` device, which holds shapes and no numbers, and of a hub
id only configs, tokenizers and processors are downloaded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

CONFIG_FILES = ["*.json", "*.txt", "*.jinja", "*.model", "*.tiktoken"]
"""All of a model that is no weights."""
WEIGHT_INDEX = "*.index.json"
"""Names weight files, so that a folder without them would look incomplete."""

_is_weightless: ContextVar[bool] = ContextVar("is_weightless", default=False)


@contextmanager
def weightless() -> Iterator[None]:
    """Within this context models are made of their configs alone."""
    token = _is_weightless.set(True)
    try:
        yield
    finally:
        _is_weightless.reset(token)


def is_weightless() -> bool:
    """Tell whether models are made of their configs alone."""
    return _is_weightless.get()


def build(kind: Any, name: str | Path, dtype: torch.dtype | None = None) -> Any:
    """Make a model of either library from the config of a folder, on `meta`.

    Args:
        kind: Its class.
        name: Folder or hub id.
        dtype: Of its weights; by default that of the config.

    Raises:
        OSError: There is no config.
    """
    if issubclass(kind, ModelMixin):
        with torch.device("meta"):
            model = kind.from_config(kind.load_config(name))
        return torch.nn.Module.to(model, dtype or torch.float32)
    config = AutoConfig.from_pretrained(name)
    make = kind._from_config if issubclass(kind, PreTrainedModel) else kind.from_config
    with torch.device("meta"):
        model = make(config, dtype=dtype or config.dtype or torch.float32)
    if Path(name, "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(name)
    return model
