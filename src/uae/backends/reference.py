"""A model as a command line names it: `KIND:NAME`.

What its results depend on is told before it is loaded, so that a folder of another run is refused
within a second.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers.utils.hub import cached_file, extract_commit_hash

from uae.backends.client import EndpointConfig
from uae.backends.ours import check_ours
from uae.core.device import device_of
from uae.core.errors import UsageError
from uae.core.provenance import ModelStamp, folder_digests
from uae.models.hub import found
from uae.models.settings import (
    ModelSettings,
    pinned,
    read_settings,
    resolve,
)

INDEX_FILES = {"vlm": "config.json", "diffusers": "model_index.json"}
"""A small file that every model of a kind has."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A model, a file or a folder as the user named it; one of ours on the hub by its commit."""

    flag: str
    kind: str
    name: str

    def __post_init__(self) -> None:
        if self.is_ours:
            object.__setattr__(self, "name", pinned(self.flag, self.name))

    @classmethod
    def read(cls, flag: str, text: str, kinds: tuple[str, ...]) -> "Spec":
        """Read KIND:NAME.

        Raises:
            UsageError: It is of no known kind, or names nothing.
        """
        kind, _, name = text.partition(":")
        if kind not in kinds or not name:
            expected = ", ".join(f"{kind}:..." for kind in kinds)
            raise UsageError(f"{flag} {text}: expected one of {expected}")
        return cls(flag, kind, name)

    @classmethod
    def read_model(cls, flag: str, text: str, kinds: tuple[str, ...]) -> "Spec":
        """Read KIND:NAME, or the plain name of a model of this package.

        Raises:
            UsageError: It names nothing.
        """
        if text.partition(":")[0] in kinds:
            return cls.read(flag, text, kinds)
        try:
            return cls.read(flag, f"uae:{text}", kinds)
        except UsageError as error:
            raise UsageError(f"{error}; a model of another kind is named KIND:NAME") from error

    @property
    def shown(self) -> str:
        """How it is named on the command line."""
        return f"{self.kind}:{self.name}"

    @property
    def is_ours(self) -> bool:
        """Whether it is a model of this package."""
        return self.kind == "uae"

    @property
    def folder(self) -> Path | None:
        """The folder of weights that it names; None for a hub id or an address."""
        place = Path(resolve(self.name))
        return place if place.is_dir() else None

    @property
    def commit(self) -> str | None:
        """The commit that a hub id stands for, here or on the hub; None for anything else.

        Raises:
            UsageError: There is no such model.
        """
        if self.kind not in INDEX_FILES or self.folder:
            return None
        return _commit(self)

    def check(self) -> None:
        """Refuse a folder that holds no model of this package.

        Raises:
            UsageError: Names the flag.
        """
        check_ours(self.flag, self.name)

    def settings(self) -> ModelSettings:
        """Read the settings of a model of this package.

        Raises:
            UsageError: The folder holds none.
        """
        self.check()
        return read_settings(Path(resolve(self.name)))


@functools.cache  # what is loaded is to be what was stamped, though the hub may change meanwhile
def _commit(spec: Spec) -> str | None:
    with found(spec.flag, spec.shown):
        file = cached_file(spec.name, INDEX_FILES[spec.kind])
    return extract_commit_hash(file, None)


def endpoint_by_default(url: str, model: str) -> EndpointConfig:
    """Return how a model at an address is asked where nothing else is said."""
    return EndpointConfig(base_url=url, model=model)


@dataclass(frozen=True, slots=True)
class Given:
    """What a model is loaded with.

    Attributes:
        prompt: Asks a captioner that is not ours for a caption.
        seed: Of noise and sampled words.
        device: As the command has it.
        dtype: Of models that are not ours.
        out: The command's folder, where it is kept what an address refuses.
        address: How a model (its URL, its name there) is asked.
        size: Width and height in pixels that a generator that is not ours draws; None for its own.
        images: Path of each image that is described or redrawn, by its name.
        draws: Whether it is to draw; a model that also draws need not keep that half otherwise.
    """

    prompt: str
    seed: int
    device: str
    dtype: torch.dtype
    out: Path
    address: Callable[[str, str], EndpointConfig] = endpoint_by_default
    size: tuple[int, int] | None = None
    images: Mapping[str, Path] = field(default_factory=dict)
    draws: bool = True


def check_dtype(dtype: str, *specs: Spec) -> None:
    """Refuse a dtype that nothing would heed.

    Raises:
        UsageError: None of these is a model of others.
    """
    if dtype != "float32" and not any(spec.kind in INDEX_FILES for spec in specs):
        kinds = " or ".join(INDEX_FILES)
        shown = " and ".join(f"{spec.flag} {spec.shown}" for spec in specs)
        raise UsageError(f"--dtype {dtype} is for {kinds} models: expected none with {shown}")


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype as flags and stamps have it."""
    return str(dtype).removeprefix("torch.")


def weights_stamp(
    spec: Spec, given: Given, dtype: str, counts: Callable[[str], bool] = lambda _: True
) -> ModelStamp:
    """Say what the results of weights on this machine depend on, without loading them.

    Args:
        spec: A folder, or a hub id, which stands for its commit.
        given: What it is loaded with.
        dtype: Of weights and arithmetic.
        counts: Tells of each file of the folder whether results depend on it.

    Raises:
        UsageError: It is not there.
    """
    return ModelStamp(
        name=spec.name,
        dtype=dtype,
        backend=f"{spec.kind}, {torch.device(device_of(given.device)).type}",
        files=_files(spec, counts),
    )


def _files(spec: Spec, counts: Callable[[str], bool]) -> dict[str, str]:
    """Return one sha256 of all files that count; of a hub id its commit."""
    folder, commit = spec.folder, spec.commit
    if folder is None:
        return {"commit": commit} if commit else {}
    kept = {path: digest for path, digest in folder_digests(folder).items() if counts(path)}
    return {"weights": hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()}
