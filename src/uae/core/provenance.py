"""Provenance of a result: benchmark and rules, model files, dtype, backend, seeds, data."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uae.core.durable import files_below
from uae.core.errors import UsageError
from uae.core.identity import Inputs, file_digest, text_digest

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStamp:
    """The model side of a run."""

    name: str
    """As the user gave it: folder, preset, Hub id or address."""
    dtype: str
    backend: str
    """What runs it and prepares its inputs, "transformers, cpu" say."""
    seeds: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """sha256 of each file of the model, by path within it; empty behind an address."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Anything else its outputs depend on, `max_new_tokens` say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """All that a benchmark's numbers depend on, versions of packages aside."""

    benchmark: str
    version: str
    """Of its rules; numbers of different versions are not comparable."""
    model: ModelStamp
    data: Mapping[str, str] = field(default_factory=dict)
    """sha256 of the benchmark's files, by name."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """How it was run: `limit`, say."""
    inputs: Inputs = field(default_factory=dict)
    """What the digests of `data` and `model` are made of, by name: tells which have changed."""

    def values(self) -> dict[str, Any]:
        """Return the settings as nested plain values, without the inputs one by one."""
        return {key: value for key, value in asdict(self).items() if key != "inputs"}


def folder_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below a folder, by path with "/"; hidden ones are left out.

    Raises:
        UsageError: There is no such folder, or a file in it cannot be read.
        EnvironmentFault: A folder in it may not be read.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: expected that of a model")
    paths = {path.relative_to(folder).as_posix(): path for path in files_below(folder)}
    return {name: file_digest(path) for name, path in sorted(paths.items()) if path.is_file()}


def image_digests(paths: Mapping[str, Path]) -> dict[str, str | None]:
    """Return the sha256 of each image, by the name that its rows have."""
    return {name: file_digest(path) for name, path in paths.items()}


def images_stamp(root: Path, digests: Mapping[str, str | None]) -> ModelStamp:
    """Return the stamp of whatever model drew the images of the folder `root`."""
    images = text_digest(json.dumps(digests, sort_keys=True))
    return ModelStamp(name=str(root), dtype="none", backend="images", files={"images": images})


def weights_digest(model: "nn.Module") -> str:
    """Return the sha256 of a model's weights by name, wherever they were loaded from."""
    import torch  # comparing results does without

    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
