"""Writing that survives a crash: whole files or none, on the disk before anybody is told.

A rename within one folder is atomic; it is durable once the folder itself is synced (POSIX).
"""

import errno
import os
import queue
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from uae.errors import EnvironmentFault

T = TypeVar("T")

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHTS = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def storage_faults(doing: str, path: Path) -> Iterator[None]:
    """Turn an `OSError` of the body into an `EnvironmentFault` that says what would help.

    Args:
        doing: What failed, e.g. "cannot save the checkpoint in".
        path: Where.
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


def _fault(doing: str, path: Path, error: OSError) -> EnvironmentFault:
    if error.errno in _NO_SPACE:
        advice = "free some space (or raise the quota or file-size limit) and resume"
    elif error.errno in _NO_RIGHTS:
        advice = "choose a folder that this user may write to"
    else:
        advice = "check that the disk is mounted and that the path exists"
    return EnvironmentFault(f"{doing} {path}: {error.strerror or error}; {advice}")


def sync_tree(folder: Path) -> None:
    """Make a folder with all its files durable."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            sync_file(path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make renames and new entries of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait for the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in full or not at all, over an older one if there is one."""
    hidden = path.with_name(f".{path.name}.tmp")
    try:
        write_synced(hidden, data)
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
    sync_folder(path.parent)


def append_whole(descriptor: int, data: bytes) -> None:
    """Append to a file opened with `O_APPEND`; where that fails, it is as long as before.

    When this returns the operating system has the data, and a kill loses nothing. A kill inside may
    leave a part of it, which readers must know as cut short.
    """
    size = os.fstat(descriptor).st_size
    try:
        while data:  # a full disk takes a part first, and says why at the next call
            data = data[os.write(descriptor, data) :]
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def remove(path: Path) -> None:
    """Delete a file, a link or a folder with all it holds."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def answer_within(seconds: float, path: Path, work: Callable[[], T]) -> T:
    """Run `work` and give up after `seconds`: a dead network disk blocks for ever.

    Raises:
        EnvironmentFault: No answer in time; the thread that waits is left behind.
    """
    answers: queue.SimpleQueue[T | BaseException] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            answers.put(work())
        except (OSError, ValueError) as error:
            answers.put(error)

    threading.Thread(target=attempt, daemon=True, name="storage-probe").start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise EnvironmentFault(
            f"{path} gave no answer within {seconds:g} s: its disk is hung or far too slow; "
            "choose a folder on another disk"
        ) from None
    if isinstance(answer, BaseException):
        raise answer
    return answer
