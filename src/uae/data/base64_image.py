"""Images in base64, as they come in requests, tables and replies: one decoder for all of them.

As browsers and mail programs do, it takes blanks and line breaks anywhere, the alphabet of URLs
("-_" for "+/"), percent signs, no padding, and a data: URL around it all.
"""

import base64
import binascii
import io
import re
from pathlib import Path
from urllib.parse import unquote

from PIL import Image

from uae.data.opening import read_image
from uae.data.untrusted.file import MAX_ASPECT, MAX_FILE_BYTES, Reason, UnreadableImage

_MAX_SHOWN = 40
_DATA_URL = re.compile(r"\s*data:([^,]*),", re.IGNORECASE)
_STANDARD = str.maketrans("-_", "+/")
_FOREIGN = re.compile("[^A-Za-z0-9+/]")


class NotBase64(UnreadableImage):
    """A text that is no base64; an image that is damaged before it can be opened."""


def is_data_url(text: str) -> bool:
    """Tell whether a text is a data: URL, of whatever kind."""
    return bool(_DATA_URL.match(text))


def open_base64(text: str, name: str, max_aspect: int = MAX_ASPECT) -> Image.Image:
    """Open an image in base64, bare or in a data: URL, as upright RGB, by its content's format.

    Args:
        text: As it came.
        name: Where it came from, for errors.
        max_aspect: Longer side over shorter side beyond which a picture is refused.

    Raises:
        NotBase64: It is no base64.
        UnreadableImage: It is empty or too large, or no image that we open.
    """
    return read_image(io.BytesIO(_decode(text, Path(name))), Path(name), max_aspect)


def _decode(text: str, path: Path) -> bytes:
    head = _DATA_URL.match(text)
    if head and head[1].rpartition(";")[2].strip().lower() != "base64":
        raise _not_base64(text, path, "expected data:image/png;base64,...")
    digits = text[head.end() :] if head else text
    digits = "".join(unquote(digits).split()).rstrip("=").translate(_STANDARD)
    if not digits:
        raise UnreadableImage(path, Reason.EMPTY_FILE, "an image in base64 is expected")
    if len(digits) * 3 // 4 > MAX_FILE_BYTES:
        size = f"{len(digits) * 3 / 4 / 2**20:,.1f} MiB, at most {MAX_FILE_BYTES // 2**20} MiB"
        raise UnreadableImage(path, Reason.TOO_LARGE_FILE, f"{size} allowed")
    if foreign := _FOREIGN.search(digits):
        raise _not_base64(text, path, f"it holds {foreign[0]!r}")
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4))
    except binascii.Error:
        raise _not_base64(text, path, f"{len(digits)} digits are one too many") from None


def _not_base64(text: str, path: Path, why: str) -> NotBase64:
    shown = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return NotBase64(path, Reason.DAMAGED, f"{shown!r} is no base64: {why}")
