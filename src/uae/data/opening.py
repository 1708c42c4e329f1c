"""Open one image from a stranger: JPEG, PNG or WebP in, upright RGB out, or a typed error.

`open_image` is a plain function of a path whose result and error both pickle, so that it can be
called in a worker process under an address-space limit.
"""

import io
import os
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from uae.data.untrusted import jpeg, png, webp
from uae.data.untrusted.file import (
    FORMATS,
    MAX_ASPECT,
    Container,
    Reason,
    UnreadableImage,
    UntrustedFile,
)

_OTHER_FORMATS = (  # (offset, magic bytes, name)
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"icns", "ICNS"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"8BPS", "PSD"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "EPS"),
    (0, b"<svg", "SVG"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL \r\n\x87\n", "JPEG XL"),
    (4, b"jP  \r\n\x87\n", "JPEG 2000"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftyphe", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftyp", "video"),
)
_UPRIGHT = {  # EXIF orientation to what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_THEIR_SIDE = frozenset({5, 6, 7, 8})
_DECODERS = {"JPEG": JpegImageFile, "PNG": PngImageFile, "WEBP": WebPImageFile}
_DECODER_FAULTS = (OSError, SyntaxError, ValueError, EOFError, struct.error, Warning)


def open_image(path: str | Path) -> Image.Image:
    """Open an image, whatever its mode and EXIF rotation, as upright RGB without metadata.

    The format is told by content, not by name. Transparency is laid on white; of 16-bit channels
    the upper byte is kept; of an animation the first frame; colour profiles are ignored. A JPEG of
    more than `MAX_PIXELS` comes at half its size.

    Raises:
        UnreadableImage: The file is missing, not an image, damaged or beyond the limits.
    """
    path = Path(path)
    with regular_file(path) as stream:
        return read_image(stream, path)


@contextmanager
def regular_file(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file to be read; the body's `OSError`s are the file's faults too.

    Raises:
        UnreadableImage: It is missing, may not be read, or is a pipe, a folder or a device.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
            raise UnreadableImage(path, Reason.UNREADABLE, "not a regular file")
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        detail = error.strerror or type(error).__name__
        raise UnreadableImage(path, Reason.UNREADABLE, detail) from error


def check_image(stream: io.BufferedIOBase, path: Path) -> tuple[int, int]:
    """Look for all that can be wrong with an image but in its encoded picture, which stays so.

    Returns its width and height in pixels, upright.

    Args:
        stream: Open and seekable; read from its start.
        path: Its name in errors.

    Raises:
        UnreadableImage: It is not an image, beyond the limits, or damaged where that shows.
    """
    num_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    container = _walk(UntrustedFile(stream, path, num_bytes))
    width, height = container.size
    return (height, width) if container.orientation in _ON_THEIR_SIDE else (width, height)


def opens(path: Path) -> bool:
    """Tell whether an image is there and opens: one whose writing was stopped does not."""
    if not path.is_file():
        return False
    try:
        open_image(path)
    except UnreadableImage:
        return False
    return True


def read_image(stream: io.BufferedIOBase, path: Path, max_aspect: int = MAX_ASPECT) -> Image.Image:
    """Do as `open_image` with an open seekable stream.

    Args:
        stream: Read from its start.
        path: Its name in errors.
        max_aspect: Longer side over shorter side beyond which a picture is refused.
    """
    num_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    file = UntrustedFile(stream, path, num_bytes, max_aspect)
    container = _walk(file)
    try:
        image = _to_rgb(_decode(container))
    except _DECODER_FAULTS as error:
        if "truncated" in str(error):
            raise file.fault(Reason.TRUNCATED, "its picture data ends too early") from None
        raise file.fault(Reason.DAMAGED, f"its {container.format} data cannot be decoded") from None
    if container.orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[container.orientation])
    image.info = {}
    return image


def _walk(file: UntrustedFile) -> Container:
    if file.num_bytes == 0:
        raise file.fault(Reason.EMPTY_FILE, "0 bytes")
    magic = file.stream.read(16)
    file.stream.seek(0)
    if magic.startswith(b"\xff\xd8\xff"):
        return jpeg.walk(file)
    if magic.startswith(png.SIGNATURE):
        return png.walk(file)
    if magic.startswith(b"RIFF") and magic[8:12] == b"WEBP":
        return webp.walk(file)
    for offset, pattern, name in _OTHER_FORMATS:
        if magic.startswith(pattern, offset):
            raise file.fault(Reason.UNSUPPORTED_FORMAT, f"{name}, expected {FORMATS}")
    raise file.fault(Reason.NOT_AN_IMAGE, f"its first bytes are not those of a {FORMATS} file")


@contextmanager
def _strict_pillow() -> Iterator[None]:
    """Make warnings errors, and truncated files too, should another library have allowed them."""
    allowed = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = allowed


def _decode(container: Container) -> Image.Image:
    with _strict_pillow():
        # not Image.open, which has a limit of its own for what is decoded whole
        image = _DECODERS[container.format](io.BytesIO(container.data))
        if image.size != container.size:
            raise ValueError("the decoder reads another size than was checked")
        if container.reduction > 1:
            width, height = container.size
            image.draft(None, (width // container.reduction, height // container.reduction))
        image.load()
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I;16":  # Pillow's own conversion clips at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        page = Image.new("RGB", image.size, "white")
        page.paste(rgba, mask=rgba.getchannel("A"))
        return page
    return image.convert("RGB")
