# transformers' models are untyped
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportGeneralTypeIssues=false
"""Loads models of transformers whole: what is missing or does not fit is never drawn at random."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from uae.errors import UsageError

M = TypeVar("M", bound=PreTrainedModel)


def read_config(name: str | Path) -> PretrainedConfig:
    """Read the config of a folder or hub id.

    Raises:
        OSError: There is none.
        UsageError: It is of no model that transformers knows.
    """
    try:
        return AutoConfig.from_pretrained(name)
    except ValueError as error:
        raise UsageError(f"{name} is no model of transformers: {error}") from error


def load_whole(
    kind: type[M],
    name: str | Path,
    *,
    state: Mapping[str, Tensor] | None = None,
    unused: Sequence[str] = (),
    **options: Any,
) -> M:
    """Load a model with all its weights.

    Args:
        kind: Its class.
        name: Folder or hub id.
        state: Weights by name instead of those of `name`.
        unused: Parts of the names of weights that may be missing, as no output depends on them.
        options: Of `from_pretrained`.

    Raises:
        OSError: There is no such model.
        UsageError: A weights file is damaged, or weights are missing or of other shapes.
    """
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
        raise UsageError(
            f"{name} lacks {len(missing)} of the weights of {kind.__name__}: {missing[0]!r}"
        )
    for key, found, expected in sorted(info["mismatched_keys"]):
        raise UsageError(
            f"{name}: the weights {key!r} have the shape {tuple(found)}: expected {tuple(expected)}"
        )
    return model


def check_weights(folder: Path) -> None:
    """Open every file of weights under a folder, without reading them.

    Raises:
        UsageError: One is cut short, or no safetensors; names it.
    """
    for path in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(path, "pt"):
                pass
        except SafetensorError as error:
            raise UsageError(
                f"{path} is damaged or incomplete ({error}): copy or make it again"
            ) from error
