"""One run per folder: a lock the kernel releases when its process ends, however it ends."""

import fcntl
import json
import os
import platform
from pathlib import Path

from uae.errors import UsageError

LOCK_NAME = "lock"


class RunLock:
    """An exclusive `flock` on `FOLDER/lock`, whose text says who holds it.

    The file stays when the lock is released: deleting it would let two processes lock two files of
    one name.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock, without waiting.

        Raises:
            UsageError: Another process holds it.
        """
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 1000).decode(errors="replace")
            os.close(descriptor)
            raise UsageError(
                f"{folder} is in use by another run{_describe(holder)}: stop that one, or choose "
                "another folder"
            ) from None
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"pid": os.getpid(), "host": platform.node()}).encode())

    def release(self) -> None:
        """Let others have the folder."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1


def check_free(folder: Path) -> None:
    """Refuse a folder that another process has locked now; nothing is made or held.

    Raises:
        UsageError: Another process holds it.
    """
    if (folder / LOCK_NAME).exists():
        RunLock(folder).release()


def _describe(holder: str) -> str:
    try:
        held_by = json.loads(holder)
        return f" (process {held_by['pid']} on {held_by['host']})"
    except (ValueError, KeyError, TypeError):
        return ""
