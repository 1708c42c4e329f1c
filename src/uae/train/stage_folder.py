"""The model folder that a finished stage leaves: there whole or not at all, with its digests.

`SHA256SUMS` in it is what `sha256sum --check` reads. It goes along into the result's folder.
"""

import shutil
from pathlib import Path

from uae.core.durable import storage_faults, sync_tree
from uae.core.errors import DamagedCheckpoint, EnvironmentFault
from uae.core.identity import sha256_of
from uae.models.unified import UnifiedAutoEncoder

SUMS = "SHA256SUMS"


def save_stage(model: UnifiedAutoEncoder, folder: Path) -> None:
    """Write a model with its digests."""
    draft = folder.with_name(f".{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    with storage_faults("cannot write the model in", folder):
        model.save_pretrained(draft)
        (draft / SUMS).write_text(_sums(draft))
        sync_tree(draft)
        draft.rename(folder)


def copy_stage(stage: Path, folder: Path) -> None:
    """Copy what a finished stage left; raises as `save_stage` and `check_stage`."""
    check_stage(stage)
    draft = folder.with_name(f".{folder.name}")
    with storage_faults("cannot write the model in", folder.parent):
        shutil.copytree(stage, draft, dirs_exist_ok=True)
        sync_tree(draft)
        draft.rename(folder)


def check_stage(folder: Path) -> None:
    """Compare every file of a finished stage with its digest.

    Raises:
        DamagedCheckpoint: One has changed, is missing or is new, or there are no digests; names
            the first.
        EnvironmentFault: One may not be read.
    """
    try:
        kept = set((folder / SUMS).read_text(errors="replace").splitlines())
        now = set(_sums(folder).splitlines())
    except PermissionError as error:
        raise EnvironmentFault(
            f"cannot read {error.filename}: permission denied; give this user the right to read it"
        ) from error
    except OSError as error:
        raise _unsure(f"{error.filename}: {error.strerror}", folder) from error
    if kept != now:
        name = min(line.split("  ", 1)[-1] for line in kept ^ now)
        raise _unsure(f"{folder / name} is not as it was saved", folder)


def _sums(folder: Path) -> str:
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != SUMS
    )
    return "".join(f"{sha256_of(folder / name)}  {name}\n" for name in names)


def _unsure(what: str, folder: Path) -> DamagedCheckpoint:
    return DamagedCheckpoint(
        f"{what}: the run cannot go on from the finished stage {folder}; put the file back, or "
        "delete that folder, and the same command makes it again from its last checkpoint"
    )
