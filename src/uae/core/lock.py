"""One writer per file or folder: a lock the kernel releases when its process ends, however it ends.

Disks without locks are used without: see `uae.core.disks`.
"""

import fcntl
import json
import os
import platform
from contextlib import ExitStack
from pathlib import Path

from uae.core.disks import may_lack
from uae.core.durable import storage_faults
from uae.core.errors import UsageError

LOCK_NAME = "lock"


def lock_file(descriptor: int, path: Path) -> None:
    """Lock an open file for this process alone, until it is closed.

    Raises:
        BlockingIOError: Another process holds it; nothing is waited for.
    """
    risk = "nothing tells another process that writes here at the same time; start no second one"
    with may_lack("file locks", path, risk):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class RunLock:
    """An exclusive `flock` on `FOLDER/lock`, whose text says who holds it.

    The file stays when the lock is released: deleting it would let two processes lock two files of
    one name.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock, or raise a `UsageError` that names the process that holds it."""
        path = folder / LOCK_NAME
        with storage_faults("cannot lock", path), ExitStack() as undo:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            undo.callback(os.close, descriptor)
            try:
                lock_file(descriptor, path)
            except BlockingIOError:
                holder = os.read(descriptor, 1000).decode(errors="replace")
                raise UsageError(
                    f"{folder} is in use by another run{_describe(holder)}: stop that one, or "
                    "choose another folder"
                ) from None
            self._path, self._descriptor = path, descriptor
            self._say({"pid": os.getpid(), "host": platform.node()})
            undo.pop_all()

    def release(self) -> None:
        """Let others have the folder."""
        if self._descriptor >= 0:
            self._say(None)
            os.close(self._descriptor)
            self._descriptor = -1

    def _say(self, holder: dict[str, object] | None) -> None:
        """Write down who holds the lock."""
        with may_lack("way to shorten files", self._path, "a message may name an earlier holder"):
            os.ftruncate(self._descriptor, 0)
            if holder:
                os.write(self._descriptor, json.dumps(holder).encode())


def check_free(folder: Path) -> None:
    """Refuse a folder that another process has locked now; nothing is made or held."""
    if (folder / LOCK_NAME).exists():
        RunLock(folder).release()


def _describe(holder: str) -> str:
    try:
        return " (process {pid} on {host})".format(**json.loads(holder))
    except (ValueError, KeyError, TypeError):
        return ""
