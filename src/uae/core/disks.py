"""Limits of network and cloud disks: operations that they lack, and names that they take.

A disk that does not offer something says so by one of a few errors. Where the work can go on
without it, it does, and one warning says what is less safe; any other error is a fault.
"""

import errno
import hashlib
import logging
import os
import posixpath
import unicodedata
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

NOT_OFFERED = frozenset(
    {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL, errno.ENOTTY}
)
"""Errors of a disk that lacks an operation; the arguments are right, so EINVAL says no more."""
MAX_NAME_BYTES = 255
_UNFIT = frozenset({errno.ENAMETOOLONG, errno.EILSEQ})
_SIGNS = frozenset('<>:"|?*\\')  # what disks of Windows take in no name, and say EINVAL

_said: set[str] = set()


@contextmanager
def may_lack(what: str, path: Path, risk: str, *others: int) -> Iterator[None]:
    """Go on where the body fails because the disk lacks what it does; warn once of each lack.

    Args:
        what: What the body needs, e.g. "file locks".
        path: Where.
        risk: What is less safe without it.
        others: Further error numbers that mean this lack.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_OFFERED | {*others}:
            raise
        if what not in _said:
            _said.add(what)
            log.warning("%s: its disk has no %s (%s): %s", path, what, error.strerror, risk)


def is_unfit_name(number: int | None, path: Path) -> bool:
    """Tell whether an error means that a disk takes no file of this name."""
    return number in _UNFIT or (number == errno.EINVAL and not _SIGNS.isdisjoint(path.name))


def fitting_name(name: str) -> str:
    """Return a file's name, or one with the same end that no disk finds too long.

    A shortened name holds a digest of the whole one, so different names stay different.
    """
    return name if len(os.fsencode(name)) <= MAX_NAME_BYTES else _marked(name, name)


def result_path(wanted: str, taken: Set[str]) -> str:
    """Return the relative path of a result: as wanted, or one that every disk tells from others.

    The folders in it are there already, so their names fit. `taken` holds the paths of other
    results, as `folded` returns them.
    """
    folder, name = posixpath.split(wanted)
    path = posixpath.join(folder, fitting_name(name))
    return posixpath.join(folder, _marked(name, wanted)) if folded(path) in taken else path


def folded(path: str) -> str:
    """Return what is alike for paths that some disks take for one: case and accents' spelling."""
    return unicodedata.normalize("NFC", path).casefold()


def _marked(name: str, of: str) -> str:
    """Return a name of allowed length with a digest of `of` before its end."""
    stem, suffix = os.path.splitext(name)
    end = f"-{hashlib.sha256(os.fsencode(of)).hexdigest()[:32]}"
    if len(os.fsencode(suffix)) <= 10:
        end += suffix
    room = MAX_NAME_BYTES - len(os.fsencode(end))
    return os.fsencode(stem)[:room].decode(errors="ignore") + end
