# transformers' models are untyped
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportGeneralTypeIssues=false
"""Loads models whole: what is missing or does not fit is never drawn at random.

The libraries take a file that may not be read for one that is not there, so files are looked at
before they are.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig

from uae.core.durable import files_below, read_faults
from uae.core.errors import UsageError
from uae.models.weightless import build, is_weightless

_MAX_KEYS_NAMED = 3


def read_config(name: str | Path, revision: str = "main") -> PretrainedConfig:
    """Read the config of a folder or hub id.

    Args:
        name: Folder or hub id.
        revision: Of the id.

    Raises:
        OSError: There is none.
        UsageError: It is of no model that transformers knows.
        EnvironmentFault: It may not be read.
    """
    _check_flat(name)
    try:
        return AutoConfig.from_pretrained(name, revision=revision)
    except ValueError as error:
        raise UsageError(f"{name} is no model of transformers: {error}") from error


def load_whole(
    kind: Any,
    name: str | Path,
    *,
    state: Mapping[str, Tensor] | None = None,
    unused: Sequence[str] = (),
    is_exact: bool = False,
    beside: str | None = None,
    **options: Any,
) -> Any:
    """Load a model of transformers or diffusers with all its weights.

    Args:
        kind: Its class.
        name: Folder or hub id.
        state: Weights by name instead of those of `name`.
        unused: Parts of the names of weights that may be missing, as no output depends on them.
        is_exact: Weights that the class has no place for are an error too.
        beside: What names begin with that are no weights of the class, and no error.
        options: Of `from_pretrained`.

    Raises:
        OSError: There is no such model.
        UsageError: A weights file is damaged, or weights are missing, of other shapes or left over;
            names some.
        EnvironmentFault: A file may not be read.
    """
    _check_flat(name)
    if is_weightless():
        return build(kind, name, options.get("dtype"))
    try:
        model, info = kind.from_pretrained(
            name if state is None else None,
            state_dict=state,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    except SafetensorError as error:
        check_weights(Path(name))  # names the file
        raise UsageError(f"{name}: its weights are damaged ({error}): copy them again") from error
    missing = sorted(key for key in info["missing_keys"] if not any(part in key for part in unused))
    if missing:
        raise UsageError(f"{name} lacks {some_weights(missing)} of {kind.__name__}")
    for key, found, expected in sorted(info["mismatched_keys"]):
        raise UsageError(
            f"{name}: the weights {key!r} have the shape {tuple(found)}: expected {tuple(expected)}"
        )
    left = sorted(x for x in info["unexpected_keys"] if not (beside and x.startswith(beside)))
    if is_exact and left:
        raise UsageError(f"{name} holds {some_weights(left)} that {kind.__name__} has no place for")
    return model


def some_weights(keys: Sequence[str]) -> str:
    """Count weights, and name the first."""
    more = ", ..." if len(keys) > _MAX_KEYS_NAMED else ""
    plural = "s" if len(keys) > 1 else ""
    return f"{len(keys)} weight{plural} ({', '.join(keys[:_MAX_KEYS_NAMED])}{more})"


def check_weights(folder: Path) -> None:
    """Open every file under a folder, without reading much.

    Raises:
        UsageError: Weights are cut short, or no safetensors; names the file.
        EnvironmentFault: A file or folder may not be read.
    """
    paths = files_below(folder)
    check_readable(paths)
    for path in (path for path in paths if path.suffix == ".safetensors"):
        try:
            with read_faults(), safe_open(path, "pt"):
                pass
        except SafetensorError as error:
            raise UsageError(
                f"{path} is damaged or incomplete ({error}): copy or make it again"
            ) from error


def check_readable(paths: Iterable[Path]) -> None:
    """Open files, and pass over what is no file.

    Raises:
        EnvironmentFault: One may not be read; names it.
    """
    for path in paths:
        with read_faults():
            try:
                path.open("rb").close()
            except (FileNotFoundError, IsADirectoryError):  # a link without its end, a folder
                continue


def _check_flat(name: str | Path) -> None:
    """Look at the files of a folder; a hub id has none here."""
    with read_faults():
        if os.path.isdir(name):
            check_readable([Path(name) / file for file in sorted(os.listdir(name))])
