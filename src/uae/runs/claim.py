"""A folder claimed for a run of training or of a benchmark: told from others, tried out and locked.

A marker file says what the run is. A folder without one is left alone unless it is empty; a run
that has done nothing yet may become another one.
"""

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from uae.core.durable import answer_within, holds_nothing_but, storage_faults, write_synced
from uae.core.errors import UsageError
from uae.core.lock import LOCK_NAME, RunLock, check_free

Resume = Literal["auto", "must", "never"]
Contents = Literal["nothing", "begun", "run", "other"]
"""A run that is begun has done nothing yet."""

_ANSWER_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderKind:
    """A kind of run folder."""

    noun: str
    """What messages call a run, "benchmark run" say."""
    other: str
    """What they call other settings."""
    marker: str
    """File that marks a folder: JSON with a `format`."""
    format: str
    early: tuple[str, ...]
    """Names or patterns of files that a run may have that has done nothing yet."""
    can_overwrite: bool = False
    """Whether the user may have it deleted."""

    @property
    def ways_out(self) -> str:
        """What to do instead of resuming."""
        overwrite = "choose another folder, or overwrite it"
        return overwrite if self.can_overwrite else "or choose another folder"


def claim(folder: Path, kind: FolderKind, resume: Resume, overwrite: bool = False) -> RunLock:
    """Make a run folder or take it over, and lock it.

    Raises:
        UsageError: It is in use, holds something else, or is against `resume`; nothing was changed.
        EnvironmentFault: It cannot be written, or does not answer.
    """
    with storage_faults("cannot write the run folder", folder), ExitStack() as undo:
        contents = answer_within(_ANSWER_S, folder, partial(_try_out, folder, kind, resume))
        _check(folder, kind, contents, resume, overwrite)
        lock = RunLock(folder)
        undo.callback(lock.release)
        # another run may have come and gone since the first look
        _check(folder, kind, contents_of(folder, kind), resume, overwrite)
        undo.pop_all()
    return lock


def check_claim(
    folder: Path, kind: FolderKind, resume: Resume, overwrite: bool = False
) -> Contents:
    """Refuse what `claim` would refuse, and return what the folder holds; nothing is made."""
    with storage_faults("cannot read the run folder", folder):
        contents = answer_within(_ANSWER_S, folder, partial(contents_of, folder, kind))
        _check(folder, kind, contents, resume, overwrite)
        if contents in ("begun", "run"):
            check_free(folder)
    return contents


def contents_of(folder: Path, kind: FolderKind) -> Contents:
    """Tell an empty or missing folder from a run folder and from anything else."""
    if not folder.exists():
        return "nothing"
    if not folder.is_dir():
        return "other"
    if marker_of(folder, kind) is not None:
        own = (LOCK_NAME, kind.marker, *kind.early)
        return "begun" if holds_nothing_but(folder, own) else "run"
    leftovers = (LOCK_NAME, ".probe-*", f".{kind.marker}.tmp")  # of a beginning that was stopped
    is_foreign = any(not any(map(path.match, leftovers)) for path in folder.iterdir())
    return "other" if is_foreign else "nothing"


def marker_of(folder: Path, kind: FolderKind) -> dict[str, Any] | None:
    """Return what the marker says if it is of this kind."""
    try:
        content = json.loads((folder / kind.marker).read_text(encoding="utf-8"))
        return content if content["format"] == kind.format else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def check_same(folder: Path, kind: FolderKind, differences: Sequence[str]) -> None:
    """Refuse to go on with other settings than a run was begun with: a `UsageError` names them."""
    if differences:
        raise UsageError(
            f"{folder} is a run with {kind.other}:\n  "
            + "\n  ".join(differences)
            + f"\nrepeat it as it was to resume, {kind.ways_out}"
        )


def plain(values: Any) -> Any:
    """Reduce values to what JSON gives back: tuples become lists, keys texts."""
    return json.loads(json.dumps(values, allow_nan=False))


def _try_out(folder: Path, kind: FolderKind, resume: Resume) -> Contents:
    """Look into the folder; if it may be ours, make it and try a synced write."""
    contents = contents_of(folder, kind)
    if contents == "other" or (contents == "nothing" and resume == "must"):
        return contents
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe-{os.getpid()}"
    write_synced(probe, b"uae\n")
    probe.unlink()
    return contents


def _check(
    folder: Path, kind: FolderKind, contents: Contents, resume: Resume, overwrite: bool
) -> None:
    if contents == "other" and not folder.is_dir():
        raise UsageError(f"{folder} is a file: expected a folder")
    if contents == "other":
        raise UsageError(
            f"{folder} is not empty and holds no {kind.noun} (it has no {kind.marker} of ours): "
            "choose an empty or new folder; nothing was changed"
        )
    if contents == "nothing" and resume == "must":
        raise UsageError(
            f"{folder} holds no {kind.noun} to resume: check the path, or leave resume at auto"
        )
    if contents == "run" and resume == "never" and not overwrite:
        raise UsageError(f"{folder} holds a {kind.noun}: resume it, {kind.ways_out}")
