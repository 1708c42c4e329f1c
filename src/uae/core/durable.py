"""Writing that survives a crash: whole files or none, on the disk before anybody is told.

A rename within one folder is atomic; it is durable once the folder itself is synced (POSIX).
"""

import errno
import os
import re
import shutil
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Set
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from uae.core.disks import NOT_OFFERED, fitting_name, is_unfit_name, may_lack
from uae.core.errors import EnvironmentFault, UnfitName

T = TypeVar("T")

_NO_RIGHTS = {errno.EACCES, errno.EPERM, errno.EROFS}
_WRITE_ADVICE = (
    (
        {errno.ENOSPC, errno.EDQUOT, errno.EFBIG},
        "free some space (or raise the quota or file-size limit) and resume",
    ),
    (_NO_RIGHTS, "choose a folder that this user may write to"),
    (NOT_OFFERED, "this disk cannot do what is needed there; choose a folder on another disk"),
)
_READ_ADVICE = (
    (_NO_RIGHTS, "it is there; give this user the right to read it"),
    (  # with ENODEV it cannot be mapped into memory
        NOT_OFFERED | {errno.ENODEV},
        "its disk cannot do what is needed to read it; copy it to another disk",
    ),
)
_UNSYNCED = "what was written last may be lost if the machine or the disk stops all at once"


@contextmanager
def storage_faults(doing: str, path: Path) -> Iterator[None]:
    """Turn an `OSError` of the body into an `EnvironmentFault` that says what would help.

    `doing` is what failed, e.g. "cannot save the checkpoint in".
    """
    try:
        yield
    except OSError as error:
        raise _fault(doing, path, error) from error
    except SafetensorError as error:  # which has the number of its OSError in words alone
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        number = int(code[1])
        raise _fault(doing, path, OSError(number, os.strerror(number))) from error


@contextmanager
def read_faults() -> Iterator[None]:
    """Turn an `OSError` of reading into an `EnvironmentFault` that names file and cause."""
    try:
        yield
    except OSError as error:
        advice = _advice(error, _READ_ADVICE, "check that its disk is mounted and whole")
        fault = f"cannot read {error.filename}: {error.strerror or error}; {advice}"
        raise EnvironmentFault(fault) from error


def _fault(doing: str, path: Path, error: OSError) -> EnvironmentFault:
    if is_unfit_name(error.errno, path):
        return UnfitName(f"{doing} {path}: {error.strerror}; its disk takes no file of this name")
    advice = _advice(
        error, _WRITE_ADVICE, "check that the disk is mounted and that the path exists"
    )
    return EnvironmentFault(f"{doing} {path}: {error.strerror or error}; {advice}")


def _advice(error: OSError, known: Iterable[tuple[Set[int], str]], otherwise: str) -> str:
    return next((advice for numbers, advice in known if error.errno in numbers), otherwise)


def sync_tree(folder: Path) -> None:
    """Make a folder with all its files durable."""
    for path in (*sorted(folder.rglob("*")), folder):
        (sync_folder if path.is_dir() else sync_file)(path)


def sync_folder(folder: Path) -> None:
    """Make renames and new entries of a folder durable."""
    # some disks do not even open a folder
    with may_lack("way to sync folders", folder, _UNSYNCED, errno.EISDIR, errno.EACCES):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    with path.open("rb") as file:
        sync_open(file.fileno(), path)


def sync_open(descriptor: int, path: Path) -> None:
    """Make what was written to an open file durable."""
    with may_lack("way to sync files", path, _UNSYNCED):
        os.fsync(descriptor)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait for the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        sync_open(file.fileno(), path)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in full or not at all, over an older one if there is one."""
    hidden = path.with_name(fitting_name(f".{path.name}.tmp"))
    try:
        write_synced(hidden, data)
        _move_over(hidden, path)
    finally:
        hidden.unlink(missing_ok=True)
    sync_folder(path.parent)


def _move_over(new: Path, path: Path) -> None:
    try:
        new.replace(path)
    except FileExistsError:  # some disks move no file over another
        aside = path.with_name(fitting_name(f".{path.name}.old"))
        aside.unlink(missing_ok=True)
        path.rename(aside)
        try:
            new.rename(path)
        except OSError:
            aside.rename(path)
            raise
        aside.unlink()


def give_usual_rights(place: Path) -> None:
    """Give a file, or all below a folder, the rights that a new file or folder there has.

    Libraries that write weights make their files readable by this user alone, and a copied folder
    has the rights of the old one. A new folder and a file in it are made to see what is usual: they
    have heard of the umask, of the folder's own defaults and of the disk's. The rights of a file
    with a second name elsewhere are that one's too, and stay.
    """
    probe = (place if place.is_dir() else place.parent) / f".rights-{os.getpid()}"
    probe.mkdir()
    (probe / "file").touch()
    usual = {True: probe.stat().st_mode, False: (probe / "file").stat().st_mode}
    shutil.rmtree(probe)
    for path in place.rglob("*") if place.is_dir() else [place]:
        found, is_folder = path.stat(), path.is_dir()
        if found.st_mode != usual[is_folder] and (is_folder or found.st_nlink == 1):
            risk = "others may be unable to read it"
            with may_lack("rights of single files", path, risk, errno.EPERM, errno.EACCES):
                path.chmod(stat.S_IMODE(usual[is_folder]))


def append_whole(descriptor: int, data: bytes) -> None:
    """Append to a file opened with `O_APPEND`; where that fails, it is as long as before.

    When this returns the operating system has the data, and a kill loses nothing. A kill inside may
    leave a part of it, which readers must know as cut short.
    """
    size = os.fstat(descriptor).st_size
    try:
        while data:  # a full disk takes a part first, and says why at the next call
            data = data[os.write(descriptor, data) :]
    except OSError as error:
        with suppress(OSError):  # what is left then is as after a kill
            os.ftruncate(descriptor, size)
        raise error


def files_below(folder: Path) -> list[Path]:
    """List the files below a folder, sorted; hidden ones are left out.

    Raises:
        EnvironmentFault: A folder may not be read; a listing without its files would lie.
    """

    def refuse(error: OSError) -> None:
        raise error

    paths: list[Path] = []
    with read_faults():
        for root, subfolders, names in os.walk(folder, onerror=refuse):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            paths += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(paths)


def remove(path: Path) -> None:
    """Delete a file, a link or a folder with all it holds."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def holds_nothing_but(folder: Path, names: Collection[str]) -> bool:
    """Tell whether no file below a folder holds anything, but those in itself of these names.

    Patterns will do as names, `*.tmp` say.
    """
    return all(
        (path.parent == folder and any(map(path.match, names))) or path.stat().st_size == 0
        for path in folder.rglob("*")
        if path.is_file()
    )


def answer_within(seconds: float, path: Path, work: Callable[[], T]) -> T:
    """Run `work` and give up after `seconds`: a dead network disk blocks for ever.

    Raises:
        EnvironmentFault: No answer in time; the thread that waits is left behind.
    """
    answer: Future[T] = Future()

    def attempt() -> None:
        try:
            answer.set_result(work())
        except (OSError, ValueError) as error:
            answer.set_exception(error)

    threading.Thread(target=attempt, daemon=True, name="storage-probe").start()
    if not wait([answer], seconds).done:
        raise EnvironmentFault(
            f"{path} gave no answer within {seconds:g} s: its disk is hung or far too slow; "
            "choose a folder on another disk"
        )
    return answer.result()
