"""Digests: files and texts told from others by the sha256 of their content.

Neither sizes nor dates count: a file that was copied is the same, one that was edited is another.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from uae.core.durable import files_below, read_faults
from uae.core.errors import UsageError

Inputs = Mapping[str, Mapping[str, str | None]]
"""Digests by kind, "image" or "caption" say, then by name; None where a file cannot be read."""

_END_BYTES = 2**16


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file that the user gave; a `UsageError` if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def folder_digest(folder: Path) -> str:
    """Return a digest of a folder of large files, which takes no more time than listing it.

    Of each file its name, its size, its first and its last 64 KiB count.

    Raises:
        EnvironmentFault: A file may not be read.
    """
    digest = hashlib.sha256()
    for path in files_below(folder):
        with read_faults(), path.open("rb") as file:
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
            digest.update(file.read(_END_BYTES))
            file.seek(max(0, size - _END_BYTES))
            digest.update(file.read())
    return digest.hexdigest()


def text_digest(text: str) -> str:
    """Return the sha256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def text_digests(texts: Mapping[str, str]) -> dict[str, str | None]:
    """Return the sha256 of each text, by its name."""
    return {name: text_digest(text) for name, text in texts.items()}
