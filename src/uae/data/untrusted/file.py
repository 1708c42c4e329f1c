"""Limits of image files, the words of a refusal, and a reader that stays inside the file."""

import os
from dataclasses import dataclass
from enum import StrEnum
from io import BufferedIOBase
from pathlib import Path

from uae.core.errors import UsageError

MAX_PIXELS = 2**26
"""Limit of a picture in memory: those of 50 and 64-megapixel phones fit."""
MAX_JPEG_PIXELS = 210_000_000
"""Limit of a JPEG as stored, which can be decoded smaller: those of 200-megapixel phones fit."""
MAX_FILE_BYTES = 64 * 2**20
MAX_JPEG_BYTES = 128 * 2**20
MAX_ASPECT = 20
FORMATS = "JPEG, PNG or WebP"


class Reason(StrEnum):
    """Reason of an image that is left out."""

    NOT_AN_IMAGE = "not an image"
    UNSUPPORTED_FORMAT = "unsupported format"
    EMPTY_FILE = "empty file"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    TOO_MANY_PIXELS = "too many pixels"
    TOO_LARGE_FILE = "too large a file"
    EXTREME_ASPECT = "extreme aspect"
    UNREADABLE = "unreadable"


class UnreadableImage(UsageError):
    """A file that is no picture we open. It pickles, so a worker process can raise it.

    Args:
        path: The file as the caller named it.
        reason: The class of the fault.
        detail: What was found and what would be right; never a decoder's own message, which may
            hold memory addresses (CVE-2026-22778).
    """

    def __init__(self, path: Path, reason: Reason, detail: str) -> None:
        super().__init__(path, reason, detail)
        self.path = path
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True)
class UntrustedFile:
    """An open binary file, read in steps that never go past its end."""

    stream: BufferedIOBase
    path: Path
    num_bytes: int
    max_aspect: int = MAX_ASPECT

    def fault(self, reason: Reason, detail: str) -> UnreadableImage:
        return UnreadableImage(self.path, reason, detail)

    def read(self, num_bytes: int) -> bytes:
        """Read exactly `num_bytes`, or raise that the file is truncated."""
        # compared first: `read` allocates what it is asked for, and a length may say 2 GiB
        if num_bytes > self.num_bytes - self.stream.tell():
            raise self.fault(Reason.TRUNCATED, f"it ends too early, after {self.num_bytes:,} bytes")
        return self.stream.read(num_bytes)

    def skip(self, num_bytes: int) -> None:
        if self.stream.seek(num_bytes, os.SEEK_CUR) > self.num_bytes:
            raise self.fault(Reason.TRUNCATED, f"it ends too early, after {self.num_bytes:,} bytes")

    def check_bytes(self, limit: int = MAX_FILE_BYTES) -> None:
        """Raise if the file is larger than we read."""
        if self.num_bytes > limit:
            found = f"{self.num_bytes / 2**20:,.1f} MiB"
            detail = f"{found}, at most {limit // 2**20} MiB allowed"
            raise self.fault(Reason.TOO_LARGE_FILE, detail)

    def check_size(self, width: int, height: int, limit: int = MAX_PIXELS) -> None:
        """Raise if the size in pixels that the header promises is out of bounds."""
        if width == 0 or height == 0:
            raise self.fault(Reason.DAMAGED, f"its header says {width} x {height} pixels")
        if width * height > limit:
            found = f"{width} x {height} = {width * height / 1e6:,.1f} megapixels"
            detail = f"{found}, at most {limit // 10**6} allowed"
            raise self.fault(Reason.TOO_MANY_PIXELS, detail)
        if max(width, height) > self.max_aspect * min(width, height):
            detail = f"{width} x {height} pixels, at most {self.max_aspect} to 1 allowed"
            raise self.fault(Reason.EXTREME_ASPECT, detail)


@dataclass(frozen=True, slots=True)
class Container:
    """A picture that passed the checks, still encoded.

    Attributes:
        format: Pillow's name: "JPEG", "PNG" or "WEBP".
        size: (width, height) in pixels as stored.
        orientation: EXIF orientation, 1 (upright) to 8.
        data: A file of that format, with the picture data alone; a WebP is as it came.
        reduction: Side as stored over side as it is to be decoded: 1, 2, 4 or 8.
    """

    format: str
    size: tuple[int, int]
    orientation: int
    data: bytes
    reduction: int = 1
