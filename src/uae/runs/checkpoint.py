"""Checkpoints that are whole or absent: safetensors and JSON, one new folder per step.

    checkpoints/step-00000012/{tensors.safetensors, state.json, manifest.json}

A checkpoint is written under a hidden name, every file synced, the manifest last, and then renamed.
Nothing is ever unpickled, and sizes are limited before anything is parsed, so a hostile folder
costs an error and no more.
"""

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from uae.core.durable import (
    give_usual_rights,
    remove,
    storage_faults,
    sync_file,
    sync_folder,
    write_synced,
)
from uae.core.errors import DamagedCheckpoint, EnvironmentFault
from uae.runs.manifest import (
    MANIFEST,
    MAX_STATE_BYTES,
    STATE,
    TENSORS,
    json_bytes,
    parse_json,
    verify_files,
    write_manifest,
)

log = logging.getLogger(__name__)

_STEP_NAME = re.compile(r"step-([0-9]{8,15})")
_MAX_HEADER_BYTES = 8 * 2**20  # about 60,000 tensors; safetensors alone would parse 100 MB


@dataclass(frozen=True, slots=True)
class Skipped:
    """A newer checkpoint that was passed over, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint. `step` counts finished steps; tensors are on the CPU."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    path: Path
    skipped: tuple[Skipped, ...] = ()


def save_checkpoint(
    root: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep: int
) -> Path:
    """Write a checkpoint, then delete the oldest beyond `keep`, and any of a later step.

    A run that saves step 10 after going back to 8 has left its former step 12 behind. Only one
    process may save into `root`, whose parent must exist. `state` is finite JSON of at most 4 MiB;
    `keep` is at least 2, as the newest may turn out damaged.

    Raises:
        EnvironmentFault: No space or no rights; older checkpoints are untouched, no part is left.
    """
    if keep < 2:
        raise ValueError(f"keep is {keep}; at least 2 checkpoints are kept, the newest may be lost")
    assert step >= 0, f"step {step}"
    state_bytes = json_bytes(dict(state))
    if len(state_bytes) > MAX_STATE_BYTES:
        raise ValueError(f"state has {len(state_bytes)} bytes of JSON; the limit is 4 MiB")
    name = f"step-{step:08d}"
    final, hidden, replaced = root / name, root / f".{name}.tmp", root / f".{name}.old"
    with storage_faults("cannot save a checkpoint in", root):
        root.mkdir(exist_ok=True)  # not its parents: a run folder that has gone is a fault
        _remove_leftovers(root)
        try:
            hidden.mkdir()
            _write_tensors(hidden / TENSORS, tensors)
            write_synced(hidden / STATE, state_bytes)
            write_manifest(hidden, step)
            sync_folder(hidden)
            if final.exists():
                final.rename(replaced)
            hidden.rename(final)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
        sync_folder(root)
        _remove_superfluous(root, step, keep)
    return final


def load_latest(root: Path) -> Checkpoint | None:
    """Return the newest checkpoint that verifies, or None where there is none at all.

    Raises `DamagedCheckpoint` where there are some and every one is damaged.
    """
    skipped: list[Skipped] = []
    for folder in reversed(step_folders(root)):
        try:
            checkpoint = read_checkpoint(folder)
        except DamagedCheckpoint as error:
            log.warning("%s; trying the one before", error)
            skipped.append(Skipped(folder, str(error)))
            continue
        return replace(checkpoint, skipped=tuple(skipped))
    if skipped:
        reasons = "; ".join(s.reason for s in skipped)
        raise DamagedCheckpoint(
            f"no good checkpoint is left in {root} ({reasons}): restore one from a copy, or start "
            "the run again"
        )
    return None


def read_checkpoint(folder: Path) -> Checkpoint:
    """Verify and load one checkpoint folder; `DamagedCheckpoint` names the file at fault.

    One that may not be read is an `EnvironmentFault`.
    """
    name = _STEP_NAME.fullmatch(folder.name)
    if folder.is_symlink() or not folder.is_dir() or name is None:
        raise DamagedCheckpoint(
            f"{folder} is not a checkpoint folder (step-00000012/ with {TENSORS}, {STATE} and "
            f"{MANIFEST}); other formats, pickled .pt files above all, are never loaded"
        )
    step = int(name[1])
    try:
        verify_files(folder, step)
        _check_header(folder / TENSORS)
        tensors = load_file(folder / TENSORS)
        state = parse_json(folder / STATE, (folder / STATE).read_bytes())
    except PermissionError as error:  # not damaged, and an older one would not be read either
        raise EnvironmentFault(
            f"cannot read the checkpoint {folder}: {error.filename}: permission denied; give this "
            "user the right to read it"
        ) from error
    except OSError as error:
        where = error.filename or folder
        raise DamagedCheckpoint(f"{where}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise DamagedCheckpoint(f"{folder / TENSORS}: not valid safetensors ({error})") from error
    return Checkpoint(step, tensors, state, folder)


def step_folders(root: Path) -> list[Path]:
    """Return the visible checkpoints, oldest first, unverified."""
    if not root.is_dir():
        return []
    folders = [path for path in root.iterdir() if _STEP_NAME.fullmatch(path.name)]
    return sorted(folders, key=_step_of)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER_BYTES:
        raise DamagedCheckpoint(
            f"{path}: claims a header of {length} bytes; the limit is {_MAX_HEADER_BYTES}"
        )


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    portable: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, value in tensors.items():
        tensor = value.detach().to("cpu")
        storage = tensor.untyped_storage().data_ptr()
        if storage in storages or not tensor.is_contiguous():
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        storages.add(storage)
        portable[name] = tensor
    save_file(portable, path)
    give_usual_rights(path)
    sync_file(path)


def _remove_leftovers(root: Path) -> None:
    """Delete what a killed process left half written."""
    for path in root.iterdir():
        if path.name.startswith(".step-"):
            remove(path)


def _remove_superfluous(root: Path, step: int, keep: int) -> None:
    """Hide first, so that a kill while deleting leaves nothing that looks like a checkpoint."""
    folders = step_folders(root)
    later = [f for f in folders if _step_of(f) > step]
    oldest = [f for f in folders if f not in later][:-keep]
    for folder in later + oldest:
        folder.rename(root / f".{folder.name}.old")
    _remove_leftovers(root)
