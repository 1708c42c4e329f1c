"""WebP (RFC 9649): the canvas size, the declared length and the orientation.

libwebp itself checks that frames fit the canvas and that their data is complete.
"""

import struct

from uae.data.untrusted import exif
from uae.data.untrusted.file import Container, Reason, UntrustedFile

_MIN_BYTES = 26  # of the smallest, a lossless picture: three headers of 12, 8 and 5 bytes, and data
_MAX_CHUNKS = 20_000
_MAX_EXIF_BYTES = 2**16
_HAS_EXIF = 0x08


def walk(file: UntrustedFile) -> Container:
    """Check a WebP and return it up to its declared end. Pillow decodes the first frame alone."""
    num_bytes = 8 + struct.unpack("<4xI", file.read(8))[0]
    if num_bytes > file.num_bytes:
        raise file.fault(Reason.TRUNCATED, f"{file.num_bytes:,} of {num_bytes:,} bytes are there")
    if num_bytes < _MIN_BYTES:
        raise file.fault(Reason.DAMAGED, f"its WebP header declares {num_bytes} bytes")
    file.stream.seek(0)
    width, height = _canvas(file, file.stream.read(30).ljust(30, b"\0"))
    file.check_size(width, height)
    file.check_bytes()
    file.stream.seek(0)
    data = file.read(num_bytes)
    return Container("WEBP", (width, height), _orientation(data), data)


def _canvas(file: UntrustedFile, head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(head[i : i + 3], "little") + 1 for i in (24, 27))
        return width, height
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and head[20] == 0x2F:
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise file.fault(Reason.DAMAGED, "its WebP header is malformed")


def _orientation(data: bytes) -> int:
    if data[12:16] != b"VP8X" or not data[20] & _HAS_EXIF:
        return 1
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            break
        name, length = struct.unpack_from("<4sI", data, position)
        if name == b"EXIF" and length <= _MAX_EXIF_BYTES:
            return exif.orientation(data[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    return 1
